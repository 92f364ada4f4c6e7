//! The Rust half of `taskloom.Future`: a reference to a key's entry.

use crate::actors::Source;
use crate::client::CoreClient;
use crate::errors::{failure, released};
use crate::gather::{GatherRounds, decode};
use crate::keys::decode_key;
use crate::waiting::{Operation, deadline_after};
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use std::sync::Arc;
use taskloom_runtime::client::{Client, Entry, Gathered, Held, Outcome};
use taskloom_runtime::token::random_u64;

/// Wraps a reference on its way into a new future.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct FutureSource(Mutex<Option<Held>>);

impl FutureSource {
    pub fn new(held: Held) -> Self {
        Self(Mutex::new(Some(held)))
    }
}

/// Base class of ``taskloom.Future``.
#[pyclass(frozen, subclass, module = "taskloom._taskloom")]
pub struct CoreFuture(Held);

impl CoreFuture {
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        self.0.entry()
    }

    /// The client that it belongs to.
    #[must_use]
    pub fn owner(&self) -> &Arc<Client> {
        self.0.client()
    }

    /// A new reference to the entry.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.clone()
    }
}

impl CoreFuture {
    fn of_key(key: &Bound<'_, PyAny>, client: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = key.py();
        let client = match client {
            Some(client) if !client.is_none() => client.clone(),
            _ => py.import("taskloom._default")?.call_method0("client_of_context")?,
        };
        let wrong = || PyTypeError::new_err("client= takes a connected taskloom Client");
        let core = client.getattr("_core").map_err(|_| wrong())?;
        let core = core.cast::<CoreClient>().map_err(|_| wrong())?;
        Ok(Self(core.get().desire(py, key)?))
    }

    /// A reference to a result that is still kept.
    ///
    /// # Errors
    /// `FutureCancelledError` after `release()`.
    pub fn live(&self, py: Python<'_>) -> PyResult<Held> {
        if self.0.is_let_go() {
            return Err(released(py, &self.entry().key));
        }
        Ok(self.hold())
    }
}

/// A number that tells clients of one process apart.
#[must_use]
pub fn client_token(client: &Arc<Client>) -> usize {
    Arc::as_ptr(client) as usize
}

/// Has a result kept until somebody unpickles a reference to it. Returns a ticket for that; `None`
/// when there is nothing to keep.
pub fn deposit(held: &Held) -> PyResult<Option<u128>> {
    if held.is_let_go() || held.client().is_closed() {
        return Ok(None);
    }
    let random = || random_u64().map_err(|error| PyOSError::new_err(error.to_string()));
    let ticket = (u128::from(random()?) << 64) | u128::from(random()?);
    held.client().deposit(held, ticket);
    Ok(Some(ticket))
}

#[pymethods]
impl CoreFuture {
    /// Of a client's own source; or of a key, which somebody has made or will make.
    #[new]
    #[pyo3(signature = (key, client=None))]
    fn new(key: &Bound<'_, PyAny>, client: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Ok(source) = key.cast_exact::<FutureSource>() else {
            return Self::of_key(key, client);
        };
        let held = source.get().0.lock().take();
        let held = held.ok_or_else(|| PyTypeError::new_err("a source makes one future"))?;
        Ok(Self(held))
    }

    /// The task's key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode_key(py, &self.entry().key)
    }

    /// ``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``.
    #[getter]
    fn status(&self) -> &'static str {
        self.entry().status()
    }

    /// Whether the task has ended, by whatever end.
    fn done(&self) -> bool {
        !self.entry().is_pending()
    }

    /// Whether the future was cancelled or its result was lost.
    fn cancelled(&self) -> bool {
        matches!(self.entry().outcome(), Outcome::Cancelled(_))
    }

    /// Let go of the result: this future does not keep it alive any more.
    fn release(&self) {
        self.0.let_go();
    }

    /// The future is being pickled: its result is kept until somebody unpickles it. Returns a
    /// ticket for that; ``None`` when there is nothing to keep.
    fn _deposit(&self) -> PyResult<Option<u128>> {
        deposit(&self.0)
    }

    /// Tells the owning client apart from others.
    #[getter]
    fn _client_token(&self) -> usize {
        client_token(self.owner())
    }

    /// Number of the entry in its client.
    #[getter]
    fn _handle(&self) -> u64 {
        self.entry().handle.0
    }

    /// Block until the task ends; return its result or raise its exception.
    #[pyo3(signature = (timeout=None))]
    fn _result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let held = self.live(py)?;
        if let Outcome::Inline(value) = self.entry().outcome() {
            let _source = Source::of_client(self.owner()).enter();
            return decode(py, Gathered::Inline(value), &self.entry().key);
        }
        let rounds = GatherRounds::single(self.owner(), held);
        Operation::run(py, &rounds, deadline_after(timeout))
    }

    /// As ``_result``, for event loops.
    fn _result_operation(&self, py: Python<'_>) -> PyResult<Operation> {
        Ok(Operation::new(GatherRounds::single(self.owner(), self.live(py)?)))
    }

    /// The result, when it is known without waiting: ``(True, result)``.
    fn _peek(&self, py: Python<'_>) -> PyResult<(bool, Option<Py<PyAny>>)> {
        match self.entry().outcome() {
            Outcome::Inline(value) if !self.0.is_let_go() => {
                let _source = Source::of_client(self.owner()).enter();
                let value = decode(py, Gathered::Inline(value), &self.entry().key)?;
                Ok((true, Some(value)))
            }
            _ => Ok((false, None)),
        }
    }

    /// The exception of an ended task, or ``None``.
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let error = failure(py, &self.entry().outcome(), &self.entry().key)?;
        Some(error.into_value(py).into_any())
    }

    /// Size of the result in bytes, when it is known.
    #[getter]
    fn _size_bytes(&self) -> Option<u64> {
        match self.entry().outcome() {
            Outcome::Inline(value) => Some(value.len() as u64),
            Outcome::Remote { size_bytes, .. } => Some(size_bytes),
            _ => None,
        }
    }
}
