//! Raising an exception inside a task that runs in a thread, and in nothing else.
//!
//! Python raises an asynchronous exception in a *thread*, at its next instruction, whatever it
//! runs by then. So each executor thread has a [`Window`]: it knows the thread's run, and whether
//! the run's own code is under way. An exception is only sent while it is, and one that has not
//! been raised when that code is left is taken back: neither the runtime's own code nor the
//! thread's next task can meet it.

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{ffi, intern};
use std::ffi::c_long;
use std::sync::atomic::{AtomicU8, Ordering};
use taskloom_core::worker::Interrupt;
use taskloom_types::{Attempt, Key, TaskId};

/// Where a thread is with its run. The owner moves on without a lock; who interrupts holds the
/// lock, moves by compare-and-exchange, and so never acts on a run that has gone on.
mod stage {
    /// In no run.
    pub const IDLE: u8 = 0;
    /// The run's code has not begun.
    pub const BEFORE: u8 = 1;
    /// The run's code is under way.
    pub const OPEN: u8 = 2;
    /// The run's code waits in the runtime, which looks out for interrupts itself.
    pub const BLOCKED: u8 = 3;
    /// An exception was sent to the thread.
    pub const SENT: u8 = 4;
    /// The wait is to end with an exception.
    pub const WOKEN: u8 = 5;
    /// The run's code is left.
    pub const DONE: u8 = 6;
    /// Interrupted before its code began.
    pub const EARLY: u8 = 7;
    /// Interrupted after its code was left: what it left behind, a coroutine, is meant.
    pub const LATE: u8 = 8;
}
use stage::{BEFORE, BLOCKED, DONE, EARLY, IDLE, LATE, OPEN, SENT, WOKEN};

/// What a thread is at.
#[derive(Debug, Default)]
struct At {
    /// The empty key means nothing.
    key: Key,
    run: Option<(TaskId, Attempt)>,
    why: Option<Interrupt>,
}

/// One executor thread, as seen by others.
#[derive(Debug)]
pub struct Window {
    /// As `threading.get_ident()`.
    thread: u64,
    at: Mutex<At>,
    stage: AtomicU8,
}

impl Window {
    #[must_use]
    pub fn new(thread: u64) -> Self {
        Self { thread, at: Mutex::default(), stage: AtomicU8::new(IDLE) }
    }

    #[must_use]
    pub fn thread(&self) -> u64 {
        self.thread
    }

    /// The key of the thread's task; the empty key means nothing.
    #[must_use]
    pub fn key(&self) -> Key {
        self.at.lock().key.clone()
    }

    /// The thread takes up a run.
    pub fn begin(&self, key: Key, run: (TaskId, Attempt)) {
        *self.at.lock() = At { key, run: Some(run), why: None };
        self.stage.store(BEFORE, Ordering::Release);
    }

    /// The thread is done with its run. Whether an interrupt came too late for the thread.
    pub fn end(&self) {
        self.stage.store(IDLE, Ordering::Release);
        let ended = std::mem::take(&mut *self.at.lock());
        drop(ended);
    }

    /// The run's own code begins; it ends when the guard goes.
    ///
    /// # Errors
    /// The run was interrupted before.
    pub fn open<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<Open<'a, 'py>> {
        if self.stage.swap(OPEN, Ordering::AcqRel) == EARLY {
            self.stage.store(DONE, Ordering::Release);
            return Err(self.error(py));
        }
        Ok(Open { window: self, py })
    }

    fn close(&self, _py: Python<'_>) {
        if self.stage.swap(DONE, Ordering::AcqRel) == SENT {
            let _at = self.at.lock();
            // SAFETY: attached; null takes back what the thread was sent.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.thread as c_long, std::ptr::null_mut()) };
        }
    }

    /// Interrupts the run if this thread has it. False: it has not. Nothing that could let go of
    /// the interpreter happens under the lock.
    pub fn interrupt(&self, class: &Exception<'_>, run: (TaskId, Attempt)) -> bool {
        let mut at = self.at.lock();
        if at.run != Some(run) {
            return false;
        }
        let next = |stage| match stage {
            BEFORE => Some(EARLY),
            OPEN | SENT => Some(SENT),
            BLOCKED => Some(WOKEN),
            DONE => Some(LATE),
            _ => None,
        };
        let moved = self.stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let Ok(before) = moved else { return true };
        at.why = Some(class.why);
        if matches!(before, OPEN | SENT) {
            self.send(class);
        }
        true
    }

    /// Call with the lock.
    fn send(&self, exception: &Exception<'_>) {
        // SAFETY: attached, as the class proves; it is a live object, to which Python takes a
        // reference.
        unsafe {
            ffi::PyThreadState_SetAsyncExc(self.thread as c_long, exception.class.as_ptr());
        }
    }

