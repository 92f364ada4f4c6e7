//! The Rust half of `taskloom.Client`.

use crate::ending::detached;
use crate::errors::closed;
use crate::functions::{FunctionCache, Known};
use crate::future::{CoreFuture, FutureSource};
use crate::gather::{CompletionRounds, GatherRounds};
use crate::keys::{encode_key, token_key};
use crate::options::{CoreOptions, CorePolicy};
use crate::questions::{AnswerRounds, question};
use crate::scatter::ScatterRounds;
use crate::waiting::Operation;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use taskloom_proto::client::SubmitBatch;
use taskloom_runtime::client::{Client, ClientConfig, Held, Notice};
use taskloom_runtime::io::IoThread;
use taskloom_runtime::token::{load_token, random_u64};
use taskloom_runtime::{ConnectError, ConnectOptions};
use taskloom_types::Key;

/// Functions are the same for all clients of the process.
pub(crate) static FUNCTIONS: std::sync::LazyLock<FunctionCache> =
    std::sync::LazyLock::new(FunctionCache::default);

/// A connection to a scheduler.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct CoreClient {
    pub(crate) client: Arc<Client>,
    future_class: Py<PyType>,
    /// Makes the keys of impure calls unique.
    random: u64,
    counter: AtomicU64,
    /// The process that made it: a forked child has no connection.
    pid: u32,
}

fn connect_error(py: Python<'_>, error: &ConnectError) -> PyErr {
    match error {
        ConnectError::Address(_) => PyValueError::new_err(error.to_string()),
        ConnectError::Unreachable { .. } | ConnectError::NotRelayed { .. } => {
            crate::errors::raise(py, "UnreachableError", (error.to_string(), "unreachable"))
        }
        ConnectError::Token(_) | ConnectError::Handshake { .. } => {
            crate::errors::raise(py, "UnreachableError", (error.to_string(), "refused"))
        }
    }
}

/// What a client is made of, before it is connected.
pub(crate) fn prepare(
    name: String,
    strict: bool,
    worker: String,
) -> PyResult<(ClientConfig, Arc<IoThread>)> {
    let failed = |error: &dyn std::fmt::Display| {
        pyo3::exceptions::PyOSError::new_err(format!("cannot start a client: {error}"))
    };
    let token = load_token().map_err(|error| failed(&error))?;
    let io = IoThread::global().map_err(|error| failed(&error))?;
    Ok((ClientConfig { name, strict, worker, token, relayed: false }, io))
}

impl CoreClient {
    pub(crate) fn wrap(client: Arc<Client>, future_class: Py<PyType>) -> PyResult<Self> {
        let random = random_u64().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let (counter, pid) = (AtomicU64::new(0), std::process::id());
        Ok(Self { client, future_class, random, counter, pid })
    }

