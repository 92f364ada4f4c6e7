//! Functions on their way to workers: pickled once, then named by the hash of their pickle.

use crate::codec::pickle_dumps;
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyCFunction, PyCode, PyDict, PyFloat, PyFunction, PyInt, PyModule, PyString,
    PyTuple, PyType, PyWeakrefReference,
};
use std::sync::Arc;
use taskloom_runtime::client::FunctionSpec;
use taskloom_types::FunctionId;
use xxhash_rust::xxh3::xxh3_128;

/// Pickles of so many functions are kept.
const CACHED: usize = 1024;

/// `CO_COROUTINE | CO_ITERABLE_COROUTINE` of a code object.
const COROUTINE_FLAGS: u32 = 0x80 | 0x100;

/// A function that was pickled, and how to tell that the pickle still holds.
struct Cached {
    function: Py<PyWeakrefReference>,
    spec: Arc<FunctionSpec>,
    /// Name in keys.
    prefix: Arc<str>,
    /// What the function's code refers to, by identity. Other objects in their places mean
    /// another pickle.
    referred: Vec<Py<PyAny>>,
    used: u64,
}

/// A function ready to be sent.
#[derive(Clone)]
pub struct Known {
    pub spec: Arc<FunctionSpec>,
    /// The name that keys begin with, as Dask's `funcname` gives it.
    pub prefix: Arc<str>,
}

/// The cache, by address. Functions are held weakly.
#[derive(Default)]
pub struct FunctionCache {
    entries: Mutex<(HashMap<usize, Cached>, u64)>,
}

/// What a function's code refers to, as far as it can be told by identity whether it changed.
struct Referred<'py> {
    objects: Vec<Bound<'py, PyAny>>,
    /// Something inside may change in place, which identity does not show.
    is_mutable: bool,
    depth: usize,
}

impl<'py> Referred<'py> {
    fn of(function: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut referred = Self { objects: Vec::new(), is_mutable: false, depth: 0 };
        referred.visit(function)?;
        Ok(referred)
    }

    fn visit(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        if object.is_exact_instance_of::<PyFunction>() {
            return self.visit_function(object);
        }
        self.is_mutable |= !is_constant(object);
        Ok(())
    }

    fn add(&mut self, object: Bound<'py, PyAny>) -> PyResult<()> {
        if self.objects.iter().any(|seen| seen.is(&object)) {
            return Ok(());
        }
        self.objects.push(object.clone());
        if self.depth > 8 || self.objects.len() > 64 {
            self.is_mutable = true;
            return Ok(());
        }
        self.depth += 1;
        self.visit(&object)?;
        self.depth -= 1;
        Ok(())
    }

    fn visit_function(&mut self, function: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = function.py();
        let code = function.getattr(intern!(py, "__code__"))?;
        self.objects.push(code.clone());
        if is_importable(function)? {
            return Ok(());
        }
        for name in [intern!(py, "__defaults__"), intern!(py, "__kwdefaults__")] {
            let defaults = function.getattr(name)?;
            if !defaults.is_none() {
                self.add(defaults)?;
            }
        }
        let cells = function.getattr(intern!(py, "__closure__"))?;
        if let Ok(cells) = cells.cast::<PyTuple>() {
            for cell in cells.iter() {
                // An empty cell has no contents yet.
                match cell.getattr(intern!(py, "cell_contents")) {
                    Ok(content) => self.add(content)?,
                    Err(_) => self.is_mutable = true,
                }
            }
        }
        let globals = function.getattr(intern!(py, "__globals__"))?.cast_into::<PyDict>()?;
        self.visit_globals(&code, &globals)
    }

    fn visit_globals(
        &mut self,
        code: &Bound<'py, PyAny>,
        globals: &Bound<'py, PyDict>,
    ) -> PyResult<()> {
        let py = code.py();
        for name in code.getattr(intern!(py, "co_names"))?.cast::<PyTuple>()?.iter() {
            if let Some(value) = globals.get_item(name)? {
                self.add(value)?;
            }
        }
        // Functions inside the function have code objects of their own.
        for constant in code.getattr(intern!(py, "co_consts"))?.cast::<PyTuple>()?.iter() {
            if constant.is_exact_instance_of::<PyCode>() {
                self.visit_globals(&constant, globals)?;
            }
        }
        Ok(())
    }
}

