//! Events, plugins and logs: the functions behind `taskloom._events` and its neighbours.

use crate::client::CoreClient;
use crate::executor;
use crate::keys::decode_key;
use crate::objects::Object;
use crate::questions::{call_payload, keys_of};
use crate::values::to_python;
use crate::waiting::CompletionQueue;
use crate::worker::{CoreWorker, Inner};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::Ordering;
use taskloom_proto::client::Question;
use taskloom_proto::control::{ControlQuestion, EndSetup, LogRecord, Rebalance, Replicate, Setup};
use taskloom_runtime::worker::Outcome;
use taskloom_types::Key;

/// Builds a question about control from its name and its arguments as the facade gives them.
pub fn question(name: &str, arguments: &Bound<'_, PyTuple>) -> PyResult<Question> {
    let item = |position: usize| arguments.get_item(position);
    Ok(Question::Control(match name {
        "events" => ControlQuestion::Events(item(0)?.extract()?),
        "setup" => {
            let name = item(0)?.extract()?;
            ControlQuestion::Setup(Setup { name, payload: call_payload(arguments, 1)? })
        }
        "end_setup" => {
            let name = item(0)?.extract()?;
            ControlQuestion::EndSetup(EndSetup { name, payload: call_payload(arguments, 1)? })
        }
        "setups" => ControlQuestion::Setups,
        "task_logs" => ControlQuestion::TaskLogs(keys_of(&item(0)?)?),
        "scheduler_log" => ControlQuestion::SchedulerLog,
        "dump" => ControlQuestion::Dump,
        "replicate" => ControlQuestion::Replicate(Replicate {
            keys: keys_of(&item(0)?)?,
            n: item(1)?.extract()?,
            workers: item(2)?.extract()?,
        }),
        "rebalance" => ControlQuestion::Rebalance(Rebalance {
            keys: keys_of(&item(0)?)?,
            workers: item(1)?.extract()?,
        }),
        _ => return Err(PyValueError::new_err(format!("no such question: {name}"))),
    }))
}

/// Records an event; the payload is opaque.
#[pyfunction]
fn log_event(
    py: Python<'_>,
    client: &Bound<'_, CoreClient>,
    topics: Vec<String>,
    payload: &[u8],
) -> PyResult<()> {
    let client = client.get();
    client.check_open(py)?;
    client.client.log_event(topics, Bytes::copy_from_slice(payload));
    Ok(())
}

/// Records an event, as a worker.
#[pyfunction]
fn log_worker_event(worker: &Bound<'_, CoreWorker>, topics: Vec<String>, payload: &[u8]) {
    worker.get().inner.shell.log_event(topics, Bytes::copy_from_slice(payload));
}

/// Leaves `token` in the queue whenever events of subscribed topics arrive.
#[pyfunction]
fn listen(client: &Bound<'_, CoreClient>, queue: &Bound<'_, CompletionQueue>, token: u64) {
    client.get().client.listen(queue.get().mailbox().clone(), token);
}

#[pyfunction]
fn subscribe(py: Python<'_>, client: &Bound<'_, CoreClient>, topics: Vec<String>) -> PyResult<()> {
    client.get().check_open(py)?;
    client.get().client.subscribe(topics);
    Ok(())
}

#[pyfunction]
fn unsubscribe(
    py: Python<'_>,
    client: &Bound<'_, CoreClient>,
    topics: Vec<String>,
) -> PyResult<()> {
    client.get().check_open(py)?;
    client.get().client.unsubscribe(topics);
    Ok(())
}

/// A topic and what was recorded under it.
type NamedPayload<'py> = (String, Bound<'py, PyAny>);

/// The events that have arrived: pairs of topic and payload, and how many were dropped.
#[pyfunction]
fn take_events<'py>(
    py: Python<'py>,
    client: &Bound<'py, CoreClient>,
) -> PyResult<(Vec<NamedPayload<'py>>, u64)> {
    let (news, dropped) = client.get().client.take_events();
    let rows = news.into_iter().map(|news| Ok((news.topic, to_python(py, &news.payload)?)));
    Ok((rows.collect::<PyResult<_>>()?, dropped))
}

/// Keeps what the calling task wrote. False: the caller is in no task.
#[pyfunction]
fn log_of_task(
    py: Python<'_>,
    stream: u8,
    time_s: f64,
    text: String,
    level: i32,
    logger: String,
) -> bool {
    let Some(current) = executor::current_task(py) else { return false };
    let record = LogRecord { stream, time_s, level, logger, text, dropped_bytes: 0 };
    current.worker.shell.log_task((current.task, current.attempt), record);
    true
}

/// Whether the worker's `_tell_plugins` is called when tasks start and end.
#[pyfunction]
fn watch_tasks(worker: &Bound<'_, CoreWorker>, is_on: bool) {
    worker.get().inner.watches_tasks.store(is_on, Ordering::Release);
}

/// The key, if a plugin wants to know when tasks start and end.
pub fn watched_key(worker: &Inner, key: &Key) -> Option<Key> {
    worker.watches_tasks.load(Ordering::Acquire).then(|| key.clone())
}

/// Tells plugins of a worker that a watched task starts.
pub fn tell_start(py: Python<'_>, worker: &Inner, key: Option<&Key>) {
    tell_plugins(py, worker, key, ("ready", "executing"), 0);
}

/// Tells plugins of a worker that the run of a watched task has ended, if it has.
pub fn tell_end(py: Python<'_>, worker: &Inner, key: Option<&Key>, outcome: &Outcome<Object>) {
    let nbytes = match outcome {
        Outcome::Value { size_bytes, .. } => *size_bytes,
        _ => 0,
    };
    if let Some(end) = end_state(outcome) {
        tell_plugins(py, worker, key, ("executing", end), nbytes);
    }
}

fn tell_plugins(
    py: Python<'_>,
    worker: &Inner,
    key: Option<&Key>,
    (from, to): (&str, &str),
    nbytes: u64,
) {
    let Some(key) = key else { return };
    let tell = || {
        let arguments = (decode_key(py, key)?, from, to, nbytes);
        worker.owner(py).call_method1(intern!(py, "_tell_plugins"), arguments)
    };
    if let Err(error) = tell() {
        error.write_unraisable(py, None);
    }
}

/// Dask's word for how a run ended; a run that goes on elsewhere has not.
fn end_state(outcome: &Outcome<Object>) -> Option<&'static str> {
    match outcome {
        Outcome::Value { .. } | Outcome::Actor { .. } => Some("memory"),
        Outcome::Error(_) => Some("error"),
        Outcome::Rescheduled => Some("rescheduled"),
        Outcome::Detached => None,
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(log_event, module)?)?;
    module.add_function(wrap_pyfunction!(log_worker_event, module)?)?;
    module.add_function(wrap_pyfunction!(listen, module)?)?;
    module.add_function(wrap_pyfunction!(subscribe, module)?)?;
    module.add_function(wrap_pyfunction!(unsubscribe, module)?)?;
    module.add_function(wrap_pyfunction!(take_events, module)?)?;
    module.add_function(wrap_pyfunction!(log_of_task, module)?)?;
    module.add_function(wrap_pyfunction!(watch_tasks, module)?)?;
    Ok(())
}
