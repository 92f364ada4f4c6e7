//! What a client may ask of the objects that programs share: locks, events, queues, variables,
//! published datasets, metadata. Travels inside [`crate::client::Request`].
//!
//! A request that waits, or that was given something, is named by its number until the client
//! settles it: see [`Settle`].

use crate::value::Value;
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use bytes::Bytes;
use taskloom_types::Key;

wire_record! {
    /// A value that the scheduler keeps and never opens, and the keys of the futures inside it.
    pub struct SharedValue {
        pub payload: Bytes,
        /// The payload names some of them by position.
        pub keys: Vec<Key>,
    }

    /// A lease of a semaphore; a lock is a semaphore with one.
    pub struct Acquire {
        pub name: Key,
        pub max_leases: u32,
        /// Whether a semaphore that is not there is made. A caller who made it before would
        /// otherwise open anew what somebody closed.
        pub registers: bool,
        /// Whether it is kept for this client when it is idle; a lock is not.
        pub is_lasting: bool,
        /// `None`: wait for ever. 0: do not wait.
        pub timeout_ns: Option<u64>,
    }

    /// Any `count` of these locks, all at once.
    pub struct AcquireMany {
        pub names: Vec<Key>,
        pub count: u32,
        /// As in [`Acquire`].
        pub timeout_ns: Option<u64>,
    }

    pub struct RegisterSemaphore {
        pub name: Key,
        pub max_leases: u32,
    }

    /// Wait for an event, or for the value of a variable.
    pub struct WaitFor {
        pub name: Key,
        /// As in [`Acquire`].
        pub timeout_ns: Option<u64>,
    }

    pub struct SetEvent {
        pub name: Key,
        pub is_set: bool,
    }

    pub struct OpenQueue {
        pub name: Key,
        /// 0 means without bound. Counts for a queue that is not there yet.
        pub max_size: u64,
    }

    pub struct PutItem {
        pub name: Key,
        pub value: SharedValue,
        /// As in [`Acquire`].
        pub timeout_ns: Option<u64>,
    }

    pub struct GetItems {
        pub name: Key,
        /// How many; 0 means all that are there, without waiting.
        pub count: u32,
        /// As in [`Acquire`].
        pub timeout_ns: Option<u64>,
    }

    pub struct SetVariable {
        pub name: Key,
        pub value: SharedValue,
    }

    pub struct Publish {
        pub entries: Vec<(Key, SharedValue)>,
        /// Whether datasets of these names are replaced.
        pub replaces: bool,
    }

    pub struct SetMetadata {
        /// The keys of nested maps, outermost first.
        pub path: Vec<Value>,
        pub value: Value,
    }

    /// The client lets go of what a request asked for. A request that waits is forgotten; a lease
    /// is free; a queue is used by one object less. Items that came from a queue go back to its
    /// front, unless they were taken: until then the scheduler keeps them, and the futures in
    /// them, for a client that dies or gives up.
    pub struct Settle {
        pub request: u64,
        /// Whether the client has the values that it was given.
        pub is_taken: bool,
    }
}

/// Declares the choice of what to do, and its encoding: a tag, which is never reused, and one
/// payload.
macro_rules! coordinations {
    ($( $(#[$doc:meta])* $tag:literal => $name:ident($payload:ty), )*) => {
        /// What to do. The answer's shape is named in brackets; `{lease}` is the request's number.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Coordination { $( $(#[$doc])* $name($payload), )* }

        impl Wire for Coordination {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$name(payload) => {
                        out.push($tag);
                        payload.write(out);
                    } )*
                }
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match u8::read(reader)? {
                    $( $tag => Ok(Self::$name(Wire::read(reader)?)), )*
                    tag => Err(DecodeError::UnknownTag { what: "coordination", tag }),
                }
            }
        }
    };
}

coordinations! {
    /// `true` with the lease, `false` when time is over.
    1 => Acquire(Acquire),
    /// As [`Coordination::Acquire`], of several locks.
    2 => AcquireMany(AcquireMany),
    /// `true`, or `false` if there is no such lease (any more).
    3 => Release(u64),
    /// How many leases are given out.
    4 => CountLeases(Key),
    /// Null
    5 => RegisterSemaphore(RegisterSemaphore),
    /// `[leases, waiting]` that there were.
    6 => CloseSemaphore(Key),
    /// `true`, or `false` when time is over.
    7 => WaitForEvent(WaitFor),
    /// Null
    8 => SetEvent(SetEvent),
    /// `true` or `false`
    9 => IsEventSet(Key),
    /// One more object uses the queue. Null
    10 => OpenQueue(OpenQueue),
    /// The object that opened it by this request uses it no more; the last one takes the queue
    /// and its items with it. Null
    11 => CloseQueue(u64),
    /// Null
    12 => PutItem(PutItem),
    /// `[[payload, [key], [whether the task is known]]]`
    13 => GetItems(GetItems),
    /// The number of items.
    14 => QueueSize(Key),
    /// Null
    15 => SetVariable(SetVariable),
    /// As [`Coordination::GetItems`], with one entry.
    16 => GetVariable(WaitFor),
    /// Null
    17 => DeleteVariable(Key),
    /// Null
    18 => Publish(Publish),
    /// As [`Coordination::GetItems`]; null in place of a dataset that is not there.
    19 => GetDatasets(Vec<Key>),
    /// Null
    20 => Unpublish(Vec<Key>),
    /// `[key]`
    21 => ListDatasets(u8),
    /// Null
    22 => SetMetadata(SetMetadata),
    /// The value at a path.
    23 => GetMetadata(Vec<Value>),
}

impl Default for Coordination {
    fn default() -> Self {
        Self::ListDatasets(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_comes_back_from_the_wire() {
        let put = Coordination::PutItem(PutItem {
            name: Key::from_text("q"),
            value: SharedValue {
                payload: Bytes::from_static(b"1"),
                keys: vec![Key::from_text("x")],
            },
            timeout_ns: Some(5),
        });
        let mut out = Vec::new();
        put.write(&mut out);
        assert_eq!(Coordination::read(&mut Reader::new(&Bytes::from(out))), Ok(put));
    }

    #[test]
    fn an_unknown_tag_is_an_error() {
        let read = Coordination::read(&mut Reader::new(&Bytes::from_static(&[0])));
        assert!(matches!(read, Err(DecodeError::UnknownTag { what: "coordination", tag: 0 })));
    }
}
