//! Tasks that fork. A child that ends by itself, as those of `multiprocessing` do, concerns nobody.
//! One that comes back from its task is a copy of the worker without its other threads, which
//! would wait for ever for a lock, or tell the scheduler things by the parent's sockets.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process, or an ancestor since the worker's, is a child of a `fork`.
static IS_CHILD: AtomicBool = AtomicBool::new(false);
static WATCH: PyOnceLock<()> = PyOnceLock::new();

#[pyfunction]
fn note_fork() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

/// Has forks of this process noticed.
pub fn watch(py: Python<'_>) -> PyResult<()> {
    let register = || {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(note_fork, py)?)?;
        py.import(intern!(py, "os"))?.call_method("register_at_fork", (), Some(&hooks))?;
        Ok(())
    };
    WATCH.get_or_try_init(py, register).copied()
}

/// After a task: ends this process if it is not the worker's, which has this number.
pub fn end_child(py: Python<'_>, worker: u32, key: impl std::fmt::Display) {
    if !IS_CHILD.load(Ordering::Relaxed) || std::process::id() == worker {
        return;
    }
    eprintln!(
        "taskloom: task {key} has forked, and its child process came back from the task too; the \
         child ends here (leave it by os._exit)"
    );
    let end = || py.import(intern!(py, "os"))?.call_method1(intern!(py, "_exit"), (1,));
    if let Err(error) = end() {
        error.write_unraisable(py, None);
    }
}
