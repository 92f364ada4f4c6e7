//! Arrays that repeat one block along an axis (`numpy.broadcast_to`): a few bytes in memory, but
//! a pickle of their full size. Only the block is written.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PySlice, PyTuple};

/// Smaller arrays are pickled as they are, in bytes.
const COMPACT_FROM: usize = 64 * 1024;

/// What makes an array again: a call of `function(block, shape)`.
pub(super) struct Broadcast<'py> {
    pub function: Bound<'py, PyAny>,
    pub block: Bound<'py, PyAny>,
    pub shape: Bound<'py, PyAny>,
}

/// `numpy.ndarray`, when numpy has been imported: else `object` is no array.
fn array_class(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if CLASS.get(py).is_none() {
        let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
        let Some(numpy) = modules.cast::<PyDict>()?.get_item(intern!(py, "numpy"))? else {
            return Ok(None);
        };
        // Half imported: not yet there.
        let Some(class) = numpy.getattr_opt(intern!(py, "ndarray"))? else { return Ok(None) };
        let _ = CLASS.set(py, class.unbind());
    }
    Ok(CLASS.get(py).map(|class| class.bind(py)))
}

/// The short form of `object`; `None` when it is no such array.
pub(super) fn compact<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Broadcast<'py>>> {
    let py = object.py();
    if !array_class(py)?.is_some_and(|class| object.get_type().is(class)) {
        return Ok(None);
    }
    if object.getattr(intern!(py, "nbytes"))?.extract::<usize>()? < COMPACT_FROM {
        return Ok(None);
    }
    let shape = object.getattr(intern!(py, "shape"))?;
    let strides: Vec<isize> = object.getattr(intern!(py, "strides"))?.extract()?;
    let lengths: Vec<usize> = shape.extract()?;
    let repeats = |(stride, length): (&isize, &usize)| *stride == 0 && *length > 1;
    if !strides.iter().zip(&lengths).any(repeats) {
        return Ok(None);
    }
    let one = strides.iter().zip(&lengths).map(|axis| match repeats(axis) {
        true => PySlice::new(py, 0, 1, 1),
        false => PySlice::full(py),
    });
    let block = object.get_item(PyTuple::new(py, one.collect::<Vec<_>>())?)?;
    let function = py.import(intern!(py, "numpy"))?.getattr(intern!(py, "broadcast_to"))?;
    Ok(Some(Broadcast { function, block, shape }))
}
