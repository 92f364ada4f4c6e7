//! Questions to the scheduler, and their answers as operations.

use crate::codec::{NoDependencies, Writer, decode_error, decode_value};
use crate::errors::{answer_error, raise};
use crate::keys::encode_key;
use crate::values::to_python;
use crate::waiting::Rounds;
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use taskloom_proto::ErrorInfo;
use taskloom_proto::Value;
use taskloom_proto::client::{
    Adapt, Answer, Question, Replay, RestartWorkers, RetireWorkers, RunEverywhere, WaitForWorkers,
};
use taskloom_proto::wire::{Reader, Wire};
use taskloom_runtime::client::{PendingAnswer, Wait};
use taskloom_types::{Handle, Key};

fn nanos(seconds: Option<f64>) -> u64 {
    // 0 means for ever; a time-out of nothing still looks once.
    seconds.map_or(0, |seconds| (seconds.max(1e-9) * 1e9) as u64)
}

pub fn keys_of(argument: &Bound<'_, PyAny>) -> PyResult<Vec<Key>> {
    argument.try_iter()?.map(|key| encode_key(&key?)).collect()
}

/// Builds a question from its name and its arguments as the facade gives them.
pub fn question(name: &str, arguments: &Bound<'_, PyTuple>) -> PyResult<Question> {
    let item = |position: usize| arguments.get_item(position);
    let texts = |position: usize| item(position)?.extract::<Vec<String>>();
    Ok(match name {
        "barrier" => Question::Barrier,
        "scheduler_info" => Question::SchedulerInfo,
        "who_has" => Question::WhoHas(keys_of(&item(0)?)?),
        "has_what" => Question::HasWhat(texts(0)?),
        "processing" => Question::Processing(texts(0)?),
        "nbytes" => Question::SizeBytes(keys_of(&item(0)?)?),
        "story" => Question::Story(encode_key(&item(0)?)?),
        "explain" => Question::Explain(encode_key(&item(0)?)?),
        "executing" => Question::Executing(keys_of(&item(0)?)?),
        "counters" => Question::Counters,
        "replay" => {
            Question::Replay(Replay { key: encode_key(&item(0)?)?, cause: item(1)?.extract()? })
        }
        "shutdown" => Question::Shutdown,
        "locate" => {
            let handles = item(0)?.extract::<Vec<u64>>()?;
            Question::Locate(handles.into_iter().map(Handle).collect())
        }
        "wait_for_workers" => Question::WaitForWorkers(WaitForWorkers {
            count: item(0)?.extract()?,
            timeout_ns: nanos(item(1)?.extract()?),
        }),
        "restart" => Question::Restart(RestartWorkers {
            timeout_ns: nanos(item(0)?.extract()?),
            workers: texts(1)?,
        }),
        "retire_workers" => Question::RetireWorkers(RetireWorkers {
            workers: texts(0)?,
            close: item(1)?.extract()?,
        }),
        "adapt" => Question::Adapt(Adapt {
            target_ns: nanos(item(0)?.extract()?),
            threads: item(1)?.extract()?,
            close: item(2)?.extract()?,
            workers: texts(3)?,
        }),
        "run" => run_question(arguments)?,
        _ => return crate::control::question(name, arguments),
    })
}

/// `(function, args, kwargs, workers, no_wait)`. The function travels inside the payload.
fn run_question(arguments: &Bound<'_, PyTuple>) -> PyResult<Question> {
    Ok(Question::RunEverywhere(RunEverywhere {
        payload: call_payload(arguments, 0)?,
        workers: arguments.get_item(3)?.extract()?,
        no_wait: arguments.get_item(4)?.extract()?,
    }))
}

/// A call for workers; `arguments` has function, args and kwargs from position `at` on.
pub fn call_payload(arguments: &Bound<'_, PyTuple>, at: usize) -> PyResult<Bytes> {
    let args = arguments.get_item(at + 1)?.cast_into::<PyTuple>()?;
    let kwargs = arguments.get_item(at + 2)?.cast_into::<PyDict>()?;
    let mut writer = Writer::contiguous();
    writer.start_apply();
    writer.object(&arguments.get_item(at)?, &mut NoDependencies)?;
    writer.start_arguments(args.len())?;
    for argument in args.iter() {
        writer.object(&argument, &mut NoDependencies)?;
    }
    writer.start_keywords(kwargs.len())?;
    for (name, value) in kwargs.iter() {
        writer.keyword(name.extract::<&str>()?)?;
        writer.object(&value, &mut NoDependencies)?;
    }
    Ok(Bytes::copy_from_slice(writer.as_slice()))
}

/// How an answer becomes a Python object.
#[derive(Clone, Copy)]
enum Reading {
    Plain,
    /// `{address: (ok, result or exception)}`
    RunResults,
}

/// An answer as an operation.
pub struct AnswerRounds {
    pending: Arc<PendingAnswer>,
    answer: Mutex<Option<Answer>>,
    reading: Reading,
    name: String,
}

impl AnswerRounds {
    pub fn new(name: &str, pending: Arc<PendingAnswer>) -> Self {
        let is_run = matches!(name, "run" | "setup" | "end_setup");
        let reading = if is_run { Reading::RunResults } else { Reading::Plain };
        Self { pending, answer: Mutex::new(None), reading, name: name.into() }
    }
}

impl Rounds for AnswerRounds {
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        let mut answer = self.answer.lock();
        if answer.is_none() {
            *answer = self.pending.take();
        }
        if answer.is_some() {
            return Ok(true);
        }
        self.pending.wait_with(&make_wait(1));
        Ok(false)
    }

    fn give_up(&self, _wait: &Arc<Wait>) {}

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let answer = self.answer.lock().take();
        let answer = answer.ok_or_else(|| PyRuntimeError::new_err("the answer was taken"))?;
        if !answer.error.is_empty() || !answer.error_kind.is_empty() {
            return Err(answer_error(py, &answer.error_kind, &answer.error));
        }
        match self.reading {
            Reading::Plain => Ok(to_python(py, &answer.value)?.unbind()),
            Reading::RunResults => run_results(py, &answer.value),
        }
    }

    fn timeout_message(&self) -> String {
        format!("the scheduler did not answer in time: {}", self.name)
    }

    fn stops_on_failure(&self) -> bool {
        false
    }
}

fn address_text(address: &Value) -> &str {
    match address {
        Value::Text(text) => text,
        _ => "?",
    }
}

/// `{address: [ok, payload]}` with the payloads decoded.
fn run_results(py: Python<'_>, value: &Value) -> PyResult<Py<PyAny>> {
    let results = PyDict::new(py);
    let Value::Map(entries) = value else { return Ok(results.into_any().unbind()) };
    for (address, outcome) in entries {
        let Value::List(parts) = outcome else { continue };
        let (ok, object) = match &parts[..] {
            // The worker left before it answered.
            [Value::Bool(false), Value::Bytes(payload)] if payload.is_empty() => {
                let text = format!("worker {} left before it answered", address_text(address));
                (false, raise(py, "SchedulerError", (text, "lost")).into_value(py).into_any())
            }
            [Value::Bool(true), Value::Bytes(payload)] => {
                (true, decode_value(py, vec![payload.clone()])?.unbind())
            }
            [Value::Bool(_), Value::Bytes(payload)] => {
                let error = ErrorInfo::read(&mut Reader::new(payload)).unwrap_or_default();
                (false, decode_error(py, &error).into_value(py).into_any())
            }
            _ => continue,
        };
        results.set_item(to_python(py, address)?, (ok, object))?;
    }
    Ok(results.into_any().unbind())
}
