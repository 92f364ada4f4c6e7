//! Copies in shared memory of results that are kept as objects: the next reader on this host needs
//! no copy. How much of that there may be is bounded, oldest first.

use super::WorkerShell;
use super::state::State;
use super::values::{LocalObject, Value};
use crate::data::{Shared, SharedMemory, is_shared};
use bytes::Bytes;
use std::collections::VecDeque;
use taskloom_types::TaskId;

/// Bytes of copies where the worker has no memory limit, and the share of the limit otherwise.
const DEFAULT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const LIMIT_SHARE: u64 = 8;

/// The share of the limit that is kept for the next values where memory is short: who makes large
/// arrays one after the other would get fresh pages for each.
pub(super) const IDLE_SHARE: u64 = 32;

/// Who may write to the memory of an encoded result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownTo {
    /// The result's object, and whoever else has it or a part of it.
    Anyone,
    /// Nobody so far: who hands out the object says so first (`shared::keep_as_is`).
    Worker,
    /// Nobody ever: it is a copy beside the object.
    Nobody,
}

/// Which results have a copy.
#[derive(Debug)]
pub(super) struct Exports {
    /// In the order in which they were made. Some may have gone with their results.
    order: VecDeque<(TaskId, u64)>,
    bytes: u64,
    max_bytes: u64,
}

impl Exports {
    /// `memory_limit` is the worker's; 0 means none.
    pub(super) fn new(memory_limit: u64) -> Self {
        let max_bytes = if memory_limit > 0 { memory_limit / LIMIT_SHARE } else { DEFAULT_BYTES };
        Self { order: VecDeque::new(), bytes: 0, max_bytes }
    }
}

impl<O: LocalObject> State<O> {
    /// Keeps the copy beside its object; older ones go when there are too many.
    fn keep_export(&mut self, task: TaskId, shared: Shared) {
        let Some(Value::Object { encoded: encoded @ None, .. }) = self.values.get_mut(&task) else {
            return;
        };
        let size = shared.copied_bytes;
        *encoded = Some(shared.segments);
        // What was made in shared memory occupies nothing more, and is kept as long as its object.
        if size == 0 {
            return;
        }
        self.exports.order.push_back((task, size));
        self.exports.bytes += size;
        self.drop_exports(self.exports.max_bytes);
    }

    /// Drops the oldest copies until at most `max_bytes` are left.
    fn drop_exports(&mut self, max_bytes: u64) {
        while self.exports.bytes > max_bytes {
            let Some((task, size)) = self.exports.order.pop_front() else { break };
            self.exports.bytes -= size;
            if let Some(Value::Object { encoded, .. }) = self.values.get_mut(&task)
                && encoded.as_ref().is_some_and(|segments| is_shared(segments))
            {
                *encoded = None;
            }
        }
    }
}

impl<O: LocalObject> WorkerShell<O> {
    /// This process's shared memory.
    #[must_use]
    pub fn memory(&self) -> &SharedMemory {
        self.peers.memory()
    }

    /// A result's bytes for a peer that can map memory: in shared memory when that pays. The next
    /// peer gets the same. Takes as long as copying what was not made there.
    #[must_use]
    pub fn share(&self, task: TaskId, segments: Vec<Bytes>, known_to: KnownTo) -> Vec<Bytes> {
        let only_here = known_to != KnownTo::Anyone;
        let Some(mut shared) = self.memory().share(&segments, only_here) else { return segments };
        if known_to == KnownTo::Nobody {
            shared.copied_bytes = segments.iter().map(|segment| segment.len() as u64).sum();
        }
        let segments = shared.segments.clone();
        self.state.lock().keep_export(task, shared);
        segments
    }

    /// Frees memory that is only kept to be quick: copies of results in shared memory, but for
    /// those that somebody reads. For when memory is short.
    pub fn drop_copies(&self) {
        self.state.lock().drop_exports(0);
        self.memory().release_idle(self.config.memory_limit / IDLE_SHARE);
    }
}
