//! The codec. Little-endian, no padding; every record carries its length, so that a reader of an
//! older version skips fields it does not know and one of a newer version fills in defaults.

use bytes::Bytes;
use smallvec::{Array, SmallVec};
use std::sync::Arc;
use taskloom_types::{
    Amount, ClientId, FunctionId, FunctionNo, Generation, Handle, Key, Nanos, Priority, Resources,
    TaskId, WorkerNo,
};

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("message ends {missing} bytes too early while reading {field}")]
    TooShort { field: &'static str, missing: usize },
    #[error("unknown {what} number {tag}")]
    UnknownTag { what: &'static str, tag: u8 },
    #[error("text in {field} is not UTF-8")]
    NotUtf8 { field: &'static str },
    #[error("{what} is nested deeper than {limit} levels")]
    TooDeep { what: &'static str, limit: usize },
}

/// Reads a message's bytes front to back.
pub struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    end: usize,
}

/// Byte strings at least this long share the frame's memory; shorter ones are copied, so that a
/// small value that is kept does not keep a whole frame alive.
const SHARE_FROM: usize = 16 * 1024;

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0, end: source.len() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }

    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        if count > self.remaining() {
            return Err(DecodeError::TooShort { field, missing: count - self.remaining() });
        }
        let start = self.at;
        self.at += count;
        Ok(&self.source[start..start + count])
    }

    /// The next `count` bytes as an owned buffer.
    pub fn take_bytes(&mut self, count: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        let start = self.at;
        let slice = self.take(count, field)?;
        if count >= SHARE_FROM {
            return Ok(self.source.slice(start..start + count));
        }
        Ok(Bytes::copy_from_slice(slice))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let slice = self.take(N, field)?;
        let mut array = [0; N];
        array.copy_from_slice(slice);
        Ok(array)
    }

    /// Reads a record: runs `fields` on a reader that ends where the record ends.
    pub fn record<T>(
        &mut self,
        fields: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let length = u32::read(self)? as usize;
        if length > self.remaining() {
            let missing = length - self.remaining();
            return Err(DecodeError::TooShort { field: "record", missing });
        }
        let end = self.at + length;
        let mut inner = Reader { source: self.source, at: self.at, end };
        let record = fields(&mut inner)?;
        self.at = end;
        Ok(record)
    }

    /// Reads a field of a record, or its default where an older writer stopped before it.
    pub fn field<T: Wire + Default>(&mut self) -> Result<T, DecodeError> {
        if self.is_empty() { Ok(T::default()) } else { T::read(self) }
    }
}

/// Writes a record's fields behind their length.
pub fn write_record(out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fields(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// A type with one encoding.
pub trait Wire: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! wire_number {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(reader.array(stringify!($number))?))
            }
        }
    )*};
}
wire_number!(u8, u16, u32, u64, u128, i32, i64, f64);

macro_rules! wire_newtype {
    ($($name:ident),*) => {$(
        impl Wire for $name {
            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(Wire::read(reader)?))
            }
        }
    )*};
}
wire_newtype!(
    Amount, ClientId, FunctionId, FunctionNo, Generation, Handle, Nanos, Priority, WorkerNo
);

impl Wire for TaskId {
    fn write(&self, out: &mut Vec<u8>) {
        self.to_u64().write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_u64(u64::read(reader)?))
    }
}

impl Wire for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(u8::read(reader)? != 0)
    }
}

fn write_slice(slice: &[u8], out: &mut Vec<u8>) {
    (slice.len() as u32).write(out);
    out.extend_from_slice(slice);
}

fn read_slice<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    let length = u32::read(reader)? as usize;
    reader.take(length, field)
}

impl Wire for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        write_slice(self, out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::read(reader)? as usize;
        reader.take_bytes(length, "bytes")
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array("array")
    }
}

impl Wire for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_slice(self.as_bytes(), out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let slice = read_slice(reader, "text")?;
        let text =
            std::str::from_utf8(slice).map_err(|_| DecodeError::NotUtf8 { field: "text" })?;
        Ok(text.to_string())
    }
}

impl Wire for Arc<str> {
    fn write(&self, out: &mut Vec<u8>) {
        write_slice(self.as_bytes(), out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(String::read(reader)?.into())
    }
}

impl Wire for Key {
    fn write(&self, out: &mut Vec<u8>) {
        write_slice(self.as_bytes(), out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Key::from_encoded(read_slice(reader, "key")?))
    }
}

impl Wire for Resources {
    fn write(&self, out: &mut Vec<u8>) {
        let entries: Vec<(String, Amount)> =
            self.iter().map(|(name, amount)| (name.to_string(), amount)).collect();
        entries.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(Wire::read(reader)?))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::read(reader)? { Some(T::read(reader)?) } else { None })
    }
}

