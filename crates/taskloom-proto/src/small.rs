//! Encoded results that travel and rest with what the scheduler knows of their tasks.

use crate::wire::{DecodeError, Reader, Wire};
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// As many bytes as fit beside the tag and the length: a number or a short text, encoded.
const IN_PLACE: usize = 22;

/// Bytes that are mostly very few: those need no memory of their own. More are shared by clones.
#[derive(Clone)]
pub struct SmallBytes(Repr);

#[derive(Clone)]
enum Repr {
    Short { length: u8, bytes: [u8; IN_PLACE] },
    Long(Arc<Bytes>),
}

impl SmallBytes {
    #[must_use]
    pub fn copy_of(slice: &[u8]) -> Self {
        Self::short(slice).unwrap_or_else(|| Self::from(Bytes::copy_from_slice(slice)))
    }

    /// The same bytes as a buffer; copied only when they are few.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Short { .. } => Bytes::copy_from_slice(self),
            Repr::Long(bytes) => Bytes::clone(bytes),
        }
    }

    fn short(slice: &[u8]) -> Option<Self> {
        let length = u8::try_from(slice.len()).ok()?;
        let mut bytes = [0; IN_PLACE];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        Some(Self(Repr::Short { length, bytes }))
    }
}

impl Deref for SmallBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { length, bytes } => &bytes[..usize::from(*length)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl From<Bytes> for SmallBytes {
    fn from(bytes: Bytes) -> Self {
        Self::short(&bytes).unwrap_or_else(|| Self(Repr::Long(Arc::new(bytes))))
    }
}

impl PartialEq for SmallBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SmallBytes {}

impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Wire for SmallBytes {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        out.extend_from_slice(self);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = u32::read(reader)? as usize;
        if length <= IN_PLACE {
            return Ok(Self::copy_of(reader.take(length, "small bytes")?));
        }
        Ok(reader.take_bytes(length, "small bytes")?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_come_back_from_the_wire() {
        for length in [0, 1, IN_PLACE - 1, IN_PLACE, IN_PLACE + 1, 255, 256, 300, 100_000] {
            let bytes = Bytes::from((0..length).map(|i| i as u8).collect::<Vec<u8>>());
            let small = SmallBytes::from(bytes.clone());
            assert_eq!((small.to_bytes(), &*small), (bytes.clone(), &*bytes));
            let mut out = Vec::new();
            small.write(&mut out);
            let out = Bytes::from(out);
            assert_eq!(SmallBytes::read(&mut Reader::new(&out)).unwrap(), small);
        }
    }

    #[test]
    fn few_bytes_need_no_memory_of_their_own() {
        assert_eq!(size_of::<Option<SmallBytes>>(), 24);
        assert!(matches!(
            SmallBytes::from(Bytes::from_static(&[7; IN_PLACE])).0,
            Repr::Short { .. }
        ));
    }
}
