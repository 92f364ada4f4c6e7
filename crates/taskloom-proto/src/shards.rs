//! Pieces of a shuffle's files, read from another host. See `docs/design/shuffle.md`.

use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardPiece {
    /// The file's identity, which is its name, too.
    pub file: u128,
    /// In bytes.
    pub offset: u64,
    pub length: u64,
}

impl Wire for ShardPiece {
    fn write(&self, out: &mut Vec<u8>) {
        self.file.write(out);
        self.offset.write(out);
        self.length.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: Wire::read(reader)?,
            offset: Wire::read(reader)?,
            length: Wire::read(reader)?,
        })
    }
}

wire_record! {
    pub struct ReadShards {
        pub request: u64,
        pub pieces: Vec<ShardPiece>,
    }

    /// One answer per [`ReadShards`]. With data: the pieces that are there, in the order asked.
    pub struct ShardsReply {
        pub request: u64,
        /// In bytes, or [`ShardsReply::MISSING`].
        pub lengths: Vec<u64>,
    }
}

impl ShardsReply {
    /// The file is not here, or it is shorter.
    pub const MISSING: u64 = u64::MAX;
}
