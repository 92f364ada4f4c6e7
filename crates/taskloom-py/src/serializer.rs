//! The threads beside the executors: one does small services, one encodes values for peers.

use crate::codec::{self, Work, Writer};
use crate::control;
use crate::executor::start_coroutine;
use crate::numpy_memory::compacted;
use crate::objects::Object;
use crate::running::{self, Called, KEEP_ENCODED_BYTES, RunInfo};
use crate::worker::Inner;
use bytes::Bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use taskloom_proto::ErrorInfo;
use taskloom_proto::wire::Wire;
use taskloom_proto::worker::RunCall;
use taskloom_runtime::data::{StoredItem, StoredValue};
use taskloom_runtime::worker::{Execution, Job, KnownTo, Servable, Serve};
use taskloom_types::TaskId;

/// The body of the service thread.
pub fn serve_jobs(py: Python<'_>, worker: &Arc<Inner>) {
    while let Some(job) = py.detach(|| worker.shell.jobs().wait()) {
        match job {
            Job::Run(call) => start_run(py, worker, call),
            Job::StartCoroutines => {
                while let Some(execution) = worker.shell.next_coroutine() {
                    begin_coroutine(py, worker, *execution);
                }
            }
            Job::CancelCoroutine(task, attempt) => worker.cancel_coroutine(py, task, attempt),
            Job::Interrupt(task, attempt, why) => worker.interrupt(py, (task, attempt), why),
            Job::StartExecutor => {
                if let Err(error) = worker.start_counted_executor(py) {
                    error.write_unraisable(py, None);
                }
            }
            Job::StartActorThread => worker.start_actor_thread(py),
            Job::CollectGarbage => {
                drop(worker.shell.take_garbage());
                py.detach(|| worker.shell.heed_freed_memory());
                worker.forget_functions();
            }
            Job::StartSerializer => worker.start_serializer(py),
            Job::StartEncoder => worker.start_encoder(py),
            Job::CollectCycles => crate::spill::collect_cycles(py),
        }
    }
}

/// Calls a coroutine function of a task.
fn begin_coroutine(py: Python<'_>, worker: &Arc<Inner>, execution: Execution<Object>) {
    let run = (execution.run.task, execution.run.attempt);
    let (started, key) = (execution.started, execution.run.key.clone());
    let watched = control::watched_key(worker, &key);
    control::tell_start(py, worker, watched.as_ref());
    let outcome = match running::call(py, worker, &execution, None) {
        Ok(Called::Returned(value)) => {
            running::outcome_of(worker, &RunInfo::of(&execution.run), &value)
        }
        Ok(Called::Coroutine { coroutine, context }) => {
            match start_coroutine(py, worker, execution, &coroutine, &context) {
                Ok(()) => return,
                Err(error) => running::outcome_of_error(py, worker, &key, &error),
            }
        }
        Err(error) => running::outcome_of_error(py, worker, &key, &error),
    };
    control::tell_end(py, worker, watched.as_ref(), &outcome);
    drop(worker.shell.finish_detached(run, started, outcome));
}

/// Calls that clients make on all workers have a thread each: they may take as long as they like.
fn start_run(py: Python<'_>, worker: &Arc<Inner>, call: RunCall) {
    let request = call.request;
    if let Err(error) = worker.start_run_thread(py, request, call.payload) {
        answer_run(py, worker, request, Err(error));
    }
}

/// The body of a run's thread.
pub fn run_call(py: Python<'_>, worker: &Arc<Inner>, request: u64, payload: &[u8]) {
    let result = call_function(py, worker, payload);
    answer_run(py, worker, request, result);
}

fn call_function(py: Python<'_>, worker: &Arc<Inner>, payload: &[u8]) -> PyResult<Vec<u8>> {
    let result = match codec::decode_body(py, payload, &[], &[])? {
        Work::Value(value) => value,
        Work::Call { function, args, kwargs } => {
            let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
            let helper = py.import(intern!(py, "taskloom._worker_calls"))?;
            let arguments = (worker.owner(py), function, args, kwargs);
            helper.call_method1(intern!(py, "call_on_worker"), arguments)?
        }
    };
    let mut writer = Writer::contiguous();
    writer.object(&result, &mut codec::NoDependencies)?;
    Ok(writer.as_slice().to_vec())
}

