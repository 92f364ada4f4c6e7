//! Objects that many tasks of a graph have in common: functions, frames without rows, arrays.
//!
//! An object is recognised by its identity. The second time it is met its encoding is kept, so
//! that it is pickled at most twice; a large one is then sent once and referred to.

use super::lower::Session;
use hashbrown::HashMap;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFunction, PyType};
use taskloom_types::FunctionId;

/// Shorter encodings are written again each time: looking them up would take as long.
const REMEMBERED_FROM: usize = 96;

/// Encodings from this size on are sent once. Workers then share one object among the tasks;
/// smaller ones are copies, as each task of dask has its own.
const SHARED_FROM: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Constants<'py> {
    functions: HashMap<usize, (Bound<'py, PyAny>, FunctionId)>,
    /// Callables that are no plain functions, met once.
    callables: HashMap<usize, Bound<'py, PyAny>>,
    values: HashMap<usize, Constant<'py>>,
}

struct Constant<'py> {
    /// Keeps the address from being used again.
    _object: Bound<'py, PyAny>,
    /// Empty until the object is met for the second time.
    encoded: Vec<u8>,
}

fn address(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr() as usize
}

/// Functions and classes: many tasks call the same, and their pickle is a name.
fn is_plain_function(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyFunction>()
        || object.is_exact_instance_of::<PyCFunction>()
        || object.is_instance_of::<PyType>()
}

impl<'py> Constants<'py> {
    /// The id of a task's function; `None` when it is a callable that was not met before, which
    /// may be this task's own.
    pub fn function(
        &mut self,
        function: &Bound<'py, PyAny>,
        session: &mut impl Session<'py>,
    ) -> PyResult<Option<FunctionId>> {
        if let Some((_, id)) = self.functions.get(&address(function)) {
            return Ok(Some(*id));
        }
        let is_new = !is_plain_function(function)
            && self.callables.insert(address(function), function.clone()).is_none();
        if is_new {
            return Ok(None);
        }
        self.register(function, session).map(Some)
    }

    fn register(
        &mut self,
        object: &Bound<'py, PyAny>,
        session: &mut impl Session<'py>,
    ) -> PyResult<FunctionId> {
        let id = session.function(object)?;
        self.functions.insert(address(object), (object.clone(), id));
        Ok(id)
    }

    /// The id of an argument that is sent once: a function, or a large object met before.
    pub fn shared(
        &mut self,
        object: &Bound<'py, PyAny>,
        session: &mut impl Session<'py>,
    ) -> PyResult<Option<FunctionId>> {
        if let Some((_, id)) = self.functions.get(&address(object)) {
            return Ok(Some(*id));
        }
        let is_large =
            self.values.get(&address(object)).is_some_and(|c| c.encoded.len() >= SHARED_FROM);
        if is_large {
            self.values.remove(&address(object));
        } else if !is_plain_function(object) {
            return Ok(None);
        }
        self.register(object, session).map(Some)
    }

    /// The bytes of an object that was met at least twice.
    pub fn encoded(&self, object: &Bound<'py, PyAny>) -> Option<&[u8]> {
        let constant = self.values.get(&address(object))?;
        (!constant.encoded.is_empty()).then_some(&constant.encoded)
    }

    /// Notes how an object was encoded. The encoding must not refer to its task.
    pub fn remember(&mut self, object: &Bound<'py, PyAny>, encoded: &[u8]) {
        if encoded.len() < REMEMBERED_FROM {
            return;
        }
        match self.values.entry(address(object)) {
            hashbrown::hash_map::Entry::Occupied(mut known) => {
                known.get_mut().encoded = encoded.to_vec();
            }
            hashbrown::hash_map::Entry::Vacant(free) => {
                free.insert(Constant { _object: object.clone(), encoded: Vec::new() });
            }
        }
    }
}
