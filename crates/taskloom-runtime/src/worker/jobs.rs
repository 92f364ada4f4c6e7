//! Work for threads that know the tasks' language and that the IO thread must not wait for.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use taskloom_core::worker::{Interrupt, Ticket};
use taskloom_proto::worker::RunCall;
use taskloom_types::{Attempt, TaskId};

use super::values::Servable;
use crate::data::FetchReplier;

/// What the service thread has to do.
pub enum Job {
    /// Call a function outside the task queue; answer with [`super::WorkerShell::run_done`].
    Run(RunCall),
    /// Coroutine runs are ready: [`super::WorkerShell::next_coroutine`].
    StartCoroutines,
    /// Nobody wants this run's outcome: end it if it is a coroutine.
    CancelCoroutine(TaskId, Attempt),
    /// Raise an exception in this run, wherever it is.
    Interrupt(TaskId, Attempt, Interrupt),
    /// Start an executor thread; it is counted already.
    StartExecutor,
    /// Start a thread that runs actors; it is counted already.
    StartActorThread,
    /// Objects wait to be dropped: [`super::WorkerShell::take_garbage`].
    CollectGarbage,
    /// Memory is short: look for circles of objects that nobody needs.
    CollectCycles,
    /// Values wait in the encoder's queue and it is not known whether a thread serves it.
    StartEncoder,
    /// Values wait in the serializer's queue and it is not known whether a thread serves it.
    StartSerializer,
}

/// A peer's request with values that are not encoded yet.
pub struct Serve<O> {
    pub items: Vec<(TaskId, Option<Servable<O>>)>,
    pub reply: FetchReplier,
}

/// A value on its way to disk that is not encoded yet: answered by
/// [`super::WorkerShell::spill_encoded`] or [`super::WorkerShell::spill_refused`].
pub struct Encode<O> {
    pub task: TaskId,
    pub ticket: Ticket,
    pub value: Servable<O>,
}

/// A queue between threads that ends.
pub struct JobQueue<T> {
    state: Mutex<(VecDeque<T>, bool)>,
    wake: Condvar,
}

impl<T> Default for JobQueue<T> {
    fn default() -> Self {
        Self { state: Mutex::new((VecDeque::new(), false)), wake: Condvar::new() }
    }
}

impl<T> JobQueue<T> {
    /// After the end, the job is dropped.
    pub fn push(&self, job: T) {
        let mut state = self.state.lock();
        if !state.1 {
            state.0.push_back(job);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Blocks for the next job; `None` at the end.
    pub fn wait(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.0.pop_front() {
                return Some(job);
            }
            if state.1 {
                return None;
            }
            self.wake.wait(&mut state);
        }
    }

    /// No further jobs. What waits is given to the caller, to be dropped without the lock.
    pub fn end(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.1 = true;
        let rest = std::mem::take(&mut state.0);
        drop(state);
        self.wake.notify_all();
        rest
    }
}
