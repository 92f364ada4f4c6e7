//! Executor threads: Python threads that stay attached to the interpreter from task to task.

use crate::control;
use crate::ending::detached;
use crate::forked;
use crate::interrupt::Window;
use crate::objects::Object;
use crate::running::{self, Called, RunInfo};
use crate::waiting::WaitUntil;
use crate::worker::{Inner, thread_identity};
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskloom_runtime::worker::{Execution, Next, Outcome, Seat, Seceded};
use taskloom_types::{Attempt, Key, Nanos, TaskId};

/// What the thread runs.
struct Chair {
    worker: Arc<Inner>,
    seat: Seat,
    /// Shared with who asks what the worker's threads are at, and who interrupts them.
    window: Arc<Window>,
}

thread_local! {
    static CHAIR: RefCell<Option<Chair>> = const { RefCell::new(None) };
}

/// The task that the caller is part of.
#[derive(Clone)]
pub struct CurrentTask {
    pub worker: Arc<Inner>,
    pub task: TaskId,
    pub attempt: Attempt,
    pub key: Key,
}

/// A task that runs outside an executor thread: a coroutine on the worker's event loop. Its
/// context variable holds this object.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct DetachedRun {
    pub current: CurrentTask,
    pub started: Nanos,
    pub flags: u8,
    pub slot: usize,
}

#[pymethods]
impl DetachedRun {
    /// Tells this run from all others.
    #[getter]
    fn id(&self) -> (u64, Attempt) {
        (self.current.task.to_u64(), self.current.attempt)
    }

    /// The task's key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        crate::keys::decode_key(py, &self.current.key)
    }
}

/// The task that the calling thread or coroutine is part of.
#[must_use]
pub fn current_task(py: Python<'_>) -> Option<CurrentTask> {
    let in_thread = CHAIR.with_borrow(|chair| {
        let chair = chair.as_ref()?;
        let (task, attempt) = chair.seat.current()?;
        let (worker, key) = (chair.worker.clone(), chair.window.key());
        Some(CurrentTask { worker, task, attempt, key })
    });
    in_thread.or_else(|| {
        let run = crate::worker::context_variable(py, intern!(py, "current_run")).ok()?;
        Some(run.cast::<DetachedRun>().ok()?.get().current.clone())
    })
}

/// How long an executor stays attached at most before it lets other Python threads in. Tasks that
/// are C functions never look whether somebody else wants the interpreter.
const YIELD_AFTER: Duration = Duration::from_millis(5);

/// The body of an executor thread.
pub fn execute(py: Python<'_>, worker: &Arc<Inner>) {
    let slot = worker.take_slot();
    let window = Arc::new(Window::new(thread_identity(py).unwrap_or_default()));
    worker.add_window(&window);
    let chair = Chair { worker: worker.clone(), seat: Seat::default(), window: window.clone() };
    CHAIR.set(Some(chair));
    let mut outcome = None;
    let mut garbage = Vec::new();
    let mut attached = Instant::now();
    loop {
        let next = with_seat(|seat| worker.shell.next(seat, outcome.take(), &mut garbage));
        garbage.clear();
        match next {
            Some(Next::Run(execution)) => {
                // Before anything lets go of the interpreter: an interrupt must find the run.
                let run = (execution.run.task, execution.run.attempt);
                window.begin(execution.run.key.clone(), run);
                if attached.elapsed() > YIELD_AFTER {
                    py.detach(|| ());
                    attached = Instant::now();
                }
                outcome = Some(self::run(py, worker, *execution, slot, &window));
                window.end();
            }
            Some(Next::Wait) => {
                py.detach(|| worker.shell.wait_for_work());
                attached = Instant::now();
            }
            Some(Next::End) | None => break,
        }
    }
    CHAIR.set(None);
    worker.remove_window(&window);
    worker.give_back_slot(slot);
}

fn with_seat<T>(action: impl FnOnce(&mut Seat) -> T) -> Option<T> {
    CHAIR.with_borrow_mut(|chair| chair.as_mut().map(|chair| action(&mut chair.seat)))
}

fn run(
    py: Python<'_>,
    worker: &Arc<Inner>,
    execution: Execution<Object>,
    slot: usize,
    window: &Window,
) -> Outcome<Object> {
    worker.arm(slot, execution.run.task, execution.run.attempt);
    let watched = control::watched_key(worker, &execution.run.key);
    control::tell_start(py, worker, watched.as_ref());
    let result = running::call(py, worker, &execution, Some(window));
    forked::end_child(py, worker.process, &execution.run.key);
    let outcome = match result {
        Ok(Called::Returned(value)) => {
            running::outcome_of(worker, &RunInfo::of(&execution.run), &value)
        }
        Ok(Called::Coroutine { coroutine, context }) => {
            let run = (execution.run.task, execution.run.attempt);
            let outcome = detach(py, worker, execution, &coroutine, &context);
            if let Some(why) = window.take_late() {
                worker.interrupt_coroutine(py, run, why);
            }
            outcome
        }
        Err(error) => {
            let error = window.described(py, error);
            running::outcome_of_error(py, worker, &execution.run.key, &error)
        }
    };
    control::tell_end(py, worker, watched.as_ref(), &outcome);
    worker.disarm(slot);
    outcome
}

