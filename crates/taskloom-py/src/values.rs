//! Plain data of the scheduler's answers as Python objects.

use crate::keys::decode_key;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use taskloom_proto::Value;

/// The Python object of a value. Its depth is bounded by the reader of messages.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => truth.into_bound_py_any(py)?,
        Value::Int(number) => number.into_bound_py_any(py)?,
        Value::Float(number) => number.into_bound_py_any(py)?,
        Value::Text(text) => text.into_bound_py_any(py)?,
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Key(key) => decode_key(py, key)?,
        Value::List(items) => {
            let items = items.iter().map(|item| to_python(py, item));
            PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                dict.set_item(to_python(py, key)?, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}