/// Objects whose content does not change while they are the same object. Classes count: that one
/// is changed in place after use is rare, and defining it anew makes another object.
fn is_constant(object: &Bound<'_, PyAny>) -> bool {
    let is_scalar = object.is_none()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyBytes>();
    let is_tuple = || {
        let tuple = object.cast_exact::<PyTuple>();
        tuple.is_ok_and(|tuple| tuple.iter().all(|item| is_constant(&item)))
    };
    is_scalar
        || object.is_instance_of::<PyModule>()
        || object.is_instance_of::<PyType>()
        || is_free_builtin(object)
        || object.is_exact_instance_of::<PyCode>()
        || is_tuple()
}

/// A builtin function that is bound to no object but its module.
fn is_free_builtin(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyCFunction>()
        && object
            .getattr(intern!(object.py(), "__self__"))
            .is_ok_and(|owner| owner.is_none() || owner.is_instance_of::<PyModule>())
}

/// Whether the function is found under its name in its module, which is not `__main__`.
fn is_importable(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = function.py();
    let Some(module) = function.getattr_opt(intern!(py, "__module__"))? else { return Ok(false) };
    let Ok(name) = module.extract::<String>() else { return Ok(false) };
    if name == "__main__" {
        return Ok(false);
    }
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let Ok(mut found) = modules.get_item(&module) else { return Ok(false) };
    let qualname: String = function.getattr(intern!(py, "__qualname__"))?.extract()?;
    for part in qualname.split('.') {
        match found.getattr_opt(part)? {
            Some(inner) => found = inner,
            None => return Ok(false),
        }
    }
    Ok(found.is(function))
}

/// Whether calling it gives a coroutine; looks through `functools.partial`.
fn is_coroutine(function: &Bound<'_, PyAny>) -> bool {
    let py = function.py();
    let mut inner = function.clone();
    for _ in 0..8 {
        let code = match inner.getattr(intern!(py, "__code__")) {
            Ok(code) => code,
            // A partial's function, or what a method wraps.
            Err(_) => match inner.getattr_opt(intern!(py, "func")) {
                Ok(Some(next)) if !inner.is_instance_of::<PyType>() => {
                    inner = next;
                    continue;
                }
                _ => return false,
            },
        };
        let flags = code.getattr(intern!(py, "co_flags")).and_then(|flags| flags.extract::<u32>());
        return flags.is_ok_and(|flags| flags & COROUTINE_FLAGS != 0);
    }
    false
}

/// The name that keys begin with: of the innermost function, `lambda` for lambdas, at most 50
/// characters.
fn key_prefix(function: &Bound<'_, PyAny>) -> String {
    let py = function.py();
    let mut inner = function.clone();
    for _ in 0..8 {
        match inner.getattr_opt(intern!(py, "func")) {
            Ok(Some(next)) if next.is_callable() && !inner.is_instance_of::<PyType>() => {
                inner = next;
            }
            _ => break,
        }
    }
    let name = inner
        .getattr(intern!(py, "__name__"))
        .or_else(|_| inner.get_type().getattr(intern!(py, "__name__")))
        .and_then(|name| name.extract::<String>())
        .unwrap_or_else(|_| "task".into());
    if name.contains("lambda") {
        return "lambda".into();
    }
    name.chars().take(50).collect()
}

/// For people: module and qualified name.
fn display_name(function: &Bound<'_, PyAny>) -> String {
    let py = function.py();
    let name = function.getattr(intern!(py, "__qualname__")).and_then(|name| name.extract());
    name.unwrap_or_else(|_| key_prefix(function))
}

fn pickle(function: &Bound<'_, PyAny>) -> PyResult<Known> {
    let payload = pickle_dumps(function)?;
    let spec = FunctionSpec {
        id: FunctionId(xxh3_128(payload.as_bytes())),
        name: display_name(function),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        is_coroutine: is_coroutine(function),
    };
    Ok(Known { spec: Arc::new(spec), prefix: key_prefix(function).into() })
}

