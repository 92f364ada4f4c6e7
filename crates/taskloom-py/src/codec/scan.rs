//! What an argument is made of, found out before it is written: whether futures are inside,
//! and whether it is worth to write it natively.

use hashbrown::HashSet;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};
use pyo3::{PyTypeInfo, intern};

use super::MAX_DEPTH;
use super::encode::Dependencies;

/// Containers with more items than this are pickled in one go: that is faster, and keeps shared
/// objects shared.
const NATIVE_ITEMS: usize = 64;

pub(super) struct Scan {
    pub has_dependency: bool,
    /// Everything inside has a native encoding.
    pub native: bool,
    items: usize,
    depth: usize,
    /// Containers that were looked at: a container may hold itself, or one thing many times.
    seen: HashSet<usize>,
}

impl Scan {
    pub(super) fn of(object: &Bound<'_, PyAny>, deps: &dyn Dependencies) -> PyResult<Self> {
        let mut scan = Self {
            has_dependency: false,
            native: true,
            items: 0,
            depth: 0,
            seen: HashSet::default(),
        };
        scan.visit(object, deps)?;
        scan.native &= scan.items <= NATIVE_ITEMS;
        Ok(scan)
    }

    fn visit(&mut self, object: &Bound<'_, PyAny>, deps: &dyn Dependencies) -> PyResult<()> {
        self.items += 1;
        if is_scalar(object) {
            return Ok(());
        }
        if deps.is_dependency(object) {
            self.has_dependency = true;
            return Ok(());
        }
        match kind_of(object)? {
            Kind::Other => self.native = false,
            _ if self.depth >= MAX_DEPTH => self.native = false,
            // Twice the same container: only a pickle keeps it one object.
            _ if !self.seen.insert(object.as_ptr() as usize) => self.native = false,
            kind => {
                self.depth += 1;
                self.visit_items(object, &kind, deps)?;
                self.depth -= 1;
            }
        }
        Ok(())
    }

    fn visit_items(
        &mut self,
        object: &Bound<'_, PyAny>,
        kind: &Kind,
        deps: &dyn Dependencies,
    ) -> PyResult<()> {
        if let Ok(dict) = object.cast::<PyDict>() {
            for (key, value) in dict.iter() {
                self.visit(&key, deps)?;
                self.visit(&value, deps)?;
            }
            return Ok(());
        }
        // A named tuple is written by its class, which is pickled.
        self.native &= !matches!(kind, Kind::NamedTuple);
        for item in object.try_iter()? {
            self.visit(&item?, deps)?;
        }
        Ok(())
    }
}

/// Containers that the encoding knows.
pub(super) enum Kind {
    Tuple,
    List,
    Set,
    FrozenSet,
    Dict,
    NamedTuple,
    Other,
}

pub(super) fn is_scalar(object: &Bound<'_, PyAny>) -> bool {
    object.is_none()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyBytes>()
}

pub(super) fn kind_of(object: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let py = object.py();
    let class = object.get_type();
    Ok(if class.is(PyTuple::type_object(py)) {
        Kind::Tuple
    } else if class.is(PyList::type_object(py)) {
        Kind::List
    } else if class.is(PyDict::type_object(py)) {
        Kind::Dict
    } else if class.is(PySet::type_object(py)) {
        Kind::Set
    } else if class.is(PyFrozenSet::type_object(py)) {
        Kind::FrozenSet
    } else if object.is_instance_of::<PyTuple>() && is_named_tuple(object)? {
        Kind::NamedTuple
    } else {
        Kind::Other
    })
}

/// Classes whose instances are rebuilt by calling the class with the items.
fn is_named_tuple(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = object.get_type();
    Ok(class.hasattr(intern!(object.py(), "_fields"))?
        && class.hasattr(intern!(object.py(), "_make"))?)
}
