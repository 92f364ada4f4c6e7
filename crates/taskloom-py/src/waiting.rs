//! Blocking a Python thread, and operations that take several rounds of waiting.

use crate::aio::Bridge;
use crate::ending::{Inside, detached};
use parking_lot::Mutex;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use taskloom_runtime::client::{Mailbox, Wait, Watch};
use taskloom_types::TaskId;

/// How often a blocked main thread looks for signals, so that Ctrl-C works.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// How a wait inside a task tells the worker. Set when the first worker starts in this process.
pub struct TaskHooks {
    /// The task that this thread runs, if any.
    pub current_task: fn() -> Option<TaskId>,
    /// The task's thread will block: its slot is free for others. Returns whether
    /// `blocking_end` is to be called.
    pub blocking_begin: fn(Python<'_>) -> bool,
    /// Blocks until there is a slot again.
    pub blocking_end: fn(Python<'_>),
    /// Runs a wait until it is over or until a point in time, such that a task can be
    /// interrupted meanwhile. Returns whether it is over.
    pub wait_in_task: fn(Python<'_>, Option<Instant>, &WaitUntil<'_>) -> PyResult<bool>,
}

/// Waits until something is over or until a point in time; returns whether it is over.
pub type WaitUntil<'a> = dyn Fn(Option<Instant>) -> bool + Sync + 'a;

static HOOKS: OnceLock<TaskHooks> = OnceLock::new();

/// Called by the worker. Later calls change nothing.
pub fn set_task_hooks(hooks: TaskHooks) {
    let _ = HOOKS.set(hooks);
}

/// The task that this thread runs, if any.
#[must_use]
pub fn current_task() -> Option<TaskId> {
    HOOKS.get().and_then(|hooks| (hooks.current_task)())
}

/// The slot of this thread's task is free for others while this lives.
struct FreedSlot<'py>(Option<Python<'py>>);

impl<'py> FreedSlot<'py> {
    fn new(py: Python<'py>) -> Self {
        let is_freed = HOOKS.get().is_some_and(|hooks| (hooks.blocking_begin)(py));
        Self(is_freed.then_some(py))
    }
}

impl Drop for FreedSlot<'_> {
    fn drop(&mut self) {
        if let (Some(py), Some(hooks)) = (self.0, HOOKS.get()) {
            (hooks.blocking_end)(py);
        }
    }
}

/// Whether signal handlers run on this thread.
fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// What becomes of a task's slot while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Others may have it: what the task waits for may be one of them.
    Freed,
    /// The task keeps it.
    Kept,
}

/// Runs `wait_until` without the GIL, in slices on the main thread. It returns whether it is
/// done; the result says whether it was done before `deadline`.
fn block_with(
    py: Python<'_>,
    deadline: Option<Instant>,
    slot: Slot,
    wait_until: impl Fn(Option<Instant>) -> bool + Sync,
) -> PyResult<bool> {
    let _freed = (slot == Slot::Freed).then(|| FreedSlot::new(py));
    if !is_main_thread() {
        return match HOOKS.get() {
            Some(hooks) => (hooks.wait_in_task)(py, deadline, &wait_until),
            None => Ok(detached(py, || wait_until(deadline))),
        };
    }
    loop {
        let slice = Instant::now() + SIGNAL_CHECK;
        let is_last = deadline.is_some_and(|deadline| deadline <= slice);
        let until = if is_last { deadline } else { Some(slice) };
        if detached(py, || wait_until(until)) {
            return Ok(true);
        }
        py.check_signals()?;
        if is_last {
            return Ok(false);
        }
    }
}

/// Looks for a moment whether `wait` ends at once. A task does not: its slot is of more use to
/// others.
fn watch(py: Python<'_>, wait: &Wait) -> bool {
    static WATCH: Watch = Watch::new();
    current_task().is_none() && detached(py, || WATCH.see(64, || wait.is_done()))
}

/// Blocks until `wait` is done; returns whether it was before `deadline`.
fn block(
    py: Python<'_>,
    wait: &Arc<Wait>,
    deadline: Option<Instant>,
    slot: Slot,
) -> PyResult<bool> {
    if wait.is_done() || watch(py, wait) {
        return Ok(true);
    }
    block_with(py, deadline, slot, |until| wait.block(until))
}

/// Seconds as Python gives them; `None`, infinity and what does not fit mean for ever.
#[must_use]
pub fn deadline_after(seconds: Option<f64>) -> Option<Instant> {
    let duration = Duration::try_from_secs_f64(seconds?.max(0.0)).ok()?;
    Instant::now().checked_add(duration)
}

/// Something that takes one or more rounds of waiting.
pub trait Rounds: Send + Sync {
    /// Does what can be done now. Returns true when it is complete; otherwise it has counted the
    /// completions to wait for and registered the wait that `make_wait` returns.
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool>;

    /// The caller gives up: the last wait is not needed any more.
    fn give_up(&self, wait: &Arc<Wait>);

