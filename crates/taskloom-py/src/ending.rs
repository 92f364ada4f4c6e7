//! Threads in the runtime while the interpreter ends.
//!
//! CPython before 3.14 ends a thread that wants the GIL after the interpreter has ended, there and
//! then. With frames of Rust on its stack that aborts the whole process. Nobody joins daemon threads,
//! so those that wait here are kept from coming back, and those that are here get out first.

use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The thread that ends the interpreter; 0: nobody does.
static ENDED_BY: AtomicI32 = AtomicI32::new(0);
/// Threads with frames of this library on their stacks that have the GIL, or will ask for it.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// How long the end waits for them. They only need the GIL, which is free meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether this thread is counted.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The thread is in a call that may run Python's code.
pub struct Inside {
    /// Of several on one stack, the outermost counts.
    counts: bool,
}

impl Inside {
    /// Does not return once the interpreter has begun to end.
    pub fn enter(py: Python<'_>) -> Self {
        let counts = !IS_INSIDE.replace(true);
        if counts && !count() {
            py.detach(never);
        }
        Self { counts }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.counts {
            IS_INSIDE.set(false);
            INSIDE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Runs `work` without the GIL. A thread that is not done before the interpreter ends never returns.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let inside = Inside::enter(py);
    let result = py.detach(|| {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
        let result = work();
        if !count() {
            never();
        }
        result
    });
    drop(inside);
    result
}

/// Counts this thread; false if it is to stay out.
fn count() -> bool {
    // Counted before the look: `keep_threads_out` either sees the count, or is seen here.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let by = ENDED_BY.load(Ordering::SeqCst);
    let may_enter = by == 0 || by == this_thread();
    if !may_enter {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
    may_enter
}

fn never() {
    loop {
        std::thread::park();
    }
}

fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// The interpreter is about to end, on this thread: other threads get out, and none comes in.
#[pyfunction]
pub fn keep_threads_out(py: Python<'_>) {
    ENDED_BY.store(this_thread(), Ordering::SeqCst);
    py.detach(|| {
        let deadline = Instant::now() + PATIENCE;
        while INSIDE.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
    });
}
