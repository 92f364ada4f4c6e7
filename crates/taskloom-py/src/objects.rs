//! Python objects that threads without Python pass around.

use crate::numpy_memory::{NonZeroAddress, lendable};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use taskloom_data::shared;
use taskloom_runtime::worker::LocalObject;

/// A Python object behind a counter that any thread may change. The last one is dropped by a
/// thread that is attached to the interpreter: see the worker's garbage.
#[derive(Debug, Clone)]
pub struct Object(Arc<Held>);

#[derive(Debug)]
struct Held {
    object: Py<PyAny>,
    /// An address within memory that readers in other processes may see as it is; 0: none.
    /// Changed by threads that are attached to the interpreter.
    lent: AtomicUsize,
}

impl LocalObject for Object {}

impl Object {
    #[must_use]
    pub fn new(object: Py<PyAny>) -> Self {
        Self(Arc::new(Held { object, lent: AtomicUsize::new(0) }))
    }

    /// For somebody who may change the object.
    #[must_use]
    pub fn clone_ref(&self, py: Python<'_>) -> Py<PyAny> {
        self.end_lending();
        self.0.object.clone_ref(py)
    }

    /// For somebody who may change the object.
    #[must_use]
    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end_lending();
        self.0.object.bind(py).clone()
    }

    /// For somebody who only encodes the object and does not keep it.
    #[must_use]
    pub fn peek<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.object.bind(py).clone()
    }

    /// Whether its memory may be lent as it is: nobody else can change it, and before anybody gets
    /// to know the object its readers are given what they have for good.
    #[must_use]
    pub fn lend(&self, py: Python<'_>) -> bool {
        let address = lendable(&self.peek(py));
        self.0.lent.store(address.map_or(0, NonZeroAddress::get), Ordering::Relaxed);
        address.is_some()
    }

    fn end_lending(&self) {
        if self.0.lent.load(Ordering::Relaxed) != 0 {
            shared::keep_as_is(self.0.lent.swap(0, Ordering::Relaxed));
        }
    }
}