    /// Whether an interrupt came after the run's code was left, and which.
    #[must_use]
    pub fn take_late(&self) -> Option<Interrupt> {
        let is_late = self.stage.swap(DONE, Ordering::AcqRel) == LATE;
        if is_late { self.at.lock().why } else { None }
    }

    /// The run's code is about to wait in the runtime. The wait must look at
    /// [`Blocked::is_woken`] now and then.
    #[must_use]
    pub fn block(&self) -> Option<Blocked<'_>> {
        let change =
            self.stage.compare_exchange(OPEN, BLOCKED, Ordering::AcqRel, Ordering::Acquire);
        change.is_ok().then_some(Blocked { window: self })
    }

    fn error(&self, py: Python<'_>) -> PyErr {
        let (why, key) = {
            let at = self.at.lock();
            (at.why.unwrap_or(Interrupt::Cancelled), at.key.clone())
        };
        let error = class_of(py, why).and_then(|class| class.call0());
        match error {
            Ok(error) => describe(py, PyErr::from_value(error), &key, why),
            Err(error) => error,
        }
    }

    /// The run's exception, with what is known of its interrupt: Python makes it without.
    #[must_use]
    pub fn described(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let (why, key) = {
            let at = self.at.lock();
            (at.why, at.key.clone())
        };
        match why {
            Some(why) => describe(py, error, &key, why),
            None => error,
        }
    }
}

/// A run's own code is under way.
pub struct Open<'a, 'py> {
    window: &'a Window,
    py: Python<'py>,
}

impl Drop for Open<'_, '_> {
    fn drop(&mut self) {
        self.window.close(self.py);
    }
}

/// A run's code waits in the runtime.
pub struct Blocked<'a> {
    window: &'a Window,
}

impl Blocked<'_> {
    /// Whether the wait is to end. Needs no interpreter.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.window.stage.load(Ordering::Acquire) == WOKEN
    }

    /// The exception with which the wait ends, if it was woken.
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        let window = self.window;
        let woken = window.stage.compare_exchange(WOKEN, OPEN, Ordering::AcqRel, Ordering::Acquire);
        if woken.is_ok() { Err(window.error(py)) } else { Ok(()) }
    }

    /// The wait is over. An interrupt that came in its last moment meets the code after it.
    pub fn end(self, py: Python<'_>) {
        let window = self.window;
        let opened =
            window.stage.compare_exchange(BLOCKED, OPEN, Ordering::AcqRel, Ordering::Acquire);
        if opened != Err(WOKEN) {
            return;
        }
        let why = window.at.lock().why.unwrap_or(Interrupt::Cancelled);
        match Exception::new(py, why) {
            Ok(exception) => {
                let _at = window.at.lock();
                window.stage.store(SENT, Ordering::Release);
                window.send(&exception);
            }
            Err(error) => error.write_unraisable(py, None),
        }
    }
}

/// The exception of an interrupt. Made before a window's lock is taken: finding the class may
/// import a module, and so let go of the interpreter; whoever got it then and wanted the lock
/// would wait for ever.
pub struct Exception<'py> {
    class: Bound<'py, PyAny>,
    why: Interrupt,
}

impl<'py> Exception<'py> {
    pub fn new(py: Python<'py>, why: Interrupt) -> PyResult<Self> {
        Ok(Self { class: class_of(py, why)?, why })
    }
}

fn class_of(py: Python<'_>, why: Interrupt) -> PyResult<Bound<'_, PyAny>> {
    static TIMEOUT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (cell, name) = match why {
        Interrupt::TimedOut(_) => (&TIMEOUT, "TaskTimeout"),
        Interrupt::Cancelled => (&CANCELLED, "TaskCancelled"),
    };
    let class = cell.get_or_try_init(py, || {
        let module = py.import(intern!(py, "taskloom.errors"))?;
        Ok::<_, PyErr>(module.getattr(name)?.unbind())
    })?;
    Ok(class.bind(py).clone())
}

/// Writes key and limit into a time-out's exception that Python made without them.
fn describe(py: Python<'_>, error: PyErr, key: &Key, why: Interrupt) -> PyErr {
    let Interrupt::TimedOut(limit_ns) = why else { return error };
    let write = || -> PyResult<()> {
        let key = crate::keys::decode_key(py, key)?;
        let value = error.value(py);
        if value.is_exact_instance(&class_of(py, why)?) {
            value.call_method1(intern!(py, "_describe"), (key, seconds(limit_ns)))?;
        }
        Ok(())
    };
    match write() {
        Ok(()) => error,
        Err(other) => PyRuntimeError::new_err(format!("a time-out that cannot be told: {other}")),
    }
}

#[must_use]
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
