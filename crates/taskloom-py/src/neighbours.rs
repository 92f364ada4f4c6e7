//! Workers of this process: their results are handed over as they are, without a copy, so that
//! they need not be picklable.

use crate::running::object_of;
use crate::worker::Inner;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::{Arc, Weak};
use taskloom_types::TaskId;

static WORKERS: Mutex<Vec<(String, Weak<Inner>)>> = Mutex::new(Vec::new());

/// A worker of this process serves at an address.
pub fn add(address: &str, worker: &Arc<Inner>) {
    let mut workers = WORKERS.lock();
    workers.retain(|(_, worker)| worker.strong_count() > 0);
    workers.push((address.to_string(), Arc::downgrade(worker)));
}

/// Whether there may be any.
#[must_use]
pub fn exist() -> bool {
    !WORKERS.lock().is_empty()
}

/// The result of a task that a worker of this process holds.
#[must_use]
pub fn object(py: Python<'_>, address: &str, task: TaskId) -> Option<Py<PyAny>> {
    let worker = {
        let workers = WORKERS.lock();
        let (_, worker) = workers.iter().find(|(its, _)| its == address)?;
        worker.upgrade()?
    };
    let value = worker.shell.value(task)?;
    // What cannot be read here goes the way of other results, which says why.
    object_of(py, &value).ok()
}
