//! How a value's segments travel: in a frame's data, in shared memory files whose descriptors
//! come with the frame, or, when they are large, in ranges that the reader asks for.

use crate::wire_record;

wire_record! {
    /// Without one, all segments of a value are in the frame's data, one after the other.
    pub struct Layout {
        /// Bytes to map of each file. Their descriptors come with the frame, in this order, behind
        /// those of the values before.
        pub files: Vec<u64>,
        /// Per segment the position in `files`, or [`Layout::IN_FRAME`], and the offset there.
        pub places: Vec<(u32, u64)>,
        /// How many bytes of the frame's data belong to this value.
        pub data_bytes: u64,
    }

    /// Asks for a part of a value that is held for this reader (`FetchItem::LARGE`). May be asked
    /// over any connection to that worker, several at once.
    pub struct Range {
        pub request: u64,
        pub transfer: u64,
        pub segment: u32,
        pub offset: u64,
        pub length: u64,
        /// Bits such as [`Range::LZ4`].
        pub wishes: u8,
    }

    /// With data: the part's bytes, unless only its digest was asked for.
    pub struct RangeReply {
        pub request: u64,
        /// [`RangeReply::OK`] or [`RangeReply::GONE`].
        pub status: u8,
        /// How the data are compressed: 0 not at all, 1 lz4 block, 2 zstd frame.
        pub codec: u8,
        /// Of the part's plain bytes, where it was asked for: xxh3, 128 bits.
        pub digest: (u64, u64),
    }

    /// The reader has what it wants.
    pub struct EndTransfer {
        pub transfer: u64,
    }
}

impl Range {
    /// The data may be compressed by lz4 or zstd.
    pub const LZ4: u8 = 1;
    pub const ZSTD: u8 = 2;
    /// With the digest of the bytes.
    pub const DIGEST: u8 = 4;
    /// With the digest and without the bytes: the reader has the same part from another worker.
    pub const DIGEST_ONLY: u8 = 8;
}

impl RangeReply {
    pub const OK: u8 = 0;
    /// The worker does not hold that value for this reader any more, or it has no such part.
    pub const GONE: u8 = 1;
}

impl Layout {
    /// The segment is in the frame's data; its offset counts from where the value's part begins.
    pub const IN_FRAME: u32 = u32::MAX;
}
