//! Messages about actors: calls between processes, and what the scheduler tells of their lives.
//! See `docs/design/actors.md`.

use crate::shared::ErrorInfo;
use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use bytes::Bytes;
use taskloom_types::{Attempt, Key, TaskId};

/// One life of an actor: it ends with its worker's, and a restarted actor has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ActorLife {
    pub task: TaskId,
    pub attempt: Attempt,
}

impl Wire for ActorLife {
    fn write(&self, out: &mut Vec<u8>) {
        self.task.write(out);
        self.attempt.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { task: Wire::read(reader)?, attempt: Wire::read(reader)? })
    }
}

wire_record! {
    /// From whoever has a proxy to the worker where the actor lives. With data: the segments of
    /// the encoded arguments.
    pub struct ActorCall {
        pub request: u64,
        pub actor: ActorLife,
        /// [`ActorCall::METHOD`] or [`ActorCall::ATTRIBUTE`].
        pub kind: u8,
        /// Of the method or attribute.
        pub name: String,
        /// Tasks whose results are among the arguments, which name them by position. The caller
        /// holds them until the answer.
        pub deps: Vec<Key>,
        /// Lengths in bytes of the arguments' segments.
        pub segments: Vec<u64>,
    }

    /// One answer per [`ActorCall`]. With data: the segments of the encoded result.
    pub struct ActorReply {
        pub request: u64,
        /// Of [`ActorReply::OK`] and its like.
        pub status: u8,
        /// Lengths in bytes of the result's segments.
        pub segments: Vec<u64>,
        /// What the method raised, when the status is [`ActorReply::RAISED`].
        pub error: Option<ErrorInfo>,
    }

    /// A client asks where an actor lives, and to be told when that changes.
    pub struct WatchActor {
        /// The client's number of the watch; an earlier one of this number is replaced.
        pub number: u64,
        pub key: Key,
        /// The client could not reach this life: the answer comes once it is known to have
        /// ended, or when it has not been seen to end for a while.
        pub doubted: Option<ActorLife>,
    }

    pub struct UnwatchActor {
        pub number: u64,
    }

    /// What became of a watched actor.
    pub struct ActorNews {
        /// The client's number of the watch.
        pub number: u64,
        /// Of [`ActorNews::ALIVE`] and its like.
        pub state: u8,
        /// When it is alive.
        pub actor: ActorLife,
        /// Of the worker where it lives.
        pub address: String,
        /// Why there is no such actor (any more), when it is gone. No further news follow.
        pub error: Option<Box<ErrorInfo>>,
    }

    /// A worker keeps an actor's state safe from its own end.
    pub struct ActorSnapshot {
        pub actor: ActorLife,
        /// Counts the snapshots of this life.
        pub number: u64,
        /// The body of a task that makes the actor again.
        pub state: Bytes,
    }

    /// The scheduler has the snapshot: calls that it covers may be answered.
    pub struct SnapshotKept {
        pub actor: ActorLife,
        pub number: u64,
    }
}

impl ActorCall {
    /// Calls the method; such calls run in the order in which they arrive.
    pub const METHOD: u8 = 0;
    /// Reads the attribute; waits for no method.
    pub const ATTRIBUTE: u8 = 1;
}

impl ActorReply {
    pub const OK: u8 = 0;
    pub const RAISED: u8 = 1;
    /// That life is over here, or never was: the call has not begun.
    pub const GONE: u8 = 2;
}

impl ActorNews {
    pub const ALIVE: u8 = 0;
    /// It is being made, for the first time or again.
    pub const PENDING: u8 = 1;
    pub const GONE: u8 = 2;
    /// Its worker leaves in order: calls that were sent are answered there, be it that they did
    /// not begin; others wait until it is alive elsewhere.
    pub const MOVING: u8 = 3;
}

/// The most that a snapshot may take, in bytes: the scheduler keeps one for each actor that can
/// be restarted.
pub const MAX_SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;
