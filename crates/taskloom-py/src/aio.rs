//! The bridge to an event loop: one descriptor per loop, one write per batch of completions.

use crate::future::CoreFuture;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use taskloom_runtime::client::{Mailbox, Wait};

/// Who is told when a token arrives.
enum Waiter {
    /// An `asyncio.Future` to be resolved with `None`.
    Future(Py<PyAny>),
    /// A function to be called without arguments.
    Callback(Py<PyAny>),
}

/// Belongs to one event loop; used on its thread, filled from any.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct Bridge {
    mailbox: Arc<Mailbox>,
    waiters: Mutex<(HashMap<u64, Waiter>, u64)>,
}

impl Bridge {
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    fn add(&self, waiter: Waiter) -> u64 {
        let mut guard = self.waiters.lock();
        let (waiters, last) = &mut *guard;
        *last += 1;
        waiters.insert(*last, waiter);
        *last
    }

    /// The future is resolved when the returned token arrives.
    pub fn add_future(&self, future: &Bound<'_, PyAny>) -> u64 {
        self.add(Waiter::Future(future.clone().unbind()))
    }

    pub fn forget(&self, token: u64) {
        // Dropped after the lock: a destructor may run Python code.
        let _waiter = self.waiters.lock().0.remove(&token);
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let mailbox =
            Mailbox::for_event_loop().map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { mailbox, waiters: Mutex::default() })
    }

    /// The descriptor to give to ``loop.add_reader``, with :meth:`drain` as callback.
    fn fileno(&self) -> i32 {
        self.mailbox.descriptor().map_or(-1, |descriptor| descriptor.as_raw_fd())
    }

    /// Tell everybody whose token has arrived.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let tokens = self.mailbox.drain();
        let arrived: Vec<Waiter> = {
            let mut guard = self.waiters.lock();
            tokens.iter().filter_map(|token| guard.0.remove(token)).collect()
        };
        for waiter in arrived {
            match waiter {
                Waiter::Future(future) => {
                    let future = future.bind(py);
                    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
                    }
                }
                Waiter::Callback(callback) => {
                    if let Err(error) = callback.call0(py) {
                        error.write_unraisable(py, Some(callback.bind(py)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Call ``callback()`` on the loop's thread when the future is done. Returns a token for
    /// :meth:`unwatch`.
    fn watch(&self, future: &Bound<'_, CoreFuture>, callback: Py<PyAny>) -> u64 {
        let token = self.add(Waiter::Callback(callback));
        let wait = Wait::with_mailbox(1, false, self.mailbox.clone(), token);
        future.get().entry().wait_with(&wait);
        token
    }

    /// The callback is not called any more.
    fn unwatch(&self, token: u64) {
        self.forget(token);
    }
}