    /// Fails when the client is closed, or belongs to the parent of this process.
    pub(crate) fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.pid != std::process::id() {
            let text = "it was made before this process was forked; create a new Client here";
            return Err(closed(py, text));
        }
        match self.client.close_reason() {
            Some(reason) => Err(closed(py, &reason)),
            None => Ok(()),
        }
    }

    /// A new Python future.
    pub(crate) fn future<'py>(&self, py: Python<'py>, held: Held) -> PyResult<Bound<'py, PyAny>> {
        self.future_class.bind(py).call1((FutureSource::new(held),))
    }

    /// A key for a call whose result must not be shared.
    pub(crate) fn unique_key(&self, prefix: &str) -> Key {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        token_key(prefix, (u128::from(self.random) << 64) | u128::from(number))
    }

    /// A reference to a key that somebody has made, or will make.
    pub(crate) fn desire(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Held> {
        self.check_open(py)?;
        let key = encode_key(key)?;
        let mut submission = self.client.submission();
        let held = submission.desire(&key);
        submission.flush();
        Ok(held)
    }

    /// References to futures, bound to this client if they are another's.
    pub(crate) fn hold_all(&self, futures: &[Bound<'_, CoreFuture>]) -> PyResult<Vec<Held>> {
        futures.iter().map(|future| self.hold(future.get())).collect()
    }

    /// A reference to a future's entry, in this client.
    ///
    /// # Errors
    /// `ValueError` for a future of another cluster.
    pub(crate) fn hold(&self, future: &CoreFuture) -> PyResult<Held> {
        if Arc::ptr_eq(future.owner(), &self.client) {
            return Ok(future.hold());
        }
        if !self.client.shares_scheduler_with(future.owner()) {
            let key = &future.entry().key;
            return Err(PyValueError::new_err(format!(
                "the future {key} belongs to another cluster; gather its result and pass that"
            )));
        }
        let mut submission = self.client.submission();
        let held = submission.desire(&future.entry().key);
        submission.flush();
        Ok(held)
    }

    /// Whether a live key is asked to do other work; says so. Generated keys cannot collide.
    pub(crate) fn check_collision(
        &self,
        py: Python<'_>,
        live: &Held,
        spec_hash: u64,
        function: &Known,
    ) -> PyResult<()> {
        let known = live.entry().spec_hash;
        if known == 0 || known == spec_hash {
            return Ok(());
        }
        let strict = self.client.is_strict();
        let kept = live.entry().function.as_ref().map(|function| &function.name);
        let arguments = (live.entry().key.to_string(), kept, &function.spec.name, strict);
        let warn = py.import("taskloom.utils")?.getattr("report_collision")?;
        warn.call1(arguments)?;
        Ok(())
    }
}

#[pymethods]
impl CoreClient {
    /// Connect to the scheduler at an address. ``worker``: the worker whose tasks use it.
    /// ``relayed``: whether values always pass the scheduler, or only those of workers that cannot
    /// be reached.
    #[staticmethod]
    #[pyo3(signature = (
        address, name, future_class, *, timeout=30.0, strict=false, worker=String::new(), relayed=false
    ))]
    fn connect(
        py: Python<'_>,
        address: &str,
        name: String,
        future_class: Py<PyType>,
        timeout: f64,
        strict: bool,
        worker: String,
        relayed: bool,
    ) -> PyResult<Self> {
        let (config, io) = prepare(name, strict, worker)?;
        let config = ClientConfig { relayed, ..config };
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::from_secs(3600));
        let options = ConnectOptions { timeout, retry: true };
        let connected = detached(py, || Client::connect(&config, &io, address, options));
        Self::wrap(connected.map_err(|error| connect_error(py, &error))?, future_class)
    }

    /// Whether the connection is closed.
    #[getter]
    fn is_closed(&self) -> bool {
        self.client.is_closed() || self.pid != std::process::id()
    }

    /// Tells this client apart from others of the process; futures know it.
    #[getter]
    fn token(&self) -> usize {
        crate::future::client_token(&self.client)
    }

    /// Number of keys that futures of this client hold.
    #[getter]
    fn held_keys(&self) -> usize {
        self.client.held_keys()
    }

    /// Close the connection; the scheduler then releases what this client holds.
    fn close(&self, py: Python<'_>, reason: &str) {
        if self.pid == std::process::id() {
            detached(py, || self.client.close(reason));
        }
    }

    /// Run ``function(*args, **kwargs)`` on a worker: returns a future.
    #[pyo3(signature = (function, args, kwargs, *, key, pure, options, fifo_us))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        key: Option<&Bound<'py, PyAny>>,
        pure: bool,
        options: Option<&Bound<'py, CoreOptions>>,
        fifo_us: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = crate::submit::Call { function, args, kwargs, key, pure, options, fifo_us };
        crate::submit::submit(slf, &call)
    }

    /// One call per item of the zipped iterables: returns a list of futures.
    #[pyo3(signature = (function, iterables, kwargs, *, keys, prefix, pure, options, fifo_us))]
    fn map<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        iterables: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        keys: Option<&Bound<'py, PyList>>,
        prefix: Option<String>,
        pure: bool,
        options: Option<&Bound<'py, CoreOptions>>,
        fifo_us: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let call = crate::submit_many::Map {
            function,
            iterables,
            kwargs,
            keys,
            prefix,
            pure,
            options,
            fifo_us,
        };
        crate::submit_many::map(slf, &call)
    }

    /// A future of a key that somebody else made.
    fn bind<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let held = self.desire(py, key)?;
        self.future(py, held)
    }

    /// The future of a key that came as bytes; ``ticket`` is of its pickling.
    fn collect<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        ticket: u128,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.check_open(py)?;
        let key = encode_key(key)?;
        let held = {
            let mut submission = self.client.submission();
            let held = submission.collect(&key, ticket);
            submission.flush();
            held
        };
        self.future(py, held)
    }

    /// The live future of a key of this client, or ``None``.
    fn find<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let held = self.client.find(&encode_key(key)?);
        held.map(|held| self.future(py, held)).transpose()
    }

    /// Keys of all futures that this client holds, with their status.
    fn held<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, &'static str)>> {
        let held = self.client.held();
        let row = |held: &Held| {
            Ok((crate::keys::decode_key(py, &held.entry().key)?, held.entry().status()))
        };
        held.iter().map(row).collect()
    }

    /// Bring results here. ``raises``: a list of results, the first failure is raised.
    /// Otherwise a list of ``(ok, result or exception)``.
    fn gather(&self, futures: Vec<Bound<'_, CoreFuture>>, raises: bool) -> PyResult<Operation> {
        let held = self.hold_all(&futures)?;
        Ok(Operation::new(GatherRounds::many(&self.client, held, raises)))
    }

    /// Wait until ``count`` of the futures are done.
    fn completion(&self, futures: Vec<Bound<'_, CoreFuture>>, count: usize) -> PyResult<Operation> {
        Ok(Operation::new(CompletionRounds::new(self.hold_all(&futures)?, count)))
    }

    /// Put values on workers: ``items`` are pairs of key and value.
    fn scatter(
        slf: &Bound<'_, Self>,
        items: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        workers: Vec<String>,
        broadcast: bool,
        timeout: f64,
    ) -> PyResult<Operation> {
        slf.get().check_open(slf.py())?;
        let rounds = ScatterRounds::start(slf, &items, workers, broadcast, timeout)?;
        Ok(Operation::new(rounds))
    }

    /// Ask the scheduler something; see ``questions.rs`` for names and arguments.
    #[pyo3(signature = (name, *arguments))]
    fn ask(
        &self,
        py: Python<'_>,
        name: &str,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<Operation> {
        self.check_open(py)?;
        let pending = self.client.ask(question(name, arguments)?);
        Ok(Operation::new(AnswerRounds::new(name, pending)))
    }

    fn cancel(
        &self,
        py: Python<'_>,
        futures: Vec<Bound<'_, CoreFuture>>,
        force: bool,
        reason: &str,
        message: &str,
    ) -> PyResult<()> {
        self.check_open(py)?;
        self.client.cancel(&self.hold_all(&futures)?, force, reason, message);
        Ok(())
    }

    fn retry(&self, py: Python<'_>, futures: Vec<Bound<'_, CoreFuture>>) -> PyResult<()> {
        self.check_open(py)?;
        self.client.retry(&self.hold_all(&futures)?);
        Ok(())
    }

    /// Keep tasks until they are done although nobody may hold their futures.
    fn detach(&self, py: Python<'_>, futures: Vec<Bound<'_, CoreFuture>>) -> PyResult<()> {
        self.check_open(py)?;
        self.client.detach(&self.hold_all(&futures)?);
        Ok(())
    }

    /// Tell the scheduler now which keys are held no more.
    fn flush(&self) {
        self.client.flush_releases();
    }

    /// What the scheduler wants the user to read: collisions as ``(key, kept, refused)``, other
    /// notices as ``(None, text, None)``.
    fn take_notices(&self) -> Vec<(Option<String>, String, Option<String>)> {
        let row = |notice| match notice {
            Notice::Collision(c) => (Some(c.key.to_string()), c.kept, Some(c.refused)),
            Notice::Message(text) => (None, text, None),
        };
        self.client.take_notices().into_iter().map(row).collect()
    }
}

