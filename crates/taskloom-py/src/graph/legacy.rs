//! Graphs of tuples, as dask wrote them before it had nodes: `(function, argument, …)`, where an
//! argument that equals a key of the graph stands for that key's value.
//!
//! Tuples, lists and scalars are read natively. A task with anything else that may hide a key is
//! converted by dask, so that its rules hold in every corner.

use super::nodes::NodeTypes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyBytes, PyCFunction, PyDict, PyFloat, PyFrozenSet, PyFunction, PyInt, PyList, PySet,
    PyString, PyTuple,
};

/// Deeper specs are left to dask.
const MAX_NESTING: usize = 16;

/// What a part of a task is.
pub(super) enum Part<'a, 'py> {
    Call(&'a Bound<'py, PyTuple>),
    Key,
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
    Literal,
    /// Only dask knows.
    Unusual,
}

/// The keys of the graph: an index that may go on with other keys.
pub(super) struct Keys<'a, 'py> {
    pub index: &'a Bound<'py, PyDict>,
    /// Keys of the graph have smaller numbers.
    pub count: usize,
}

impl<'py> Keys<'_, 'py> {
    pub fn number(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<u32>> {
        match self.index.get_item(object) {
            Ok(None) => Ok(None),
            Ok(Some(number)) => {
                Ok(Some(number.extract::<u32>()?).filter(|&n| (n as usize) < self.count))
            }
            // A tuple with something unhashable in it is no key.
            Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What `object` is in a task.
    pub fn part<'a>(&self, object: &'a Bound<'py, PyAny>) -> PyResult<Part<'a, 'py>> {
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            if tuple.get_borrowed_item(0).is_ok_and(|first| first.is_callable()) {
                return Ok(Part::Call(tuple));
            }
            return Ok(match self.number(object)? {
                Some(_) => Part::Key,
                None => Part::Tuple(tuple),
            });
        }
        if let Ok(list) = object.cast_exact::<PyList>() {
            return Ok(Part::List(list));
        }
        let may_be_key = object.is_exact_instance_of::<PyString>()
            || object.is_exact_instance_of::<PyInt>()
            || object.is_exact_instance_of::<PyFloat>()
            || object.is_exact_instance_of::<PyBool>();
        if may_be_key {
            return Ok(if self.number(object)?.is_some() { Part::Key } else { Part::Literal });
        }
        let is_literal = object.is_none()
            || object.is_exact_instance_of::<PyFunction>()
            || object.is_exact_instance_of::<PyCFunction>()
            || object.is_exact_instance_of::<PyBytes>();
        if is_literal {
            return Ok(Part::Literal);
        }
        Ok(if is_unusual(object)? { Part::Unusual } else { Part::Literal })
    }

    /// Adds the numbers of the keys in `object`; false when only dask can tell.
    pub fn inputs(
        &self,
        object: &Bound<'py, PyAny>,
        edges: &mut Vec<u32>,
        nesting: usize,
    ) -> PyResult<bool> {
        if nesting > MAX_NESTING {
            return Ok(false);
        }
        match self.part(object)? {
            Part::Literal => Ok(true),
            Part::Unusual => Ok(false),
            Part::Key => {
                edges.extend(self.number(object)?);
                Ok(true)
            }
            Part::List(items) => self.all(items.iter(), edges, nesting),
            Part::Tuple(items) => self.all(items.iter(), edges, nesting),
            Part::Call(call) => self.all(call.iter().skip(1), edges, nesting),
        }
    }

    fn all(
        &self,
        mut items: impl Iterator<Item = Bound<'py, PyAny>>,
        edges: &mut Vec<u32>,
        nesting: usize,
    ) -> PyResult<bool> {
        items.try_fold(true, |native, item| Ok(native && self.inputs(&item, edges, nesting + 1)?))
    }
}

/// Whether `object` may hide keys or futures in a way that is not handled here.
fn is_unusual(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_subclass = object.is_instance_of::<PyTuple>()
        || object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyDict>()
        || object.is_instance_of::<PySet>()
        || object.is_instance_of::<PyFrozenSet>()
        || object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyInt>()
        || object.is_instance_of::<PyFloat>();
    if is_subclass {
        return Ok(true);
    }
    let py = object.py();
    let types = NodeTypes::get(py)?;
    Ok(object.is_instance(types.task_ref.bind(py))?
        || object.is_instance(types.graph_node.bind(py))?
        || object.get_type().hasattr(intern!(py, "__dask_future__"))?)
}

/// Converts one task as dask does; `graph` has all keys.
pub(super) fn convert<'py>(
    key: &Bound<'py, PyAny>,
    spec: &Bound<'py, PyAny>,
    graph: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    static CONVERT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = key.py();
    let convert = CONVERT.get_or_try_init(py, || {
        PyResult::Ok(py.import("taskloom._graph")?.getattr("convert_task")?.unbind())
    })?;
    convert.bind(py).call1((key, spec, graph))
}