    /// What the caller gets in the end.
    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>>;

    /// The message of the error when time is over.
    fn timeout_message(&self) -> String;

    /// Whether the first failure completes it.
    fn stops_on_failure(&self) -> bool;

    /// What becomes of the slot of a task that waits for it.
    fn slot(&self) -> Slot {
        Slot::Freed
    }
}

/// An operation: may be blocked on, or awaited by an event loop.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct Operation {
    rounds: Box<dyn Rounds>,
    /// The wait of an asynchronous round.
    armed: Mutex<Option<Arc<Wait>>>,
}

impl Operation {
    pub fn new(rounds: impl Rounds + 'static) -> Self {
        Self { rounds: Box::new(rounds), armed: Mutex::new(None) }
    }

    /// Blocks until it is complete.
    ///
    /// # Errors
    /// `TimeoutError` at `deadline`, what a signal handler raises, and the operation's own.
    pub fn run(
        py: Python<'_>,
        rounds: &dyn Rounds,
        deadline: Option<Instant>,
    ) -> PyResult<Py<PyAny>> {
        let _inside = Inside::enter(py);
        loop {
            let mut made = None;
            let complete = rounds.advance(&mut |count| {
                let wait = Wait::new(count, rounds.stops_on_failure());
                made = Some(wait.clone());
                wait
            })?;
            let Some(wait) = made.filter(|_| !complete) else { return rounds.finish(py) };
            match block(py, &wait, deadline, rounds.slot()) {
                Ok(true) => {}
                Ok(false) => {
                    rounds.give_up(&wait);
                    return Err(PyTimeoutError::new_err(rounds.timeout_message()));
                }
                Err(error) => {
                    rounds.give_up(&wait);
                    return Err(error);
                }
            }
        }
    }
}

#[pymethods]
impl Operation {
    /// Block until it is complete and return its result.
    #[pyo3(signature = (timeout=None))]
    fn block(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        Self::run(py, &*self.rounds, deadline_after(timeout))
    }

    /// Start a round for an event loop. Returns true when ``finish()`` may be called; otherwise
    /// ``future`` is resolved when this is to be called again, with a new future.
    fn arm(&self, bridge: &Bound<'_, Bridge>, future: &Bound<'_, PyAny>) -> PyResult<bool> {
        let bridge = bridge.get();
        let token = bridge.add_future(future);
        let mut made = None;
        let complete = self.rounds.advance(&mut |count| {
            let stop = self.rounds.stops_on_failure();
            let wait = Wait::with_mailbox(count, stop, bridge.mailbox().clone(), token);
            made = Some(wait.clone());
            wait
        });
        if !matches!(complete, Ok(false)) {
            bridge.forget(token);
        }
        *self.armed.lock() = made;
        complete
    }

    /// The result of a complete operation.
    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.rounds.finish(py)
    }

    /// The last round is awaited no more.
    fn give_up(&self) {
        if let Some(wait) = self.armed.lock().take() {
            self.rounds.give_up(&wait);
        }
    }

    fn timeout_message(&self) -> String {
        self.rounds.timeout_message()
    }
}

/// Completions for a thread, in the order in which they happen.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct CompletionQueue {
    mailbox: Arc<Mailbox>,
}

impl CompletionQueue {
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new() -> Self {
        Self { mailbox: Mailbox::for_thread() }
    }

    /// Leave a token for :meth:`receive` when the future is done.
    fn watch(&self, future: &Bound<'_, crate::future::CoreFuture>, token: u64) {
        let wait = Wait::with_mailbox(1, false, self.mailbox.clone(), token);
        future.get().entry().wait_with(&wait);
    }

    /// Leave a token now.
    fn post(&self, token: u64) {
        self.mailbox.post(token);
    }

    /// Resolve ``future`` on its event loop when a token arrives. Returns true, and does not,
    /// when there is one already.
    fn arm(&self, bridge: &Bound<'_, Bridge>, future: &Bound<'_, PyAny>) -> bool {
        let bridge = bridge.get();
        let token = bridge.add_future(future);
        let is_ready = self.mailbox.set_alarm(bridge.mailbox(), token);
        if is_ready {
            bridge.forget(token);
        }
        is_ready
    }

    /// Wait for tokens. An empty list means that time is over, or that the queue is closed.
    #[pyo3(signature = (timeout=None))]
    fn receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<u64>> {
        let deadline = deadline_after(timeout);
        let tokens = self.mailbox.receive(Some(Instant::now()));
        if !tokens.is_empty() || timeout.is_some_and(|seconds| seconds <= 0.0) {
            return Ok(tokens);
        }
        let received = Mutex::new(Vec::new());
        block_with(py, deadline, Slot::Freed, |until| {
            *received.lock() = self.mailbox.receive(until);
            !received.lock().is_empty() || self.mailbox.is_closed()
        })?;
        Ok(received.into_inner())
    }

    fn close(&self) {
        self.mailbox.close();
    }
}