/// An empty batch of this client's next submission.
pub(crate) fn new_batch(client: &Client, fifo_us: u64) -> SubmitBatch {
    SubmitBatch {
        submission: client.next_submission(),
        last: true,
        fifo_timeout_us: fifo_us,
        parent: crate::waiting::current_task(),
        ..SubmitBatch::default()
    }
}

/// Adds the classes of the client to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CoreClient>()?;
    module.add_class::<CoreFuture>()?;
    module.add_class::<crate::future::FutureSource>()?;
    module.add_class::<CoreOptions>()?;
    module.add_class::<CorePolicy>()?;
    module.add_class::<Operation>()?;
    module.add_class::<crate::aio::Bridge>()?;
    module.add_class::<crate::waiting::CompletionQueue>()?;
    crate::coordination::register(module)?;
    module.add_class::<crate::cluster::CoreScheduler>()?;
    module.add_class::<crate::cluster::CoreSupervisor>()?;
    module.add_function(wrap_pyfunction!(crate::scatter::content_token, module)?)?;
    module.add_function(wrap_pyfunction!(key_split, module)?)?;
    module.add_function(wrap_pyfunction!(dumps, module)?)
}

/// The group name of a key: the words before its token.
#[pyfunction]
fn key_split(key: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(encode_key(key)?.prefix())
}

/// Pickle an object: by the plain pickler, or by value with cloudpickle where that is needed.
#[pyfunction]
fn dumps<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    crate::codec::pickle_dumps(object)
}
