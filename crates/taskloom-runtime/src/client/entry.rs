//! One key that a client holds: what became of its task, who waits for it, who holds it.

use super::wait::Wait;
use super::{Client, FunctionSpec};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use taskloom_proto::{ErrorInfo, SmallBytes};
use taskloom_types::{Handle, Key, TaskId, WorkerNo};

/// Why a future was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cancellation {
    /// Machine-readable, such as `unknown`, `lost`.
    pub reason: String,
    pub message: String,
    /// Whether the result was lost, not cancelled by somebody.
    pub lost: bool,
}

/// What became of a task, as far as the client knows.
#[derive(Debug, Clone, Default)]
pub enum Outcome {
    #[default]
    Pending,
    /// The result, encoded in one segment.
    Inline(SmallBytes),
    /// The result is with a worker.
    Remote {
        task: TaskId,
        worker: WorkerNo,
        size_bytes: u64,
    },
    Erred(Arc<ErrorInfo>),
    Cancelled(Arc<Cancellation>),
    /// A strict client used the key for other work; the text says which.
    Refused(Arc<str>),
}

impl Outcome {
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }

    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Erred(_) | Self::Cancelled(_) | Self::Refused(_))
    }

    /// Dask's word for it.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inline(_) | Self::Remote { .. } => "finished",
            Self::Erred(_) | Self::Refused(_) => "error",
            Self::Cancelled(why) if why.lost => "lost",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

/// Who waits for one key: seldom more than one, who needs no memory of its own.
pub(super) type Waits = SmallVec<[Arc<Wait>; 1]>;

/// Only what has not ended has waits: the two share their room.
#[derive(Debug)]
enum State {
    Pending(Waits),
    Ended(Outcome),
}

impl Default for State {
    fn default() -> Self {
        Self::Pending(Waits::new())
    }
}

/// One key that a client holds.
#[derive(Debug)]
pub struct Entry {
    pub handle: Handle,
    pub key: Key,
    /// Hash of function and arguments; 0 when they are not known here.
    pub spec_hash: u64,
    /// What it runs, for people; unknown for keys that others made.
    pub function: Option<Arc<FunctionSpec>>,
    /// How many [`Held`] there are.
    holders: AtomicU32,
    /// Is in the client's list of releases.
    pub(super) is_leaving: AtomicBool,
    /// Its key stands for other work than was submitted here.
    pub(super) is_of_other_work: AtomicBool,
    /// Its cancellation was asked for, and will come.
    pub(super) is_cancelling: AtomicBool,
    state: Mutex<State>,
}

impl Entry {
    pub(super) fn new(
        handle: Handle,
        key: Key,
        spec_hash: u64,
        function: Option<Arc<FunctionSpec>>,
    ) -> Self {
        Self {
            handle,
            key,
            spec_hash,
            function,
            holders: AtomicU32::new(0),
            is_leaving: AtomicBool::new(false),
            is_of_other_work: AtomicBool::new(false),
            is_cancelling: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match &*self.state.lock() {
            State::Pending(_) => Outcome::Pending,
            State::Ended(outcome) => outcome.clone(),
        }
    }

    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(*self.state.lock(), State::Pending(_))
    }

    #[must_use]
    pub fn status(&self) -> &'static str {
        match &*self.state.lock() {
            State::Pending(_) => Outcome::Pending.status(),
            State::Ended(outcome) => outcome.status(),
        }
    }

    /// Whether it was cancelled, as far as this client is concerned.
    pub(super) fn is_cancelling(&self) -> bool {
        self.is_cancelling.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        self.holders.load(Ordering::Acquire) > 0
    }

    /// Adds a wait that is counted down when the task ends; at once when it has ended.
    pub fn wait_with(&self, wait: &Arc<Wait>) {
        let failed = match &mut *self.state.lock() {
            State::Pending(waits) => return waits.push(wait.clone()),
            State::Ended(outcome) => outcome.is_failure(),
        };
        wait.count_down(failed);
    }

    /// Removes a wait that is not needed any more.
    pub fn stop_waiting(&self, wait: &Arc<Wait>) {
        if let State::Pending(waits) = &mut *self.state.lock() {
            waits.retain(|other| !Arc::ptr_eq(other, wait));
        }
    }

    /// Sets what became of the task. Returns the waits to count down, once no lock is held.
    #[must_use]
    pub(super) fn set(&self, outcome: Outcome) -> Waits {
        let mut state = self.state.lock();
        if outcome.is_pending() {
            if let State::Ended(_) = *state {
                *state = State::default();
            }
            return Waits::new();
        }
        match std::mem::replace(&mut *state, State::Ended(outcome)) {
            State::Pending(waits) => waits,
            State::Ended(_) => Waits::new(),
        }
    }

    /// Back to pending, when the result is still said to be where it could not be found.
    pub(super) fn disbelieve(&self, task: TaskId, worker: WorkerNo) {
        let mut state = self.state.lock();
        let is_said = matches!(
            *state,
            State::Ended(Outcome::Remote { task: t, worker: w, .. }) if t == task && w == worker
        );
        if is_said {
            *state = State::default();
        }
    }
}

/// Keeps a key's result alive on the cluster. The last one that is dropped releases it.
#[derive(Debug)]
pub struct Held {
    entry: Arc<Entry>,
    client: Arc<Client>,
    is_let_go: AtomicBool,
}

impl Held {
    pub(super) fn new(entry: Arc<Entry>, client: Arc<Client>) -> Self {
        entry.holders.fetch_add(1, Ordering::AcqRel);
        Self { entry, client, is_let_go: AtomicBool::new(false) }
    }

    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Gives the result up before this is dropped. Never blocks, as dropping.
    pub fn let_go(&self) {
        let is_last = !self.is_let_go.swap(true, Ordering::AcqRel)
            && self.entry.holders.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            self.client.leave(&self.entry);
        }
    }

    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.is_let_go.load(Ordering::Acquire)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self::new(self.entry.clone(), self.client.clone())
    }
}

impl Drop for Held {
    /// Never blocks and never runs foreign code: a garbage collector may call it anywhere.
    fn drop(&mut self) {
        self.let_go();
    }
}
