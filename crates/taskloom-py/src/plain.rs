//! Plain Python objects as data of messages: the other way of `values.rs`.

use crate::keys::encode_key;
use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use taskloom_proto::Value;

/// `None`, booleans, numbers, text, bytes, lists, tuples (which come back as lists) and dicts of
/// such. A tuple as a key of a dict stays one.
///
/// # Errors
/// `TypeError` for anything else, `ValueError` for what is nested too deep or too large a number.
pub fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    convert(object, 0)
}

/// A key of a dict.
///
/// # Errors
/// As [`from_python`].
pub fn map_key(key: &Bound<'_, PyAny>) -> PyResult<Value> {
    if key.is_instance_of::<PyTuple>() { Ok(Value::Key(encode_key(key)?)) } else { scalar(key) }
}

fn convert(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth >= Value::MAX_DEPTH {
        let text = format!("plain data nest at most {} levels deep", Value::MAX_DEPTH);
        return Err(PyValueError::new_err(text));
    }
    if let Ok(list) = object.cast::<PyList>() {
        return list
            .iter()
            .map(|item| convert(&item, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::List);
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        let items = tuple.iter().map(|item| convert(&item, depth + 1));
        return items.collect::<PyResult<_>>().map(Value::List);
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let entry = |(key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Ok((map_key(&key)?, convert(&value, depth + 1)?))
        };
        return dict.iter().map(entry).collect::<PyResult<_>>().map(Value::Map);
    }
    scalar(object)
}

fn scalar(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(truth) = object.cast::<PyBool>() {
        Ok(Value::Bool(truth.is_true()))
    } else if object.is_instance_of::<PyInt>() {
        let number = object
            .extract::<i64>()
            .map_err(|_| PyValueError::new_err("an integer in plain data must fit into 64 bits"))?;
        Ok(Value::Int(number))
    } else if let Ok(number) = object.cast::<PyFloat>() {
        Ok(Value::Float(number.value()))
    } else if let Ok(text) = object.cast::<PyString>() {
        Ok(Value::Text(text.to_str()?.to_string()))
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes.as_bytes())))
    } else {
        let name = object.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "plain data are None, bool, int, float, str, bytes, lists and dicts of these, not \
             {name}; to share other objects use a Variable or publish a dataset"
        )))
    }
}
