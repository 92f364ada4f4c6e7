//! Messages of a data connection: who wants bytes asks the worker that has them.
//! The bytes themselves follow as the frame's data, never inside the message.

use crate::actor::{ActorCall, ActorReply};
use crate::parting::Parting;
use crate::rejoin::Named;
use crate::shards::{ReadShards, ShardsReply};
use crate::transfer::{EndTransfer, Layout, Range, RangeReply};
use crate::{wire_messages, wire_record};
use taskloom_types::TaskId;

wire_messages! {
    /// Between workers, and between clients and workers.
    pub enum PeerMessage {
        1 => Fetch(Fetch),
        /// With data: the segments of all items, one after the other.
        2 => FetchReply(FetchReply),
        /// With data: the segments of the value.
        3 => Put(Put),
        4 => PutReply(PutReply),
        5 => Range(Range),
        6 => RangeReply(RangeReply),
        7 => EndTransfer(EndTransfer),
        /// From workers.
        8 => Parting(Parting),
        /// With data: the segments of the arguments.
        20 => ActorCall(ActorCall),
        /// With data: the segments of the result.
        21 => ActorReply(ActorReply),
        30 => ReadShards(ReadShards),
        /// With data: the pieces that are there.
        31 => ShardsReply(ShardsReply),
    }
}

wire_record! {
    pub struct Fetch {
        pub request: u64,
        pub tasks: Vec<TaskId>,
        /// The asker cannot map shared memory.
        pub in_frame: bool,
        /// The asker can ask for large values in ranges.
        pub ranges: bool,
    }

    /// One reply per [`Fetch`], items in the order asked. A reply may be cut short by a size
    /// limit: what is left out has the status [`FetchItem::LATER`] and is to be asked again.
    pub struct FetchReply {
        pub request: u64,
        pub items: Vec<FetchItem>,
    }

    pub struct FetchItem {
        pub task: TaskId,
        pub status: u8,
        /// Lengths in bytes of the value's segments; see the value format in `docs/design/wire.md`.
        pub segments: Vec<u64>,
        /// Why the value could not be serialized, when the status is [`FetchItem::FAILED`]:
        /// an encoded [`crate::ErrorInfo`].
        pub error: Option<crate::ErrorInfo>,
        /// Where the segments are.
        pub layout: Option<Layout>,
        /// Names the value in ranges, when the status is [`FetchItem::LARGE`].
        pub transfer: u64,
    }

    /// A scattered value.
    pub struct Put {
        pub request: u64,
        pub value: Named,
        pub size_bytes: u64,
        pub segments: Vec<u64>,
        /// Where the segments are.
        pub layout: Option<Layout>,
    }

    pub struct PutReply {
        pub request: u64,
        /// Empty when the value is stored.
        pub error: String,
        /// The worker cannot map shared memory: send the value again, in the frame.
        pub in_frame: bool,
    }
}

impl FetchItem {
    pub const OK: u8 = 0;
    /// This worker does not hold the value.
    pub const MISSING: u8 = 1;
    /// The value is here but cannot be serialized.
    pub const FAILED: u8 = 2;
    /// Ask again: the reply was full.
    pub const LATER: u8 = 3;
    /// The value is held for this reader, who asks for its ranges.
    pub const LARGE: u8 = 4;
}
