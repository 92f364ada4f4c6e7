//! How one task runs: inputs to objects, body to a call, the call in a context of its own, the
//! result to a value.

use crate::actors::home::decoding_inputs;
use crate::codec::{self, Work};
use crate::interrupt::Window;
use crate::objects::Object;
use crate::worker::Inner;
use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
use pyo3::{ffi, intern};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::ActorLife;
use taskloom_proto::client::TaskSpec;
use taskloom_runtime::worker::{
    Execution, INLINE_BYTES, Outcome, Received, StartedRun, Use, Value,
};
use taskloom_types::{Attempt, Key, TaskId};

/// Encoded results up to this size are kept beside their object once they are made.
pub const KEEP_ENCODED_BYTES: usize = 64 * 1024;

/// What came of calling a task's function.
pub enum Called<'py> {
    Returned(Bound<'py, PyAny>),
    /// It must be awaited; `context` is the one it was made in.
    Coroutine {
        coroutine: Bound<'py, PyAny>,
        context: Bound<'py, PyAny>,
    },
}

/// Decodes and calls. An error is the task's. What the task's own code is, and no more, can be
/// interrupted through the window.
pub fn call<'py>(
    py: Python<'py>,
    worker: &Inner,
    execution: &Execution<Object>,
    window: Option<&Window>,
) -> PyResult<Called<'py>> {
    let functions = execution.run.functions.iter().map(|number| worker.function(py, *number));
    let functions = functions.collect::<PyResult<Vec<_>>>()?;
    let inputs = {
        let _source = decoding_inputs();
        let inputs = execution.inputs.iter().map(|value| object_of(py, value));
        inputs.collect::<PyResult<Vec<_>>>()?
    };
    crate::numpy_memory::set_in_thread(py);
    let context = Context::copy(py)?;
    let entered = context.enter(py)?;
    let open = window.map(|window| window.open(py)).transpose()?;
    let work = codec::decode_body(py, &execution.run.body, &functions, &inputs)?;
    let result = match work {
        Work::Value(value) => Ok(value),
        Work::Call { function, args, kwargs } => {
            // The call holds what it needs: inputs that nobody else needs may go while it runs.
            drop(inputs);
            function.call(args, kwargs.as_ref())
        }
    };
    drop(open);
    drop(entered);
    let result = result?;
    if is_coroutine(&result)? {
        return Ok(Called::Coroutine { coroutine: result, context: context.object });
    }
    Ok(Called::Returned(result))
}

/// A copy of the thread's context, so that a task's context variables stay its own.
pub(crate) struct Context<'py> {
    object: Bound<'py, PyAny>,
}

impl<'py> Context<'py> {
    pub(crate) fn copy(py: Python<'py>) -> PyResult<Self> {
        // SAFETY: attached to the interpreter; the call returns a new reference or null with an
        // exception set.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
        Ok(Self { object })
    }

    pub(crate) fn object(&self) -> &Bound<'py, PyAny> {
        &self.object
    }

    pub(crate) fn enter(&self, py: Python<'py>) -> PyResult<Entered<'py>> {
        // SAFETY: attached, and `object` is a context.
        let status = unsafe { ffi::PyContext_Enter(self.object.as_ptr()) };
        if status != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(Entered { object: self.object.clone() })
    }
}

/// Leaves the context when dropped.
pub(crate) struct Entered<'py> {
    object: Bound<'py, PyAny>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let py = self.object.py();
        // An exception of the task may be on its way: leaving must not see or replace it.
        let pending = PyErr::take(py);
        // SAFETY: attached, and this thread entered the context.
        if unsafe { ffi::PyContext_Exit(self.object.as_ptr()) } != 0 {
            drop(PyErr::take(py));
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }
}

pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let class = TYPE.get_or_try_init(py, || {
        let types = py.import(intern!(py, "types"))?;
        Ok::<_, PyErr>(types.getattr(intern!(py, "CoroutineType"))?.unbind())
    })?;
    Ok(object.get_type().is(class.bind(py)))
}

/// A value as an object; the same one for all that need it here, unless it is a small immutable.
pub fn object_of(py: Python<'_>, value: &Value<Object>) -> PyResult<Py<PyAny>> {
    match value {
        Value::Object { object, .. } => Ok(object.clone_ref(py)),
        Value::Scalar(bytes) => Ok(codec::decode_small(py, bytes)?.unbind()),
        Value::Received(received) => object_of_received(py, received),
        Value::Spilled(_) => Err(not_in_memory()),
    }
}

pub fn object_of_received(py: Python<'_>, received: &Received<Object>) -> PyResult<Py<PyAny>> {
    loop {
        match received.begin_use() {
            Use::Object(object) => return Ok(object.clone_ref(py)),
            Use::Failed(error) => return Err(codec::decode_error(py, &error)),
            Use::Wait => py.detach(|| received.wait()),
            Use::Decode(segments) => return decode_received(py, received, segments),
        }
    }
}

fn decode_received(
    py: Python<'_>,
    received: &Received<Object>,
    segments: Vec<Bytes>,
) -> PyResult<Py<PyAny>> {
    let mut guard = Completing { received, result: None };
    match codec::decode_value(py, segments) {
        Ok(object) => {
            guard.result = Some(Ok(Object::new(object.clone().unbind())));
            Ok(object.unbind())
        }
        Err(error) => {
            guard.result = Some(Err(codec::encode_error(py, &error)));
            Err(error)
        }
    }
}

