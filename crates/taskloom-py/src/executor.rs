//! Executor threads: Python threads that stay attached to the interpreter from task to task.

use crate::objects::Object;
use crate::running::{self, Called};
use crate::worker::Inner;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskloom_runtime::worker::{Execution, Next, Outcome, Seat};
use taskloom_types::{Attempt, Key, Nanos, TaskId};

/// What the thread runs.
struct Chair {
    worker: Arc<Inner>,
    seat: Seat,
    key: Key,
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

/// The task that the calling thread or coroutine is part of.
#[must_use]
pub fn current_task(py: Python<'_>) -> Option<CurrentTask> {
    let in_thread = CHAIR.with_borrow(|chair| {
        let chair = chair.as_ref()?;
        let (task, attempt) = chair.seat.current()?;
        let (worker, key) = (chair.worker.clone(), chair.key.clone());
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
    let chair = Chair { worker: worker.clone(), seat: Seat::default(), key: Key::default() };
    CHAIR.set(Some(chair));
    let mut outcome = None;
    let mut garbage = Vec::new();
    let mut attached = Instant::now();
    loop {
        let next = with_seat(|seat| worker.shell.next(seat, outcome.take(), &mut garbage));
        garbage.clear();
        match next {
            Some(Next::Run(execution)) => {
                if attached.elapsed() > YIELD_AFTER {
                    py.detach(|| ());
                    attached = Instant::now();
                }
                outcome = Some(run(py, worker, *execution, slot));
            }
            Some(Next::Wait) => {
                py.detach(|| worker.shell.wait_for_work());
                attached = Instant::now();
            }
            Some(Next::End) | None => break,
        }
    }
    CHAIR.set(None);
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
) -> Outcome<Object> {
    let (task, attempt) = (execution.run.task, execution.run.attempt);
    CHAIR.with_borrow_mut(|chair| {
        if let Some(chair) = chair {
            chair.key = execution.run.key.clone();
        }
    });
    worker.arm(slot, task, attempt);
    let result = running::call(py, worker, &execution);
    let outcome = match result {
        Ok(Called::Returned(value)) => running::outcome_of(&value, execution.run.flags),
        Ok(Called::Coroutine { coroutine, context }) => {
            detach(py, worker, execution, &coroutine, &context)
        }
        Err(error) => running::outcome_of_error(py, worker, &execution.run.key, &error),
    };
    worker.disarm(slot);
    outcome
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
        Ok(value) => running::outcome_of(&value, detached.flags),
        Err(error) => running::outcome_of_error(py, worker, &current.key, &error),
    };
    let run = (current.task, current.attempt);
    drop(worker.shell.finish_detached(run, detached.started, outcome));
}

/// Leaves the thread's slot to other tasks. False: the caller is in no task of an executor
/// thread, or has left its slot already.
pub fn secede(py: Python<'_>) -> PyResult<bool> {
    let seceded = CHAIR.with_borrow_mut(|chair| {
        let chair = chair.as_mut()?;
        if chair.seat.current().is_none() || chair.seat.has_seceded() {
            return None;
        }
        let start_thread = chair.worker.shell.secede(&mut chair.seat);
        Some((chair.worker.clone(), start_thread))
    });
    let Some((worker, start_thread)) = seceded else { return Ok(false) };
    if start_thread && let Err(error) = worker.start_executor(py) {
        worker.shell.executor_failed_to_start();
        return Err(error);
    }
    Ok(true)
}

/// Waits for a slot. False: there was no need.
pub fn rejoin(py: Python<'_>) -> bool {
    // The chair is out of its place while this thread waits: the wait is without the
    // interpreter, and nothing of this thread can look for it meanwhile.
    let Some(mut chair) = CHAIR.take() else { return false };
    let needed = chair.seat.has_seceded();
    if needed {
        py.detach(|| chair.worker.shell.rejoin(&mut chair.seat));
    }
    CHAIR.set(Some(chair));
    needed
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
