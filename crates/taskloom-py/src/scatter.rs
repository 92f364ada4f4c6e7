//! `scatter`: values to workers, as an operation.

use crate::client::CoreClient;
use crate::codec::encode_value;
use crate::errors::{answer_error, raise};
use crate::keys::encode_key;
use crate::waiting::Rounds;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::Arc;
use taskloom_runtime::client::{Scatter, ScatterItem, Wait};
use xxhash_rust::xxh3::Xxh3;

enum Stage {
    Planning,
    Putting,
    /// Values that workers pass on are to be where they were put first.
    Settling,
    Spreading,
    Over,
}

pub(crate) struct ScatterRounds {
    scatter: Arc<Scatter>,
    client: Py<CoreClient>,
    stage: Mutex<Stage>,
}

impl ScatterRounds {
    /// Encodes the values and asks where they shall go.
    pub(crate) fn start(
        client: &Bound<'_, CoreClient>,
        items: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
        workers: Vec<String>,
        broadcast: bool,
        timeout: f64,
    ) -> PyResult<Self> {
        let encode = |(key, value): &(Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            let segments = encode_value(value)?;
            let size_bytes = segments.iter().map(|segment| segment.len() as u64).sum();
            Ok(ScatterItem { key: encode_key(key)?, size_bytes, segments })
        };
        let items = items.iter().map(encode).collect::<PyResult<Vec<_>>>()?;
        let timeout_ns = (timeout.max(1e-9) * 1e9) as u64;
        let core = &client.get().client;
        let scatter = Scatter::start(core, items, workers, broadcast, timeout_ns);
        Ok(Self { scatter, client: client.clone().unbind(), stage: Mutex::new(Stage::Planning) })
    }
}

impl Rounds for ScatterRounds {
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        let mut stage = self.stage.lock();
        match *stage {
            Stage::Planning => {
                *stage = Stage::Putting;
                self.scatter.plan().wait_with(&make_wait(1));
                return Ok(false);
            }
            Stage::Putting => {
                *stage = Stage::Settling;
                let put = self.scatter.put(make_wait);
                return match put {
                    Ok(()) => Ok(false),
                    Err((kind, text)) => Err(Python::attach(|py| answer_error(py, &kind, &text))),
                };
            }
            Stage::Settling | Stage::Spreading | Stage::Over => {}
        }
        if self.scatter.error().is_some() {
            return Ok(true);
        }
        if matches!(*stage, Stage::Settling) {
            *stage = Stage::Spreading;
            let values = self.scatter.spreading();
            if values.is_empty() {
                return Ok(true);
            }
            let wait = make_wait(values.len());
            values.iter().for_each(|held| held.entry().wait_with(&wait));
            return Ok(false);
        }
        if matches!(*stage, Stage::Spreading) {
            *stage = Stage::Over;
            let answers = self.scatter.spread();
            let wait = make_wait(answers.len());
            answers.iter().for_each(|answer| answer.wait_with(&wait));
            return Ok(answers.is_empty());
        }
        Ok(true)
    }

    fn give_up(&self, _wait: &Arc<Wait>) {}

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(reason) = self.scatter.error() {
            return Err(raise(py, "SchedulerError", (reason, "scatter")));
        }
        let client = self.client.get();
        let futures = self.scatter.held().iter().map(|held| client.future(py, held.clone()));
        let futures = futures.collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, futures)?.into_any().unbind())
    }

    fn timeout_message(&self) -> String {
        "the values were not taken by workers in time".into()
    }

    fn stops_on_failure(&self) -> bool {
        true
    }
}

/// A token of a value's content: equal values have equal tokens.
#[pyfunction]
pub(crate) fn content_token(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut hash = Xxh3::new();
    for segment in encode_value(value)? {
        hash.update(&(segment.len() as u64).to_le_bytes());
        hash.update(&segment);
    }
    Ok(format!("{:032x}", hash.digest128()))
}
