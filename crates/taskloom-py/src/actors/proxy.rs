//! The Rust halves of `taskloom.Actor` and `taskloom.ActorFuture`.

use crate::client::CoreClient;
use crate::codec::{decode_error, encode_arguments};
use crate::errors::closed;
use crate::future::{client_token, deposit};
use crate::keys::{decode_key, encode_key};
use crate::objects::Object;
use crate::running::object_of_received;
use crate::submit::FutureDeps;
use crate::waiting::{Operation, Rounds, deadline_after};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use taskloom_proto::actor::ActorCall;
use taskloom_proto::{ErrorInfo, SmallBytes};
use taskloom_runtime::client::{ActorLink, CallOutcome, Client, Held, PendingCall, Wait};
use taskloom_runtime::data::ActorRequest;
use taskloom_runtime::worker::Received;
use taskloom_types::Key;

/// For whom values are decoded on this thread: what a proxy among them is tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Not said: a plain unpickling.
    Unknown,
    /// A task's inputs. They may stay on the worker, so that a proxy among them must not keep its
    /// actor alive: the task does.
    Input,
    /// Results for this client: a proxy keeps its actor alive.
    Client(usize),
}

thread_local! {
    static SOURCE: Cell<Source> = const { Cell::new(Source::Unknown) };
}

impl Source {
    /// Holds on this thread until the returned guard is dropped.
    #[must_use]
    pub fn enter(self) -> SourceGuard {
        SourceGuard(SOURCE.replace(self))
    }

    #[must_use]
    pub fn of_client(client: &Arc<Client>) -> Self {
        Self::Client(client_token(client))
    }
}

pub struct SourceGuard(Source);

impl Drop for SourceGuard {
    fn drop(&mut self) {
        SOURCE.set(self.0);
    }
}

/// Whether the inputs of a task are being decoded, and for which client results are.
#[pyfunction]
pub fn decoding_source() -> (bool, Option<usize>) {
    match SOURCE.get() {
        Source::Unknown => (false, None),
        Source::Input => (true, None),
        Source::Client(token) => (false, Some(token)),
    }
}

/// A proxy's way to its actor.
struct Tie {
    link: Arc<ActorLink>,
    /// Keeps the actor alive.
    held: Option<Held>,
}

/// Base class of ``taskloom.Actor``.
#[pyclass(frozen, subclass, weakref, module = "taskloom._taskloom")]
pub struct CoreActor {
    key: Key,
    tie: OnceLock<Tie>,
}

impl CoreActor {
    fn tie(&self) -> PyResult<&Tie> {
        self.tie.get().ok_or_else(|| PyRuntimeError::new_err("the proxy has no client"))
    }

    /// A reference to the actor's task in this client.
    pub fn hold(&self, client: &CoreClient) -> Held {
        let held = self.tie.get().and_then(|tie| tie.held.clone());
        match held {
            Some(held) if Arc::ptr_eq(held.client(), &client.client) => held,
            _ => desire(client, &self.key),
        }
    }
}

fn desire(client: &CoreClient, key: &Key) -> Held {
    let mut submission = client.client.submission();
    let held = submission.desire(key);
    submission.flush();
    held
}

fn collect(client: &CoreClient, key: &Key, ticket: u128) -> Held {
    let mut submission = client.client.submission();
    let held = submission.collect(key, ticket);
    submission.flush();
    held
}

#[pymethods]
impl CoreActor {
    #[new]
    fn new(key: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { key: encode_key(key)?, tie: OnceLock::new() })
    }

    /// The key of the task that made the actor.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode_key(py, &self.key)
    }

    /// Connect the proxy by a client, once; ``keep`` keeps the actor alive. ``ticket`` is of its
    /// pickling.
    #[pyo3(signature = (client, keep, ticket=None))]
    fn _tie(
        &self,
        client: &Bound<'_, CoreClient>,
        keep: bool,
        ticket: Option<u128>,
    ) -> PyResult<()> {
        let core = client.get();
        core.check_open(client.py())?;
        self.tie.get_or_init(|| {
            let held = keep.then(|| match ticket {
                Some(ticket) => collect(core, &self.key, ticket),
                None => desire(core, &self.key),
            });
            Tie { link: core.client.actor_link(&self.key), held }
        });
        Ok(())
    }

    #[getter]
    fn _is_tied(&self) -> bool {
        self.tie.get().is_some()
    }

    /// Tells the client that it is tied to from others.
    #[getter]
    fn _client_token(&self) -> Option<usize> {
        self.tie.get().map(|tie| client_token(tie.link.client()))
    }

    /// The proxy is being pickled: its actor is kept until somebody unpickles it. Returns a ticket
    /// for that; ``None`` when the proxy keeps nothing.
    fn _deposit(&self) -> PyResult<Option<u128>> {
        let held = self.tie.get().and_then(|tie| tie.held.as_ref());
        held.map_or(Ok(None), deposit)
    }

    /// Call a method: returns a ``future_class``. The call is sent before this returns.
    #[pyo3(signature = (client, future_class, name, args, kwargs))]
    fn _call<'py>(
        &self,
        client: &Bound<'py, CoreClient>,
        future_class: &Bound<'py, PyType>,
        name: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut deps = FutureDeps::new(client.get(), 0);
        let segments = encode_arguments(args, kwargs, &mut deps)?;
        let keys = deps.keys().cloned().collect();
        let kind = ActorCall::METHOD;
        let request = ActorRequest { kind, name: name.into(), deps: keys, segments };
        self.send(future_class, request, deps.held)
    }

    /// Read an attribute: as ``_call`` otherwise.
    fn _read<'py>(
        &self,
        future_class: &Bound<'py, PyType>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kind = ActorCall::ATTRIBUTE;
        let (deps, segments) = (Vec::new(), Vec::new());
        let request = ActorRequest { kind, name: name.into(), deps, segments };
        self.send(future_class, request, Vec::new())
    }
}