impl FunctionCache {
    /// The function's pickle, from the cache when it cannot have changed.
    ///
    /// # Errors
    /// What pickling it raises.
    pub fn get(&self, function: &Bound<'_, PyAny>) -> PyResult<Known> {
        let may_cache = function.is_exact_instance_of::<PyFunction>()
            || is_free_builtin(function)
            || function.is_instance_of::<PyType>();
        if !may_cache {
            return pickle(function);
        }
        let referred = Referred::of(function)?;
        if let Some(known) = self.find(function, &referred) {
            return Ok(known);
        }
        let known = pickle(function)?;
        if !referred.is_mutable {
            self.insert(function, &known, referred)?;
        }
        Ok(known)
    }

    fn find(&self, function: &Bound<'_, PyAny>, referred: &Referred<'_>) -> Option<Known> {
        if referred.is_mutable {
            return None;
        }
        let mut guard = self.entries.lock();
        let (entries, clock) = &mut *guard;
        let cached = entries.get_mut(&(function.as_ptr() as usize))?;
        let is_same = cached.function.bind(function.py()).upgrade().is_some_and(|f| f.is(function))
            && cached.referred.len() == referred.objects.len()
            && cached.referred.iter().zip(&referred.objects).all(|(a, b)| a.is(b));
        if !is_same {
            return None;
        }
        *clock += 1;
        cached.used = *clock;
        Some(Known { spec: cached.spec.clone(), prefix: cached.prefix.clone() })
    }

    fn insert(
        &self,
        function: &Bound<'_, PyAny>,
        known: &Known,
        referred: Referred<'_>,
    ) -> PyResult<()> {
        let weak = PyWeakrefReference::new(function)?.unbind();
        let referred = referred.objects.into_iter().map(Bound::unbind).collect();
        let (spec, prefix) = (known.spec.clone(), known.prefix.clone());
        // What is evicted is dropped after the lock: a destructor may run Python code.
        let _evicted: Vec<Cached> = {
            let mut guard = self.entries.lock();
            let (entries, clock) = &mut *guard;
            *clock += 1;
            let cached = Cached { function: weak, spec, prefix, referred, used: *clock };
            let mut evicted = Vec::new();
            if entries.len() >= CACHED {
                let keep_from = *clock - (CACHED as u64) / 2;
                let old = entries.extract_if(|_, cached| cached.used < keep_from);
                evicted.extend(old.map(|(_, cached)| cached));
            }
            evicted.extend(entries.insert(function.as_ptr() as usize, cached));
            evicted
        };
        Ok(())
    }
}

/// An object that many tasks have in common, sent once like a function.
///
/// # Errors
/// What pickling it raises.
pub fn constant(object: &Bound<'_, PyAny>) -> PyResult<Arc<FunctionSpec>> {
    constant_of_pickle(object, pickle_dumps(object)?.as_bytes())
}

/// As [`constant`], of an object whose pickle is there.
///
/// # Errors
/// `ValueError` when it is too large for a message.
pub fn constant_of_pickle(object: &Bound<'_, PyAny>, pickle: &[u8]) -> PyResult<Arc<FunctionSpec>> {
    const MAX_BYTES: usize = 250 * 1024 * 1024;
    let name = object.get_type().name()?.to_string();
    if pickle.len() > MAX_BYTES {
        let megabytes = pickle.len() >> 20;
        return Err(PyValueError::new_err(format!(
            "an argument of type {name} takes {megabytes} MiB, which is too much to send with a \
             call: use client.scatter and pass the future"
        )));
    }
    Ok(Arc::new(FunctionSpec {
        id: FunctionId(xxh3_128(pickle)),
        name,
        payload: Bytes::copy_from_slice(pickle),
        is_coroutine: false,
    }))
}

/// A worker's function, unpickled at first use.
///
/// # Errors
/// What unpickling it raises, such as `ModuleNotFoundError`.
pub fn load_function<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    crate::codec::pickle_loads(py, payload)
}
