//! A task's call, made in the client's process.

use crate::codec::{Work, decode_body};
use crate::functions::load_function;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

type Call<'py> = (Option<Bound<'py, PyAny>>, Bound<'py, PyAny>, Bound<'py, PyDict>);

/// The call of a task as ``(function, args, kwargs)``; ``None`` and the value when there is none.
///
/// Steps that come before the call are taken here.
#[pyfunction]
fn load_call<'py>(
    py: Python<'py>,
    functions: Vec<Bound<'py, PyBytes>>,
    body: &Bound<'py, PyBytes>,
    inputs: Vec<Py<PyAny>>,
) -> PyResult<Call<'py>> {
    let functions = functions.iter().map(|payload| load_function(py, payload.as_bytes()));
    let functions =
        functions.map(|function| Ok(function?.unbind())).collect::<PyResult<Vec<_>>>()?;
    Ok(match decode_body(py, body.as_bytes(), &functions, &inputs)? {
        Work::Value(value) => (None, value, PyDict::new(py)),
        Work::Call { function, args, kwargs } => {
            let args: Bound<'py, PyTuple> = args;
            (Some(function), args.into_any(), kwargs.unwrap_or_else(|| PyDict::new(py)))
        }
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(load_call, module)?)
}
