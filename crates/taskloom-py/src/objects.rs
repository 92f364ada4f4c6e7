//! Python objects that threads without Python pass around.

use pyo3::prelude::*;
use std::sync::Arc;
use taskloom_runtime::worker::LocalObject;

/// A Python object behind a counter that any thread may change. The last one is dropped by a
/// thread that is attached to the interpreter: see the worker's garbage.
#[derive(Debug, Clone)]
pub struct Object(Arc<Py<PyAny>>);

impl LocalObject for Object {}

impl Object {
    #[must_use]
    pub fn new(object: Py<PyAny>) -> Self {
        Self(Arc::new(object))
    }

    #[must_use]
    pub fn clone_ref(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.clone_ref(py)
    }

    #[must_use]
    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.bind(py).clone()
    }
}
