//! Keys: Python's text, numbers and tuples as [`Key`] and back, and keys made from calls.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString, PyTuple};
use taskloom_types::{FunctionId, Key};
use xxhash_rust::xxh3::xxh3_128;

/// Tuples in keys nest at most this deep.
const MAX_DEPTH: usize = 16;

fn wrong_type(object: &Bound<'_, PyAny>) -> PyErr {
    let name = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "a key is a str, bytes, int, float or a tuple of these, not {name}"
    ))
}

fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> PyResult<()> {
    if let Ok(text) = object.cast::<PyString>() {
        out.push(b's');
        out.extend_from_slice(text.to_str()?.as_bytes());
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        out.push(b'b');
        out.extend_from_slice(bytes.as_bytes());
    } else if let Ok(tuple) = object.cast::<PyTuple>() {
        if depth >= MAX_DEPTH {
            return Err(PyValueError::new_err("the tuples of a key are nested too deep"));
        }
        out.push(b't');
        for part in tuple.iter() {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            write(&part, out, depth + 1)?;
            let length = (out.len() - start - 4) as u32;
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        }
    } else if let Ok(number) = object.extract::<i64>() {
        out.push(b'i');
        out.extend_from_slice(number.to_string().as_bytes());
    } else if object.is_instance_of::<PyInt>() {
        out.push(b'i');
        out.extend_from_slice(object.str()?.to_str()?.as_bytes());
    } else if let Ok(number) = object.cast::<PyFloat>() {
        out.push(b'f');
        // Of the plain number: subclasses print in their own way.
        let plain = PyFloat::new(object.py(), number.value());
        out.extend_from_slice(plain.repr()?.to_str()?.as_bytes());
    } else {
        return Err(wrong_type(object));
    }
    if out.len() > Key::MAX_BYTES {
        return Err(PyValueError::new_err(format!(
            "a key takes at most {} bytes; this one is longer",
            Key::MAX_BYTES
        )));
    }
    Ok(())
}

/// A Python key, encoded.
///
/// # Errors
/// `TypeError` or `ValueError` that says what a key is.
pub fn encode_key(object: &Bound<'_, PyAny>) -> PyResult<Key> {
    let mut out = Vec::with_capacity(64);
    write(object, &mut out, 0)?;
    Ok(Key::from_encoded(&out))
}

fn damaged() -> PyErr {
    PyValueError::new_err("damaged key")
}

fn read<'py>(py: Python<'py>, bytes: &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let (tag, body) = bytes.split_first().ok_or_else(damaged)?;
    let text = || std::str::from_utf8(body).map_err(|_| damaged());
    Ok(match tag {
        b's' => PyString::new(py, text()?).into_any(),
        b'b' => PyBytes::new(py, body).into_any(),
        b'i' => match text()?.parse::<i64>() {
            Ok(number) => PyInt::new(py, number).into_any(),
            Err(_) => py.get_type::<PyInt>().call1((text()?,))?,
        },
        b'f' => py.get_type::<PyFloat>().call1((text()?,))?,
        b't' if depth < MAX_DEPTH => {
            let mut parts = Vec::new();
            let mut rest = body;
            while !rest.is_empty() {
                let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
                let length = u32::from_le_bytes(*length) as usize;
                let (part, tail) = tail.split_at_checked(length).ok_or_else(damaged)?;
                parts.push(read(py, part, depth + 1)?);
                rest = tail;
            }
            PyTuple::new(py, parts)?.into_any()
        }
        _ => return Err(damaged()),
    })
}

/// The Python object of a key.
pub fn decode_key<'py>(py: Python<'py>, key: &Key) -> PyResult<Bound<'py, PyAny>> {
    read(py, key.as_bytes(), 0)
}

/// The hash of a call: of its function, its encoded arguments, and the keys of the futures and
/// the ids of the large objects in them. `scratch` is overwritten.
#[must_use]
pub fn call_token<'a>(
    function: FunctionId,
    body: &[u8],
    deps: impl Iterator<Item = &'a Key>,
    large: impl Iterator<Item = FunctionId>,
    scratch: &mut Vec<u8>,
) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&function.0.to_le_bytes());
    scratch.extend_from_slice(body);
    for key in deps {
        scratch.extend_from_slice(&(key.as_bytes().len() as u32).to_le_bytes());
        scratch.extend_from_slice(key.as_bytes());
    }
    large.for_each(|id| scratch.extend_from_slice(&id.0.to_le_bytes()));
    xxh3_128(scratch)
}

/// `prefix-token` as text key.
#[must_use]
pub fn token_key(prefix: &str, token: u128) -> Key {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = Vec::with_capacity(prefix.len() + 34);
    bytes.push(b's');
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.push(b'-');
    bytes.extend((0..32).rev().map(|i| DIGITS[(token >> (4 * i)) as usize & 15]));
    Key::from_encoded(&bytes)
}