/// A length from the wire as a capacity: never more than the bytes that are there.
fn capacity(reader: &Reader<'_>, length: usize) -> usize {
    length.min(reader.remaining())
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        self.iter().for_each(|item| item.write(out));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::read(reader)? as usize;
        let mut items = Vec::with_capacity(capacity(reader, length));
        for _ in 0..length {
            items.push(T::read(reader)?);
        }
        Ok(items)
    }
}

impl<A: Array> Wire for SmallVec<A>
where
    A::Item: Wire,
{
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        self.iter().for_each(|item| item.write(out));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::read(reader)? as usize;
        let mut items = Self::with_capacity(capacity(reader, length));
        for _ in 0..length {
            items.push(A::Item::read(reader)?);
        }
        Ok(items)
    }
}

macro_rules! wire_tuple {
    ($($name:ident),*) => {
        impl<$($name: Wire),*> Wire for ($($name,)*) {
            #[allow(non_snake_case)]
            fn write(&self, out: &mut Vec<u8>) {
                let ($($name,)*) = self;
                $($name.write(out);)*
            }
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(($($name::read(reader)?,)*))
            }
        }
    };
}
wire_tuple!(A, B);
wire_tuple!(A, B, C);
wire_tuple!(A, B, C, D);

/// Declares a struct and its encoding: fields in order, behind the record's length.
/// New fields go last and need a `Default`.
#[macro_export]
macro_rules! wire_record {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident { $( $(#[$field_doc:meta])* pub $field:ident : $kind:ty, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $kind, )* }

        impl $crate::wire::Wire for $name {
            #[allow(unused_variables)]
            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_record(out, |out| { $( self.$field.write(out); )* });
            }
            #[allow(unused_variables)]
            fn read(
                reader: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::DecodeError> {
                reader.record(|reader| Ok(Self { $( $field: reader.field()?, )* }))
            }
        }
    )*};
}

/// Declares the messages of one direction of a connection. The number is the frame's kind on the
/// wire: it is never reused.
#[macro_export]
macro_rules! wire_messages {
    ($(#[$doc:meta])* pub enum $name:ident {
        $( $(#[$variant_doc:meta])* $tag:literal => $variant:ident($payload:ty), )*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name { $( $(#[$variant_doc])* $variant($payload), )* }

        impl $name {
            /// The frame kind of this message.
            #[must_use]
            pub fn kind(&self) -> u8 {
                match self { $( Self::$variant(_) => $tag, )* }
            }

            /// Appends the message's body (a frame's head).
            pub fn write_body(&self, out: &mut Vec<u8>) {
                match self { $( Self::$variant(payload) => $crate::wire::Wire::write(payload, out), )* }
            }

            /// Reads the body of a frame of this kind.
            pub fn read_body(
                kind: u8,
                body: &bytes::Bytes,
            ) -> Result<Self, $crate::wire::DecodeError> {
                let reader = &mut $crate::wire::Reader::new(body);
                match kind {
                    $( $tag => Ok(Self::$variant($crate::wire::Wire::read(reader)?)), )*
                    tag => Err($crate::wire::DecodeError::UnknownTag {
                        what: stringify!($name), tag,
                    }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    wire_record! {
        pub struct Old { pub a: u32, }
        pub struct New { pub a: u32, pub b: Option<String>, }
    }

    fn round<T: Wire>(value: &impl Wire) -> Result<T, DecodeError> {
        let mut out = Vec::new();
        value.write(&mut out);
        T::read(&mut Reader::new(&Bytes::from(out)))
    }

    #[test]
    fn an_old_reader_skips_new_fields_and_a_new_one_fills_in_defaults() {
        let new = New { a: 7, b: Some("x".into()) };
        assert_eq!(round::<Old>(&new), Ok(Old { a: 7 }));
        assert_eq!(round::<New>(&Old { a: 7 }), Ok(New { a: 7, b: None }));
        assert_eq!(round::<New>(&new), Ok(new));
    }

    #[test]
    fn a_length_beyond_the_message_is_an_error_and_allocates_nothing() {
        let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]);
        let read = Vec::<u64>::read(&mut Reader::new(&bytes));
        assert!(matches!(read, Err(DecodeError::TooShort { .. })));
    }

    #[test]
    fn long_byte_strings_share_the_frame_and_short_ones_do_not() {
        let long = Bytes::from(vec![1u8; SHARE_FROM]);
        let mut out = Vec::new();
        long.write(&mut out);
        let frame = Bytes::from(out);
        let read = Bytes::read(&mut Reader::new(&frame)).unwrap();
        assert_eq!(read, long);
        assert!(frame.as_ptr_range().contains(&read.as_ptr()));
    }
}
