//! The runtime's failures as Python exceptions: the only mapping.

use crate::codec::decode_error;
use crate::keys::decode_key;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{IntoPyObjectExt, intern};
use taskloom_runtime::client::{Cancellation, Gathered, Outcome};
use taskloom_types::Key;

/// An instance of a class of `taskloom.errors`.
pub fn raise<'py>(
    py: Python<'py>,
    class: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyErr {
    let make = || -> PyResult<Bound<'py, PyAny>> {
        py.import(intern!(py, "taskloom.errors"))?.getattr(class)?.call1(arguments)
    };
    match make() {
        Ok(value) => PyErr::from_value(value),
        Err(error) => error,
    }
}

/// The client is closed; the text says why.
pub fn closed(py: Python<'_>, reason: &str) -> PyErr {
    raise(py, "ClosedClientError", (format!("the client is closed: {reason}"),))
}

fn cancelled(py: Python<'_>, why: &Cancellation, key: &Key) -> PyErr {
    let key = decode_key(py, key).ok();
    let message = (!why.message.is_empty()).then_some(&why.message);
    raise(py, "FutureCancelledError", (key, &why.reason, message))
}

/// The future let go of its result.
pub fn released(py: Python<'_>, key: &Key) -> PyErr {
    let why = Cancellation { reason: "released".into(), ..Cancellation::default() };
    cancelled(py, &why, key)
}

fn refused(py: Python<'_>, text: &str) -> PyErr {
    raise(py, "KeyCollisionError", (text,))
}

/// The exception of a future that failed.
#[must_use]
pub fn failure(py: Python<'_>, outcome: &Outcome, key: &Key) -> Option<PyErr> {
    match outcome {
        Outcome::Pending | Outcome::Inline(_) | Outcome::Remote { .. } => None,
        Outcome::Erred(error) => Some(decode_error(py, error)),
        Outcome::Cancelled(why) => Some(cancelled(py, why, key)),
        Outcome::Refused(text) => Some(refused(py, text)),
    }
}

/// The exception of a gathered future that failed.
#[must_use]
pub fn gather_failure(py: Python<'_>, gathered: &Gathered, key: &Key) -> Option<PyErr> {
    match gathered {
        Gathered::Value(_) | Gathered::Inline(_) => None,
        Gathered::Erred(error) => Some(decode_error(py, error)),
        Gathered::Cancelled(why) => Some(cancelled(py, why, key)),
        Gathered::Refused(text) => Some(refused(py, text)),
    }
}

/// The exception for a question that the scheduler did not answer.
#[must_use]
pub fn answer_error(py: Python<'_>, kind: &str, text: &str) -> PyErr {
    let arguments = PyTuple::new(py, [text.into_py_any(py).ok()]);
    match (kind, arguments) {
        ("timeout", Ok(_)) => pyo3::exceptions::PyTimeoutError::new_err(text.to_string()),
        ("closed", Ok(_)) => closed(py, text),
        _ => raise(py, "SchedulerError", (text, kind)),
    }
}