impl CoreActor {
    fn send<'py>(
        &self,
        future_class: &Bound<'py, PyType>,
        request: ActorRequest,
        mut held: Vec<Held>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tie = self.tie()?;
        held.extend(tie.held.clone());
        let what = format!("{} of actor {}", request.name, self.key);
        let call = tie.link.call(request, held);
        let token = client_token(tie.link.client());
        let answer = Arc::new(Answer { call, token, what, outcome: OnceLock::new() });
        future_class.call1((ActorFutureSource(Mutex::new(Some(answer))),))
    }
}

/// A call's answer, decoded by the first who asks.
struct Answer {
    call: Arc<PendingCall>,
    token: usize,
    /// The method, for people.
    what: String,
    outcome: OnceLock<Result<Arc<Received<Object>>, Failure>>,
}

enum Failure {
    Raised(ErrorInfo),
    Closed(Arc<str>),
}

impl Answer {
    fn get(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let outcome = self.outcome.get_or_init(|| match self.call.take() {
            Some(CallOutcome::Value(segments)) => Ok(Arc::new(Received::new(segments))),
            Some(CallOutcome::Failed(error)) => Err(Failure::Raised(error)),
            Some(CallOutcome::Closed(reason)) => Err(Failure::Closed(reason)),
            None => Err(Failure::Closed("the call has no answer".into())),
        });
        let _source = Source::Client(self.token).enter();
        match outcome {
            Ok(received) => object_of_received(py, received),
            Err(Failure::Raised(error)) => Err(decode_error(py, error)),
            Err(Failure::Closed(reason)) => Err(closed(py, reason)),
        }
    }
}

/// Wraps an answer on its way into a new future.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct ActorFutureSource(Mutex<Option<Arc<Answer>>>);

/// Base class of ``taskloom.ActorFuture``.
#[pyclass(frozen, subclass, weakref, module = "taskloom._taskloom")]
pub struct CoreActorFuture(Arc<Answer>);

#[pymethods]
impl CoreActorFuture {
    #[new]
    fn new(source: &Bound<'_, ActorFutureSource>) -> PyResult<Self> {
        let answer = source.get().0.lock().take();
        let answer = answer.ok_or_else(|| PyTypeError::new_err("a source makes one future"))?;
        Ok(Self(answer))
    }

    /// Whether the answer is there.
    fn done(&self) -> bool {
        self.0.call.is_done()
    }

    /// Block until the answer is there.
    #[pyo3(signature = (timeout=None))]
    fn _result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        Operation::run(py, &AnswerRounds(self.0.clone()), deadline_after(timeout))
    }

    /// As ``_result``, for event loops.
    fn _operation(&self) -> Operation {
        Operation::new(AnswerRounds(self.0.clone()))
    }

    #[getter]
    fn _client_token(&self) -> usize {
        self.0.token
    }
}

struct AnswerRounds(Arc<Answer>);

impl Rounds for AnswerRounds {
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        if self.0.call.is_done() {
            return Ok(true);
        }
        self.0.call.wait_with(&make_wait(1));
        Ok(false)
    }

    fn give_up(&self, wait: &Arc<Wait>) {
        self.0.call.stop_waiting(wait);
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.get(py)
    }

    fn timeout_message(&self) -> String {
        format!("{} is not done in time; it goes on", self.0.what)
    }

    fn stops_on_failure(&self) -> bool {
        false
    }
}

/// A proxy as a task's value: small enough to travel inside messages.
pub(super) fn encode_proxy(proxy: &Bound<'_, PyAny>) -> PyResult<SmallBytes> {
    let mut writer = crate::codec::Writer::contiguous();
    writer.object(proxy, &mut crate::codec::NoDependencies)?;
    Ok(SmallBytes::copy_of(writer.as_slice()))
}