fn answer_run(py: Python<'_>, worker: &Arc<Inner>, request: u64, result: PyResult<Vec<u8>>) {
    match result {
        Ok(value) => worker.shell.run_done(request, true, Bytes::from(value)),
        Err(error) => {
            let mut info = codec::encode_error(py, &error);
            info.worker = worker.shell.address().to_string();
            let mut payload = Vec::new();
            info.write(&mut payload);
            worker.shell.run_done(request, false, Bytes::from(payload));
        }
    }
}

/// The body of the serializer thread.
pub fn serialize(py: Python<'_>, worker: &Arc<Inner>) {
    while let Some(Serve { items, reply }) = py.detach(|| worker.shell.to_serialize().wait()) {
        crate::numpy_memory::set_in_thread(py);
        let maps_memory = reply.maps_memory();
        let encode = |(task, servable)| {
            let (value, known_to) = encode(py, worker, task, servable, maps_memory);
            (StoredItem { task, value }, known_to)
        };
        let items: Vec<_> = items.into_iter().map(encode).collect();
        py.detach(|| {
            let share = |(item, known_to)| match maps_memory {
                true => share(worker, item, known_to),
                false => item,
            };
            let items = items.into_iter().map(share).collect();
            reply.reply(items);
        });
    }
}

/// Has a large value travel in shared memory.
fn share(worker: &Inner, item: StoredItem, known_to: KnownTo) -> StoredItem {
    let StoredItem { task, value } = item;
    let value = match value {
        StoredValue::Here(segments) => {
            StoredValue::Here(worker.shell.share(task, segments, known_to))
        }
        other => other,
    };
    StoredItem { task, value }
}

fn encode(
    py: Python<'_>,
    worker: &Inner,
    task: TaskId,
    servable: Option<Servable<Object>>,
    maps_memory: bool,
) -> (StoredValue, KnownTo) {
    let mut known_to = KnownTo::Anyone;
    let object = match servable {
        None => return (StoredValue::Missing, known_to),
        Some(Servable::Encoded(segments)) => return (StoredValue::Here(segments), known_to),
        Some(Servable::Failed(error)) => return (StoredValue::Failed(error), known_to),
        Some(Servable::OnDisk(_)) => return (StoredValue::Later, known_to),
        Some(Servable::Object(object)) => {
            let copy = compacted(&object.peek(py));
            if copy.is_some() {
                known_to = KnownTo::Nobody;
            } else if maps_memory && object.lend(py) {
                // Before it is encoded: who asks for the object meanwhile ends it.
                known_to = KnownTo::Worker;
            }
            Ok(copy.unwrap_or_else(|| object.peek(py)))
        }
        Some(Servable::Received(received)) => {
            running::object_of_received(py, &received).map(|object| object.into_bound(py))
        }
    };
    let value = match object.and_then(|object| encode_object(&object)) {
        Ok(segments) => {
            if segments.iter().map(Bytes::len).sum::<usize>() <= KEEP_ENCODED_BYTES {
                worker.shell.keep_encoded(task, segments.clone());
            }
            StoredValue::Here(segments)
        }
        Err(error) => StoredValue::Failed(failure(py, worker, &error)),
    };
    (value, known_to)
}

/// What cannot be pickled is a `TypeError` that names the type; its cause says why.
pub fn encode_object(object: &Bound<'_, PyAny>) -> PyResult<Vec<Bytes>> {
    codec::encode_value(object).map_err(|error| {
        let py = object.py();
        let class = object.get_type();
        let name = class.fully_qualified_name().map_or_else(|_| "?".into(), |n| n.to_string());
        let text = error.value(py).str().map_or_else(|_| String::new(), |text| format!(": {text}"));
        let kind = error.get_type(py).name().map_or_else(|_| "error".into(), |n| n.to_string());
        PyTypeError::new_err(format!("could not serialize object of type {name} ({kind}{text})"))
    })
}

fn failure(py: Python<'_>, worker: &Inner, error: &PyErr) -> ErrorInfo {
    let mut info = codec::encode_error(py, error);
    info.worker = worker.shell.address().to_string();
    info
}