/// How often a task that waits in the runtime looks whether it was interrupted.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// Waits without the interpreter. Within a task, an interrupt ends the wait with its exception.
pub fn wait_in_task(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: &WaitUntil<'_>,
) -> PyResult<bool> {
    let window = CHAIR.with_borrow(|chair| chair.as_ref().map(|chair| chair.window.clone()));
    let Some(blocked) = window.as_ref().and_then(|window| window.block()) else {
        return Ok(detached(py, || wait(deadline)));
    };
    let is_over = detached(py, || {
        loop {
            let slice = Instant::now() + INTERRUPT_CHECK;
            let is_last = deadline.is_some_and(|deadline| deadline <= slice);
            if wait(if is_last { deadline } else { Some(slice) }) {
                return true;
            }
            if is_last || blocked.is_woken() {
                return false;
            }
        }
    });
    let interrupted = blocked.check(py);
    blocked.end(py);
    interrupted.map(|()| is_over)
}

/// A function returned a coroutine: it goes on on the event loop, and the slot is free.
fn detach(
    py: Python<'_>,
    worker: &Arc<Inner>,
    execution: Execution<Object>,
    coroutine: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> Outcome<Object> {
    let key = execution.run.key.clone();
    match start_coroutine(py, worker, execution, coroutine, context) {
        Ok(()) => Outcome::Detached,
        Err(error) => running::outcome_of_error(py, worker, &key, &error),
    }
}

/// Runs a coroutine on the worker's event loop; [`finish_coroutine`] is called at its end.
pub fn start_coroutine(
    py: Python<'_>,
    worker: &Arc<Inner>,
    execution: Execution<Object>,
    coroutine: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let Execution { run, started, .. } = execution;
    let slot = worker.take_slot();
    worker.arm(slot, run.task, run.attempt);
    let current =
        CurrentTask { worker: worker.clone(), task: run.task, attempt: run.attempt, key: run.key };
    let detached = Bound::new(py, DetachedRun { current, started, flags: run.flags, slot })?;
    let started = worker.event_loop(py).and_then(|event_loop| {
        event_loop.call_method1(intern!(py, "start"), (&detached, coroutine, context))
    });
    if let Err(error) = started {
        worker.disarm(slot);
        worker.give_back_slot(slot);
        // Nobody will await it.
        let _ = coroutine.call_method0(intern!(py, "close"));
        return Err(error);
    }
    Ok(())
}

/// Ends a coroutine's run with its result or its exception.
pub fn finish_coroutine(
    py: Python<'_>,
    detached: &DetachedRun,
    result: PyResult<Bound<'_, PyAny>>,
) {
    let current = &detached.current;
    let worker = &current.worker;
    worker.disarm(detached.slot);
    worker.give_back_slot(detached.slot);
    let outcome = match result {
        Ok(value) => {
            let (task, attempt) = (current.task, current.attempt);
            let run = RunInfo { task, attempt, key: &current.key, flags: detached.flags };
            running::outcome_of(worker, &run, &value)
        }
        Err(error) => running::outcome_of_error(py, worker, &current.key, &error),
    };
    let watched = control::watched_key(worker, &current.key);
    control::tell_end(py, worker, watched.as_ref(), &outcome);
    let run = (current.task, current.attempt);
    drop(worker.shell.finish_detached(run, detached.started, outcome));
}

/// Leaves the thread's slot to other tasks. False: the caller is in no task of an executor
/// thread, or has no slot.
pub fn secede(py: Python<'_>) -> PyResult<bool> {
    let seceded = CHAIR.with_borrow(|chair| {
        let chair = chair.as_ref()?;
        Some((chair.worker.clone(), chair.worker.shell.secede(&chair.seat)))
    });
    let Some((worker, seceded)) = seceded else { return Ok(false) };
    if seceded == Seceded::StartThread {
        worker.start_counted_executor(py)?;
    }
    Ok(seceded != Seceded::HadNoSlot)
}

/// Waits for a slot. False: there was no need.
pub fn rejoin(py: Python<'_>) -> bool {
    // The chair is out of its place while this thread waits: the wait is without the
    // interpreter, and nothing of this thread can look for it meanwhile.
    let Some(chair) = CHAIR.take() else { return false };
    let waited = py.detach(|| chair.worker.shell.rejoin(&chair.seat));
    CHAIR.set(Some(chair));
    waited
}

/// The task that the calling thread or coroutine is part of, for what it submits.
#[must_use]
pub fn current_task_id() -> Option<TaskId> {
    Python::attach(|py| current_task(py).map(|current| current.task))
}

/// Call before waiting for other tasks: within a task, its slot becomes free. True: call
/// [`blocking_end`] after waiting.
pub fn blocking_begin(py: Python<'_>) -> bool {
    secede(py).unwrap_or(false)
}

/// Call after waiting, if [`blocking_begin`] said so.
pub fn blocking_end(py: Python<'_>) {
    rejoin(py);
}