/// Ends the decoding also when it panics: others may wait for it.
struct Completing<'a> {
    received: &'a Received<Object>,
    result: Option<Result<Object, ErrorInfo>>,
}

impl Drop for Completing<'_> {
    fn drop(&mut self) {
        let failed = || ErrorInfo {
            type_name: "RuntimeError".into(),
            message: "decoding the value failed".into(),
            ..ErrorInfo::default()
        };
        self.received.complete(self.result.take().unwrap_or_else(|| Err(failed())));
    }
}

/// A task's result as what its worker keeps.
pub fn outcome_of(worker: &Inner, run: &RunInfo<'_>, result: &Bound<'_, PyAny>) -> Outcome<Object> {
    if run.flags & TaskSpec::ACTOR == 0 {
        return outcome_of_value(result, run.flags);
    }
    let (py, life) = (result.py(), ActorLife { task: run.task, attempt: run.attempt });
    match crate::actors::home::make(py, worker, life, run.key, result) {
        Ok(outcome) => outcome,
        Err(error) => outcome_of_error(py, worker, run.key, &error),
    }
}

/// What of a run its outcome depends on.
#[derive(Clone, Copy)]
pub struct RunInfo<'a> {
    pub task: TaskId,
    pub attempt: Attempt,
    pub key: &'a Key,
    /// Of [`TaskSpec::WANTED`] and its like.
    pub flags: u8,
}

impl<'a> RunInfo<'a> {
    pub fn of(run: &'a StartedRun) -> Self {
        Self { task: run.task, attempt: run.attempt, key: &run.key, flags: run.flags }
    }
}

fn outcome_of_value(result: &Bound<'_, PyAny>, flags: u8) -> Outcome<Object> {
    let inline = codec::encode_inline(result, INLINE_BYTES).ok().flatten();
    if let Some(bytes) = &inline
        && is_plain(result)
    {
        let size_bytes = bytes.len() as u64;
        return Outcome::Value { value: Value::Scalar(bytes.clone().into()), size_bytes };
    }
    let size_bytes = inline.as_ref().map_or_else(|| estimate_bytes(result), |b| b.len() as u64);
    let encoded = match inline {
        Some(bytes) => Some(vec![bytes]),
        None => encode_early(result, flags, size_bytes),
    };
    let object = Object::new(result.clone().unbind());
    Outcome::Value { value: Value::Object { object, encoded }, size_bytes }
}

/// Immutable and without an identity that matters.
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    object.is_none()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyBytes>()
}

/// A small result that a client waits for, or that names what is only here, is pickled at once,
/// so that it travels with the news.
/// Otherwise results are pickled when somebody asks; that one cannot be pickled shows then.
fn encode_early(result: &Bound<'_, PyAny>, flags: u8, size_bytes: u64) -> Option<Vec<Bytes>> {
    if flags & (TaskSpec::WANTED | TaskSpec::LOCAL) == 0 || size_bytes > INLINE_BYTES as u64 {
        return None;
    }
    let segments = codec::encode_value(result).ok()?;
    let total: usize = segments.iter().map(Bytes::len).sum();
    (total <= KEEP_ENCODED_BYTES).then_some(segments)
}

/// What a value occupies, in bytes; a rough figure that must be quick. User code that raises here
/// does not fail the task.
fn estimate_bytes(object: &Bound<'_, PyAny>) -> u64 {
    let py = object.py();
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return bytes.as_bytes().len() as u64;
    }
    let estimate = || -> PyResult<u64> {
        static SIZE_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let size_of = SIZE_OF.get_or_try_init(py, || {
            let module = py.import(intern!(py, "taskloom._sizes"))?;
            Ok::<_, PyErr>(module.getattr(intern!(py, "size_of"))?.unbind())
        })?;
        size_of.bind(py).call1((object,))?.extract()
    };
    /// Stands for objects that cannot tell.
    const UNKNOWN_BYTES: u64 = 1024;
    estimate().unwrap_or(UNKNOWN_BYTES)
}

/// A task's exception as what is told about it.
pub fn outcome_of_error(
    py: Python<'_>,
    worker: &Inner,
    key: &Key,
    error: &PyErr,
) -> Outcome<Object> {
    if is_reschedule(py, error) {
        return Outcome::Rescheduled;
    }
    let mut info = codec::encode_error(py, error);
    info.origin = Some(key.clone());
    info.worker = worker.shell.address().to_string();
    Outcome::Error(info)
}

fn is_reschedule(py: Python<'_>, error: &PyErr) -> bool {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        let module = py.import(intern!(py, "taskloom.errors"))?;
        Ok::<_, PyErr>(module.getattr(intern!(py, "Reschedule"))?.unbind())
    });
    class.is_ok_and(|class| error.is_instance(py, class.bind(py)))
}

/// A value that is on disk was asked for where only those in memory are. The rules read it first.
pub fn not_in_memory() -> PyErr {
    PyRuntimeError::new_err("the value is on disk, and nobody has read it")
}

/// A function that the scheduler never sent.
pub fn unknown_function(number: taskloom_types::FunctionNo) -> PyErr {
    PyRuntimeError::new_err(format!("the worker does not know function {number}"))
}
