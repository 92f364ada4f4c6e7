//! An embedded scheduler and the supervisor of its worker processes.

use crate::client::{CoreClient, prepare};
use crate::errors::raise;
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::sync::Arc;
use std::time::Duration;
use taskloom_core::scheduler::Config;
use taskloom_proto::supervisor::SupervisorToScheduler;
use taskloom_runtime::client::Client;
use taskloom_runtime::scheduler::{SchedulerConfig, SchedulerHandle, SchedulerServer};
use taskloom_runtime::supervisor::{ProcessInfo, Supervisor, SupervisorConfig};
use taskloom_runtime::token::load_token;

/// A scheduler on a thread of this process.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct CoreScheduler {
    handle: Arc<SchedulerHandle>,
    pid: u32,
}

impl CoreScheduler {
    /// The scheduler, for parties of this process.
    #[must_use]
    pub fn handle(&self) -> &Arc<SchedulerHandle> {
        &self.handle
    }
}

fn os_error(error: &impl std::fmt::Display) -> PyErr {
    PyOSError::new_err(error.to_string())
}

#[pymethods]
impl CoreScheduler {
    /// Start it. ``listen``: addresses; ``allowed_failures``, ``no_workers_timeout`` (seconds)
    /// and ``worker_ttl`` (seconds) as in Dask; ``setup_timeout`` (seconds): for each call before a
    /// worker's first task; ``hand_over_timeout`` (seconds): for a leaving worker's actors.
    #[new]
    #[pyo3(signature = (
        listen, *, allow_insecure_network=false, allowed_failures=None, no_workers_timeout=None,
        worker_ttl=None, work_stealing=true, setup_timeout=None, hand_over_timeout=None,
    ))]
    fn new(
        py: Python<'_>,
        listen: Vec<String>,
        allow_insecure_network: bool,
        allowed_failures: Option<u8>,
        no_workers_timeout: Option<f64>,
        worker_ttl: Option<f64>,
        work_stealing: bool,
        setup_timeout: Option<f64>,
        hand_over_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let nanos = |seconds: f64| (seconds.max(0.0) * 1e9) as u64;
        let mut core = Config { work_stealing, ..Config::default() };
        core.allowed_failures = allowed_failures.unwrap_or(core.allowed_failures);
        core.no_workers_timeout_ns = no_workers_timeout.map(nanos);
        core.worker_ttl_ns = worker_ttl.map_or(core.worker_ttl_ns, nanos);
        core.setup_timeout_ns = setup_timeout.map_or(core.setup_timeout_ns, nanos);
        core.hand_over_ns = hand_over_timeout.map_or(core.hand_over_ns, nanos);
        let token = load_token().map_err(|error| os_error(&error))?;
        let config = SchedulerConfig { listen, allow_insecure_network, token, core };
        let handle = py.detach(|| SchedulerServer::start(config));
        let handle = handle.map_err(|error| os_error(&error))?;
        Ok(Self { handle: Arc::new(handle), pid: std::process::id() })
    }

    #[getter]
    fn address(&self) -> &str {
        self.handle.address()
    }

    #[getter]
    fn is_running(&self) -> bool {
        self.pid == std::process::id() && self.handle.is_running()
    }

    /// Connect a client of this process, without a socket.
    #[pyo3(signature = (name, future_class, *, strict=false, worker=String::new()))]
    fn connect(
        &self,
        py: Python<'_>,
        name: String,
        future_class: Py<PyType>,
        strict: bool,
        worker: String,
    ) -> PyResult<CoreClient> {
        if !self.is_running() {
            let text = "the cluster of this address is closed";
            return Err(raise(py, "UnreachableError", (text, "closed")));
        }
        let (config, io) = prepare(name, strict, worker)?;
        let client = py.detach(|| Client::connect_local(&config, &io, &self.handle));
        CoreClient::wrap(client, future_class)
    }

    /// End it; all connections close.
    fn stop(&self, py: Python<'_>) {
        if self.pid == std::process::id() {
            py.detach(|| self.handle.stop());
        }
    }
}

/// Starts worker processes, and new ones in place of those that die.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct CoreSupervisor {
    supervisor: Mutex<Option<Arc<Supervisor>>>,
    pid: u32,
}

impl CoreSupervisor {
    fn with<T>(&self, use_it: impl FnOnce(&Supervisor) -> T) -> PyResult<T> {
        let supervisor = self.supervisor.lock().clone();
        match supervisor {
            Some(supervisor) if self.pid == std::process::id() => Ok(use_it(&supervisor)),
            _ => Err(PyRuntimeError::new_err("the cluster is closed")),
        }
    }
}

#[pymethods]
impl CoreSupervisor {
    /// ``command``: program and arguments, with ``{name}`` where the worker's name goes.
    #[new]
    #[pyo3(signature = (scheduler, command, *, name, env, terminate_bytes=0,
                        local_directory=String::new()))]
    fn new(
        scheduler: &Bound<'_, CoreScheduler>,
        command: Vec<String>,
        name: String,
        env: Vec<(String, String)>,
        terminate_bytes: u64,
        local_directory: String,
    ) -> PyResult<Self> {
        let plain = SupervisorConfig::new(command);
        let config = SupervisorConfig { name, env, terminate_bytes, local_directory, ..plain };
        let supervisor = Supervisor::start(config).map_err(|error| os_error(&error))?;
        let handle = scheduler.get().handle();
        let link = handle.connect::<SupervisorToScheduler>(supervisor.sink());
        supervisor.attach(link);
        let supervisor = Mutex::new(Some(Arc::new(supervisor)));
        Ok(Self { supervisor, pid: std::process::id() })
    }

    /// Make ``count`` numbered workers run.
    fn scale(&self, count: usize) -> PyResult<()> {
        self.with(|supervisor| supervisor.scale(count))
    }

    fn add(&self, name: &str) -> PyResult<()> {
        self.with(|supervisor| supervisor.add(name))
    }

    fn remove(&self, name: &str) -> PyResult<()> {
        self.with(|supervisor| supervisor.remove(name))
    }

    /// ``[{name, pid, status, restarts, last_exit}]``
    fn processes<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let row = |process: &ProcessInfo| {
            let dict = PyDict::new(py);
            dict.set_item("name", &process.name)?;
            dict.set_item("pid", process.pid)?;
            dict.set_item("status", process.status.as_str())?;
            dict.set_item("restarts", process.restarts)?;
            let exit = process.last_exit.as_ref().map(ToString::to_string);
            dict.set_item("last_exit", exit)?;
            Ok(dict)
        };
        self.with(|supervisor| supervisor.processes())?.iter().map(row).collect()
    }

    /// End all workers; those that still run after ``timeout`` seconds are killed.
    fn stop(&self, py: Python<'_>, timeout: f64) {
        let supervisor = self.supervisor.lock().take();
        let Some(supervisor) = supervisor else { return };
        if self.pid != std::process::id() {
            // The parent's workers are not this process's to end.
            std::mem::forget(supervisor);
            return;
        }
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::from_secs(5));
        py.detach(|| supervisor.stop(timeout));
    }
}
