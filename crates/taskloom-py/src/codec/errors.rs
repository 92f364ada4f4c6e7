//! Exceptions as [`ErrorInfo`] and back. Rare, so the work is done in Python
//! (`taskloom._remote_errors`).

use crate::keys::decode_key;
use bytes::Bytes;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use taskloom_proto::ErrorInfo;

fn module(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(py.import(intern!(py, "taskloom._remote_errors"))?.into_any())
}

/// What is known when even describing the exception fails.
fn bare(py: Python<'_>, error: &PyErr) -> ErrorInfo {
    let name = error.get_type(py).name().map_or_else(|_| "Exception".into(), |n| n.to_string());
    let message = "the exception could not be described".to_string();
    ErrorInfo { type_name: name, message, ..ErrorInfo::default() }
}

type Dumped = (Vec<u8>, Vec<u8>, String, String, String, Vec<String>);

/// Describes an exception so that any process can read it. Never fails: what cannot be pickled,
/// or not be unpickled, becomes text.
#[must_use]
pub fn encode_error(py: Python<'_>, error: &PyErr) -> ErrorInfo {
    let dump = || -> PyResult<Dumped> {
        // Caught exceptions hold their traceback beside the object.
        if let Some(traceback) = error.traceback(py) {
            error.value(py).setattr(intern!(py, "__traceback__"), traceback)?;
        }
        module(py)?.call_method1(intern!(py, "dump_error"), (error.value(py),))?.extract()
    };
    match dump() {
        Ok((exception, traceback, type_name, message, traceback_text, types)) => ErrorInfo {
            exception: Bytes::from(exception),
            traceback: Bytes::from(traceback),
            type_name,
            message,
            traceback_text,
            types,
            ..ErrorInfo::default()
        },
        Err(_) => bare(py, error),
    }
}

/// The exception to raise: the original when it can be unpickled, with the remote traceback.
#[must_use]
pub fn decode_error(py: Python<'_>, error: &ErrorInfo) -> PyErr {
    let load = || -> PyResult<PyErr> {
        let arguments = (
            &error.exception[..],
            &error.traceback[..],
            &error.type_name,
            &error.message,
            &error.traceback_text,
            error.origin.as_ref().and_then(|key| decode_key(py, key).ok()),
            &error.worker,
        );
        let value = module(py)?.call_method1(intern!(py, "load_error"), arguments)?;
        Ok(PyErr::from_value(value.cast_into::<PyBaseException>()?.into_any()))
    };
    load().unwrap_or_else(|_| {
        PyRuntimeError::new_err(format!("{}: {}", error.type_name, error.message))
    })
}
