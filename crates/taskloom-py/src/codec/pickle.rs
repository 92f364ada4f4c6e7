//! Pickle protocol 5: the C pickler first, cloudpickle where it is needed.

use super::SEGMENT_FROM;
use super::buffers::{SegmentBuffer, share_pickle_buffer};
use crate::turn::Turn;
use bytes::Bytes;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::{PyTypeInfo, intern};

/// The callables of the two modules, looked up once.
struct Functions {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    pickling_error: Py<PyAny>,
}

static FUNCTIONS: PyOnceLock<Functions> = PyOnceLock::new();
static CLOUDPICKLE_DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn functions(py: Python<'_>) -> PyResult<&Functions> {
    FUNCTIONS.get_or_try_init(py, || {
        // The C module itself: `pickle` would import half of the standard library.
        let module = py.import("_pickle")?;
        Ok(Functions {
            dumps: module.getattr("dumps")?.unbind(),
            loads: module.getattr("loads")?.unbind(),
            pickling_error: module.getattr("PicklingError")?.unbind(),
        })
    })
}

/// Whether the user registered modules whose functions and classes must travel by value.
fn has_by_value_modules(py: Python<'_>) -> PyResult<bool> {
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let modules = modules.cast_into::<PyDict>()?;
    let Some(module) = modules.get_item(intern!(py, "cloudpickle"))? else { return Ok(false) };
    let list = module.getattr_opt(intern!(py, "list_registry_pickle_by_value"))?;
    list.map_or(Ok(false), |list| list.call0()?.is_truthy())
}

/// A finished pickle.
pub struct Pickled<'py> {
    pub head: Bound<'py, PyBytes>,
    /// Out-of-band buffers, each with whether it was writable.
    pub buffers: Vec<(Bytes, bool)>,
}

/// Decides per buffer whether it goes out of band: small ones are cheaper inside the pickle.
#[pyclass(frozen)]
struct BufferSorter {
    large: Py<PyList>,
}

#[pymethods]
impl BufferSorter {
    /// The pickler's `buffer_callback`: true keeps the buffer inside the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let raw = buffer.call_method0(intern!(buffer.py(), "raw"));
        // A buffer that is not contiguous has no flat view.
        let Ok(raw) = raw else { return Ok(true) };
        let is_small = raw.len()? < SEGMENT_FROM;
        if !is_small {
            self.large.bind(buffer.py()).append(buffer)?;
        }
        Ok(is_small)
    }
}

fn call_dumps<'py>(
    dumps: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
    sorter: Option<&Bound<'py, BufferSorter>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let result = match sorter {
        None => dumps.call1((object, 5))?,
        Some(sorter) => {
            let kwargs = PyDict::new(py);
            kwargs.set_item(intern!(py, "buffer_callback"), sorter)?;
            dumps.call((object, 5), Some(&kwargs))?
        }
    };
    Ok(result.cast_into::<PyBytes>()?)
}

/// Errors by which the plain pickler says that it does not know this kind of object. Others come
/// from the object's own methods and are the user's to see.
fn wants_cloudpickle(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.is_instance(py, functions(py)?.pickling_error.bind(py))
        || error.is_instance(py, &PyTypeError::type_object(py))
        || error.is_instance(py, &PyAttributeError::type_object(py)))
}

/// Names in `__main__` mean another module in a worker, so such objects travel by value.
fn names_main(pickle: &[u8]) -> bool {
    memchr::memmem::find(pickle, b"__main__").is_some()
}

fn with_cloudpickle<'py>(
    object: &Bound<'py, PyAny>,
    sorter: Option<&Bound<'py, BufferSorter>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let dumps = CLOUDPICKLE_DUMPS.get_or_try_init(py, || {
        PyResult::Ok(py.import("cloudpickle")?.getattr("dumps")?.unbind())
    })?;
    call_dumps(dumps.bind(py), object, sorter)
}

fn dumps_with<'py>(
    object: &Bound<'py, PyAny>,
    large: Option<&Bound<'py, PyList>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let sorter = large
        .map(|large| Bound::new(py, BufferSorter { large: large.clone().unbind() }))
        .transpose()?;
    if !has_by_value_modules(py)? {
        match call_dumps(functions(py)?.dumps.bind(py), object, sorter.as_ref()) {
            Ok(pickle) if !names_main(pickle.as_bytes()) => return Ok(pickle),
            Ok(_) => {}
            Err(error) if wants_cloudpickle(py, &error)? => {}
            Err(error) => return Err(error),
        }
        // The first try may have collected buffers.
        if let Some(large) = large {
            large.set_slice(0, large.len(), PyList::empty(py).as_any())?;
        }
    }
    with_cloudpickle(object, sorter.as_ref())
}

/// Pickles in one piece.
pub fn dumps<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    dumps_with(object, None)
}

/// Pickles with large buffers beside the pickle.
pub fn dumps_out_of_band<'py>(object: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let large = PyList::empty(object.py());
    let head = dumps_with(object, Some(&large))?;
    let buffers =
        large.iter().map(|buffer| share_pickle_buffer(&buffer)).collect::<Result<_, _>>()?;
    Ok(Pickled { head, buffers })
}

/// Reads a pickle in one piece.
pub fn loads<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let _turn = Turn::take(py);
    functions(py)?.loads.bind(py).call1((PyBytes::new(py, pickle),))
}

/// Reads a pickle whose large buffers are beside it.
pub fn loads_with_buffers<'py>(
    py: Python<'py>,
    pickle: Bound<'py, PyBytes>,
    buffers: Vec<SegmentBuffer>,
) -> PyResult<Bound<'py, PyAny>> {
    let buffers = buffers.into_iter().map(|buffer| Bound::new(py, buffer));
    let buffers = buffers.collect::<PyResult<Vec<_>>>()?;
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "buffers"), PyTuple::new(py, buffers)?)?;
    let _turn = Turn::take(py);
    functions(py)?.loads.bind(py).call((pickle,), Some(&kwargs))
}
