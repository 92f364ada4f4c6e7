//! Python objects as bytes: the only place that knows what is inside a task's body or a value.
//!
//! An encoding is a tree of items, each one tag byte and its payload, little-endian
//! (`docs/design/wire.md`). Common exact types are written natively; everything else is one
//! pickle. Large buffers are segments of their own, behind the head, and are never copied.
//!
//! - [`Writer`]: builds a body or a head; calls, containers and dependencies.
//! - [`encode_value`], [`decode_value`]: a result or an argument as segments.
//! - [`encode_call`], [`decode_body`]: a task.
//! - [`encode_arguments`], [`decode_arguments`]: what an actor is called with.
//! - [`encode_error`], [`decode_error`]: an exception.

mod broadcast;
mod buffers;
mod decode;
mod encode;
mod errors;
mod pickle;
mod scan;

pub use decode::{Work, decode_arguments, decode_arrived, decode_body, decode_small, decode_value};
pub use encode::{
    Dependencies, NoDependencies, Writer, encode_arguments, encode_call, encode_inline,
    encode_value,
};
pub use errors::{decode_error, encode_error};
pub use pickle::{dumps as pickle_dumps, loads as pickle_loads};

/// The tag bytes. A new kind of item gets a new tag; none is ever reused.
mod tag {
    pub const NONE: u8 = b'N';
    pub const TRUE: u8 = b'T';
    pub const FALSE: u8 = b'F';
    /// i64.
    pub const INT: u8 = b'i';
    /// u32 length, decimal text.
    pub const BIG_INT: u8 = b'I';
    /// f64.
    pub const FLOAT: u8 = b'f';
    /// u32 length, UTF-8.
    pub const TEXT: u8 = b's';
    /// u32 length, bytes.
    pub const BYTES: u8 = b'b';
    /// A bytes object that is the next segment.
    pub const BYTES_SEGMENT: u8 = b'B';
    /// u32 count, items.
    pub const TUPLE: u8 = b'(';
    pub const LIST: u8 = b'[';
    pub const SET: u8 = b'<';
    pub const FROZEN_SET: u8 = b'>';
    /// u32 count, key and value items.
    pub const DICT: u8 = b'{';
    /// u32: the value of the n-th dependency.
    pub const DEPENDENCY: u8 = b'D';
    /// u32 function position, arguments: a call. Evaluated when it is read, except as the root
    /// of a body.
    pub const CALL: u8 = b'C';
    /// An item that gives a callable, arguments.
    pub const APPLY: u8 = b'A';
    /// u32: the n-th function itself.
    pub const FUNCTION: u8 = b'V';
    /// u32 length, u32 count of buffers, per buffer one byte (1 = writable), the pickle.
    /// The buffers are the next segments.
    pub const PICKLE: u8 = b'P';
    /// u32 count, items: steps, evaluated in turn; then the item that is the result. Later items
    /// refer to them.
    pub const STEPS: u8 = b'L';
    /// u32: the value of the n-th step, counted over the whole body.
    pub const STEP: u8 = b'l';
    /// As `STEP`, for the last time: the step's value is then held by this use alone.
    pub const LAST_STEP: u8 = b'm';
}

/// How deep items may nest, for writers and readers.
const MAX_DEPTH: usize = 64;

/// Byte strings and buffers at least this long become segments of their own.
const SEGMENT_FROM: usize = 8 * 1024;
