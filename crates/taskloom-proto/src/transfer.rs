//! How a value's segments travel: in a frame's data, or in shared memory files whose descriptors
//! come with the frame.

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
}

impl Layout {
    /// The segment is in the frame's data; its offset counts from where the value's part begins.
    pub const IN_FRAME: u32 = u32::MAX;
}
