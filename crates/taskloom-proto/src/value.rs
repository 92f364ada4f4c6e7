//! A small tree of plain data for answers that people read: `scheduler_info`, `who_has`, …

use crate::wire::{DecodeError, Reader, Wire};
use bytes::Bytes;
use taskloom_types::Key;

/// Plain data of any shape. Becomes a Python object in the client.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Bytes),
    Key(Key),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Deeper trees are refused: reading recurses.
    pub const MAX_DEPTH: usize = 64;

    /// A map with text keys.
    #[must_use]
    pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Map(entries.into_iter().map(|(k, v)| (Self::Text(k.to_string()), v)).collect())
    }

    /// The entry of a text key, where `self` is a map that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(k, _)| matches!(k, Self::Text(t) if t == name)).map(|(_, v)| v)
    }

    fn read_at(reader: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        if depth > Self::MAX_DEPTH {
            return Err(DecodeError::TooDeep { what: "value", limit: Self::MAX_DEPTH });
        }
        Ok(match u8::read(reader)? {
            0 => Self::Null,
            1 => Self::Bool(Wire::read(reader)?),
            2 => Self::Int(Wire::read(reader)?),
            3 => Self::Float(Wire::read(reader)?),
            4 => Self::Text(Wire::read(reader)?),
            5 => Self::Bytes(Wire::read(reader)?),
            6 => Self::Key(Wire::read(reader)?),
            7 => {
                let length = u32::read(reader)?;
                let items = (0..length).map(|_| Self::read_at(reader, depth + 1));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            8 => {
                let length = u32::read(reader)?;
                let entry = |_| {
                    let key = Self::read_at(reader, depth + 1)?;
                    Ok((key, Self::read_at(reader, depth + 1)?))
                };
                Self::Map((0..length).map(entry).collect::<Result<_, _>>()?)
            }
            tag => return Err(DecodeError::UnknownTag { what: "value", tag }),
        })
    }
}

impl Wire for Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Bool(v) => {
                out.push(1);
                v.write(out);
            }
            Self::Int(v) => {
                out.push(2);
                v.write(out);
            }
            Self::Float(v) => {
                out.push(3);
                v.write(out);
            }
            Self::Text(v) => {
                out.push(4);
                v.write(out);
            }
            Self::Bytes(v) => {
                out.push(5);
                v.write(out);
            }
            Self::Key(v) => {
                out.push(6);
                v.write(out);
            }
            Self::List(items) => {
                out.push(7);
                items.write(out);
            }
            Self::Map(entries) => {
                out.push(8);
                entries.write(out);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::read_at(reader, 0)
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident($convert:expr)),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant($convert(value))
            }
        }
    )*};
}
value_from! {
    bool => Bool(|v| v),
    i64 => Int(|v| v),
    i32 => Int(i64::from),
    u32 => Int(i64::from),
    u64 => Int(|v| i64::try_from(v).unwrap_or(i64::MAX)),
    usize => Int(|v| i64::try_from(v).unwrap_or(i64::MAX)),
    f64 => Float(|v| v),
    &str => Text(|v: &str| v.to_string()),
    String => Text(|v| v),
    Key => Key(|v| v),
    Vec<Value> => List(|v| v),
}
