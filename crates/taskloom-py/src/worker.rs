//! `CoreWorker`: a worker in this process. Its threads are Python threads, so that debuggers,
//! thread names and thread-local variables work as everywhere.

use crate::cluster::CoreScheduler;
use crate::executor::{self, DetachedRun};
use crate::functions::load_function;
use crate::interrupt::{Exception, Window, seconds};
use crate::objects::Object;
use crate::running;
use crate::serializer;
use crate::spill;
use crate::waiting::{TaskHooks, set_task_hooks};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyConnectionError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyString, PyTuple};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use taskloom_core::worker::Interrupt;
use taskloom_proto::shards::ShardPiece;
use taskloom_runtime::data::{remove_shard_directories, shard_directory};
use taskloom_runtime::executing::{ExecutingTable, Progress};
use taskloom_runtime::io::IoThread;
use taskloom_runtime::token::load_token;
use taskloom_runtime::worker::{
    MemoryOptions, Phase, SchedulerAt, WorkerConfig, WorkerError, WorkerShell,
};
use taskloom_runtime::{ConnectError, ConnectOptions};
use taskloom_types::{Amount, Attempt, FunctionNo, Key, Resources, TaskId};

/// How long a worker waits for a scheduler that does not listen yet.
const CONNECT_TIME: Duration = Duration::from_secs(30);
const CONNECT_STEP: Duration = Duration::from_millis(500);

/// How long another worker may take to read shards for this one.
const SHARDS_TIME: Duration = Duration::from_secs(60);
/// The callables of one session: the numbers of another mean others.
#[derive(Default)]
struct Callables {
    session: u64,
    known: HashMap<FunctionNo, Py<PyAny>, RandomState>,
}

impl Callables {
    fn get(&self, session: u64, number: FunctionNo) -> Option<&Py<PyAny>> {
        self.known.get(&number).filter(|_| self.session == session)
    }

    /// Returns what is of no use any more, to be dropped.
    fn insert(&mut self, session: u64, number: FunctionNo, function: Py<PyAny>) -> Vec<Py<PyAny>> {
        if session < self.session {
            return vec![function];
        }
        let mut outdated = Vec::new();
        if session > self.session {
            self.session = session;
            outdated.extend(std::mem::take(&mut self.known).into_values());
        }
        outdated.extend(self.known.insert(number, function));
        outdated
    }
}

/// What the threads of a worker share.
pub struct Inner {
    pub shell: Arc<WorkerShell<Object>>,
    functions: Mutex<Callables>,
    /// What `get_worker()` gives in tasks.
    owner: Mutex<Option<Py<PyAny>>>,
    event_loop: PyOnceLock<Py<PyAny>>,
    threads: Mutex<Vec<Py<PyAny>>>,
    threads_started: AtomicUsize,
    serializer_started: AtomicBool,
    encoder_started: AtomicBool,
    /// The executor threads, as seen by others.
    windows: Mutex<Vec<Arc<Window>>>,
    /// Whether a plugin wants to know when tasks start and end.
    pub watches_tasks: AtomicBool,
    /// Places in the table of what runs, true where taken.
    slots: Mutex<Vec<bool>>,
    /// The supervisor's view of this process; `None` where there is no supervisor.
    table: Option<&'static ExecutingTable>,
    /// The process that the worker is in; a child of a `fork` is another.
    pub process: u32,
}

impl Inner {
    /// A task's function. Unpickled at first use: an error is the task's.
    pub fn function(&self, py: Python<'_>, number: FunctionNo) -> PyResult<Py<PyAny>> {
        let session = self.shell.session();
        if let Some(function) = self.functions.lock().get(session, number) {
            return Ok(function.clone_ref(py));
        }
        self.forget_functions();
        let sent = self.shell.function(number);
        let sent = sent.ok_or_else(|| running::unknown_function(number))?;
        let function = load_function(py, &sent.payload)?.unbind();
        let outdated = self.functions.lock().insert(session, number, function.clone_ref(py));
        // Dropping a callable may run Python code: not under the lock.
        drop(outdated);
        Ok(function)
    }

    /// Drops callables that the scheduler will not name again.
    pub fn forget_functions(&self) {
        let numbers = self.shell.take_forgotten_functions();
        let take = |number: &FunctionNo| self.functions.lock().known.remove(number);
        // Dropping a callable may run Python code: not under the lock.
        let dropped: Vec<Py<PyAny>> = numbers.iter().filter_map(take).collect();
        drop(dropped);
    }

    pub fn owner<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let owner = self.owner.lock().as_ref().map(|owner| owner.clone_ref(py));
        owner.unwrap_or_else(|| py.None()).into_bound(py)
    }

    /// The event loop for coroutine tasks, started at first use.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = self.event_loop.get_or_try_init(py, || {
            let module = py.import(intern!(py, "taskloom._event_loop"))?;
            let name = format!("taskloom-loop-{}", self.shell.config().name);
            Ok::<_, PyErr>(module.call_method1(intern!(py, "WorkerLoop"), (name,))?.unbind())
        })?;
        Ok(made.bind(py).clone())
    }

    /// Lets others see which task an executor thread is at, and interrupt it.
    pub fn add_window(&self, window: &Arc<Window>) {
        self.windows.lock().push(window.clone());
    }

    pub fn remove_window(&self, window: &Arc<Window>) {
        self.windows.lock().retain(|other| !Arc::ptr_eq(other, window));
    }

    /// Raises an exception in a run, in whichever thread or on the event loop.
    pub fn interrupt(&self, py: Python<'_>, run: (TaskId, Attempt), why: Interrupt) {
        let exception = match Exception::new(py, why) {
            Ok(exception) => exception,
            Err(error) => return error.write_unraisable(py, None),
        };
        let windows = self.windows.lock().clone();
        if !windows.iter().any(|window| window.interrupt(&exception, run))
            && let Interrupt::TimedOut(_) = why
        {
            // A cancelled coroutine was cancelled when its run was given up.
            self.interrupt_coroutine(py, run, why);
        }
    }

    /// Ends the coroutine of a run, if it has one.
    pub fn interrupt_coroutine(&self, py: Python<'_>, run: (TaskId, Attempt), why: Interrupt) {
        let Interrupt::TimedOut(limit_ns) = why else {
            return self.cancel_coroutine(py, run.0, run.1);
        };
        let Some(event_loop) = self.event_loop.get(py) else { return };
        let arguments = ((run.0.to_u64(), run.1), seconds(limit_ns));
        if let Err(error) = event_loop.bind(py).call_method1(intern!(py, "time_out"), arguments) {
            error.write_unraisable(py, None);
        }
    }

    /// A place in the table of what runs.
    pub fn take_slot(&self) -> usize {
        let mut slots = self.slots.lock();
        let free = slots.iter().position(|taken| !taken).unwrap_or(slots.len());
        if free == slots.len() {
            slots.push(true);
        } else {
            slots[free] = true;
        }
        free
    }

    pub fn give_back_slot(&self, slot: usize) {
        if let Some(taken) = self.slots.lock().get_mut(slot) {
            *taken = false;
        }
    }

    pub fn arm(&self, slot: usize, task: TaskId, attempt: Attempt) {
        if let Some(table) = self.table {
            table.arm(slot, task, attempt);
        }
    }

    pub fn disarm(&self, slot: usize) {
        if let Some(table) = self.table {
            table.disarm(slot);
        }
    }

    /// Starts a Python thread that belongs to this worker.
    fn start_thread(
        self: &Arc<Self>,
        py: Python<'_>,
        role: &str,
        body: impl Fn(Python<'_>, &Arc<Self>) + Send + Sync + 'static,
    ) -> PyResult<()> {
        let worker = self.clone();
        let main = move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            let py = arguments.py();
            set_context_variable(py, intern!(py, "current_worker"), worker.owner(py))?;
            body(py, &worker);
            Ok::<_, PyErr>(())
        };
        let main = PyCFunction::new_closure(py, None, None, main)?;
        let number = self.threads_started.fetch_add(1, Ordering::Relaxed);
        let kwargs = PyDict::new(py);
        kwargs.set_item("target", main)?;
        kwargs.set_item("name", format!("{role}-{}-{number}", self.shell.config().name))?;
        kwargs.set_item("daemon", true)?;
        let threading = py.import(intern!(py, "threading"))?;
        let thread = threading.call_method(intern!(py, "Thread"), (), Some(&kwargs))?;
        thread.call_method0(intern!(py, "start"))?;
        self.remember_thread(py, thread)
    }

    fn remember_thread(&self, py: Python<'_>, thread: Bound<'_, PyAny>) -> PyResult<()> {
        let mut threads = std::mem::take(&mut *self.threads.lock());
        threads.retain(|thread| {
            let alive = thread.bind(py).call_method0(intern!(py, "is_alive"));
            alive.and_then(|alive| alive.is_truthy()).unwrap_or(true)
        });
        threads.push(thread.unbind());
        self.threads.lock().append(&mut threads);
        Ok(())
    }

    /// Starts an executor thread that the shell has counted.
    pub fn start_counted_executor(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let started = self.start_thread(py, "taskloom-executor", executor::execute);
        started.inspect_err(|_| self.shell.executor_failed_to_start())
    }

    /// Ends the coroutine of a run that nobody wants any more.
    pub fn cancel_coroutine(&self, py: Python<'_>, task: TaskId, attempt: Attempt) {
        let Some(event_loop) = self.event_loop.get(py) else { return };
        let id = (task.to_u64(), attempt);
        if let Err(error) = event_loop.bind(py).call_method1(intern!(py, "cancel"), (id,)) {
            error.write_unraisable(py, None);
        }
    }

    /// Starts the serializer thread, once.
    pub fn start_serializer(self: &Arc<Self>, py: Python<'_>) {
        if !self.serializer_started.swap(true, Ordering::AcqRel)
            && let Err(error) = self.start_thread(py, "taskloom-serializer", serializer::serialize)
        {
            self.serializer_started.store(false, Ordering::Release);
            error.write_unraisable(py, None);
        }
    }

    /// Starts the thread that encodes what goes to disk, once.
    pub fn start_encoder(self: &Arc<Self>, py: Python<'_>) {
        if !self.encoder_started.swap(true, Ordering::AcqRel)
            && let Err(error) = self.start_thread(py, "taskloom-encoder", spill::encode_spills)
        {
            self.encoder_started.store(false, Ordering::Release);
            error.write_unraisable(py, None);
        }
    }

    /// Starts a thread that runs actors, which the shell has counted.
    pub fn start_actor_thread(self: &Arc<Self>, py: Python<'_>) {
        let started = self.start_thread(py, "taskloom-actor", crate::actors::home::run_actors);
        if let Err(error) = started {
            self.shell.actors().thread_started();
            error.write_unraisable(py, None);
        }
    }

    /// Calls a client's function in a thread of its own.
    pub fn start_run_thread(
        self: &Arc<Self>,
        py: Python<'_>,
        request: u64,
        payload: Bytes,
    ) -> PyResult<()> {
        self.start_thread(py, "taskloom-run", move |py, worker| {
            serializer::run_call(py, worker, request, &payload);
        })
    }
}

/// As `threading.get_ident()`.
pub fn thread_identity(py: Python<'_>) -> PyResult<u64> {
    py.import(intern!(py, "_thread"))?.call_method0(intern!(py, "get_ident"))?.extract()
}

/// The value of one of the variables in `taskloom._context`; `None` where it is not set.
pub fn context_variable<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let module = py.import(intern!(py, "taskloom._context"))?;
    module.getattr(name)?.call_method1(intern!(py, "get"), (py.None(),))
}

pub fn set_context_variable<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    value: Bound<'py, PyAny>,
) -> PyResult<()> {
    let module = py.import(intern!(py, "taskloom._context"))?;
    module.getattr(name)?.call_method1(intern!(py, "set"), (value,))?;
    Ok(())
}

/// Why a worker did not start.
enum StartError {
    Worker(WorkerError),
    /// A thread could not be started.
    Python(PyErr),
}

impl From<WorkerError> for StartError {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}

impl From<PyErr> for StartError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<StartError> for PyErr {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Python(error) => error,
            StartError::Worker(error) => match error {
                WorkerError::Connect(_) => PyConnectionError::new_err(error.to_string()),
                WorkerError::Listen(_) => PyOSError::new_err(error.to_string()),
                WorkerError::Refused { .. } => PyRuntimeError::new_err(error.to_string()),
            },
        }
    }
}

fn resources_of(entries: &Bound<'_, PyDict>) -> PyResult<Resources> {
    let entry = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let (name, value) = (name.extract::<String>()?, value.extract::<f64>()?);
        let amount = Amount::from_f64(value).ok_or_else(|| {
            PyValueError::new_err(format!("resource {name}={value} is not a non-negative number"))
        })?;
        Ok((name, amount))
    };
    Ok(Resources::new(entries.iter().map(entry).collect::<PyResult<_>>()?))
}

/// A worker: connection, data server, threads. The class `taskloom.worker.Worker` is its face.
#[pyclass(frozen, weakref, module = "taskloom._taskloom")]
pub struct CoreWorker {
    pub(crate) inner: Arc<Inner>,
}

impl CoreWorker {
    pub fn new(config: WorkerConfig) -> PyResult<Self> {
        set_task_hooks(TaskHooks {
            current_task: executor::current_task_id,
            blocking_begin: executor::blocking_begin,
            blocking_end: executor::blocking_end,
            wait_in_task: executor::wait_in_task,
        });
        let io = IoThread::global().map_err(PyErr::from)?;
        let token = load_token().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let table = if config.supervised { ExecutingTable::of_this_process() } else { None };
        let inner = Inner {
            shell: WorkerShell::new(config, io, token),
            functions: Mutex::default(),
            owner: Mutex::default(),
            event_loop: PyOnceLock::new(),
            threads: Mutex::default(),
            threads_started: AtomicUsize::new(0),
            serializer_started: AtomicBool::new(false),
            encoder_started: AtomicBool::new(false),
            windows: Mutex::default(),
            watches_tasks: AtomicBool::new(false),
            slots: Mutex::default(),
            table,
            process: std::process::id(),
        };
        let config = inner.shell.config();
        // The arrays of a program that a worker only visits are its own matter.
        if config.memory.owns_process
            && let Some(memory) = inner.shell.memory().allocator(config.memory_limit)
        {
            crate::numpy_memory::enable(memory);
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Connects, registers, starts the threads; returns once the scheduler has accepted.
    fn start_at(&self, py: Python<'_>, scheduler: SchedulerAt<'_>) -> Result<(), StartError> {
        let shell = &self.inner.shell;
        py.detach(|| shell.start(scheduler))?;
        self.inner.start_thread(py, "taskloom-service", serializer::serve_jobs)?;
        for _ in 0..shell.config().nthreads.max(1) {
            shell.add_executor();
            self.inner.start_counted_executor(py)?;
        }
        py.detach(|| shell.wait_registered())?;
        crate::neighbours::add(shell.address(), &self.inner);
        if let Some(table) = self.inner.table {
            table.set_progress(Progress::Ready);
        }
        Ok(())
    }
}

impl CoreWorker {
    /// Waits for the scheduler in short steps, so that signals are seen meanwhile.
    fn start_by_address(&self, py: Python<'_>, address: &str) -> PyResult<()> {
        let deadline = Instant::now() + CONNECT_TIME;
        let options = ConnectOptions { timeout: CONNECT_STEP, retry: true };
        loop {
            py.check_signals()?;
            match self.start_at(py, SchedulerAt::Address(address, options)) {
                Err(StartError::Worker(WorkerError::Connect(ConnectError::Unreachable {
                    ..
                }))) if Instant::now() < deadline => {}
                result => return result.map_err(PyErr::from),
            }
        }
    }
}

#[pymethods]
impl CoreWorker {
    #[new]
    #[pyo3(signature = (name, *, nthreads=1, memory_limit=0, resources=None, local_directory=String::new(),
                        listen="tcp://127.0.0.1:0".to_string(), allow_insecure_network=false, supervised=false,
                        memory_target=0.6, max_spill=None))]
    fn py_new(
        name: String,
        nthreads: usize,
        memory_limit: u64,
        resources: Option<&Bound<'_, PyDict>>,
        local_directory: String,
        listen: String,
        allow_insecure_network: bool,
        supervised: bool,
        memory_target: f64,
        max_spill: Option<u64>,
    ) -> PyResult<Self> {
        // The process is shared with a program, whose size is not the worker's matter.
        let owns_process = false;
        let memory = MemoryOptions {
            target: memory_target,
            max_spill,
            owns_process,
            ..MemoryOptions::default()
        };
        Self::new(WorkerConfig {
            memory,
            name,
            nthreads: nthreads.max(1),
            memory_limit,
            resources: resources.map(resources_of).transpose()?.unwrap_or_default(),
            local_directory,
            listen,
            allow_insecure_network,
            host: host_name(),
            supervised,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// Sets what `get_worker()` gives inside this worker's tasks. Call it before `start`.
    fn set_owner(&self, owner: Py<PyAny>) {
        let before = self.inner.owner.lock().replace(owner);
        drop(before);
    }

    /// Connect to a scheduler, by its address or in this process, and run tasks until closed.
    fn start(&self, py: Python<'_>, scheduler: &Bound<'_, PyAny>) -> PyResult<()> {
        crate::forked::watch(py)?;
        if let Ok(local) = scheduler.cast::<CoreScheduler>() {
            return Ok(self.start_at(py, SchedulerAt::ThisProcess(local.get().handle()))?);
        }
        self.start_by_address(py, scheduler.extract()?)
    }

    /// Writes one byte to the file descriptor when the worker is closed, then closes it. The
    /// process ends `exit_after_s` seconds later at the latest, also when a task keeps the
    /// interpreter from its main thread.
    fn notify_closed(&self, fd: RawFd, exit_after_s: f64) -> PyResult<()> {
        // SAFETY: the caller gives the descriptor away: it is open, and nobody else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let io = IoThread::global().map_err(PyErr::from)?;
        let limit = Duration::try_from_secs_f64(exit_after_s).unwrap_or_default();
        self.inner.shell.set_on_closed(move |_| {
            // The reader may be gone.
            let _ = rustix::io::write(&fd, b"c");
            let _ = io.after(limit, || std::process::exit(0));
        });
        Ok(())
    }

    /// Takes no further tasks and waits for those that run, at most `limit_s` seconds. Returns
    /// whether all of them ended.
    fn drain(&self, py: Python<'_>, limit_s: f64) -> bool {
        let limit = Duration::try_from_secs_f64(limit_s).unwrap_or(Duration::ZERO);
        py.detach(|| self.inner.shell.drain(limit))
    }

    /// Asks the scheduler to let this worker go without a loss; it is closed then.
    fn ask_to_leave(&self, py: Python<'_>, reason: &str) {
        py.detach(|| self.inner.shell.ask_to_leave(reason));
    }

    /// Leaves the cluster. Tasks that run are not waited for.
    fn close(&self, py: Python<'_>, reason: &str) {
        py.detach(|| self.inner.shell.close(reason));
    }

    /// Removes results from the disk. Call it after `close`.
    fn remove_spilled(&self, py: Python<'_>) {
        py.detach(|| self.inner.shell.remove_spilled());
    }

    /// Gives up threads' handles, the event loop and all values. Call it after `close`.
    fn take_apart(&self, py: Python<'_>) -> (Vec<Py<PyAny>>, Option<Py<PyAny>>) {
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        drop(self.inner.shell.take_values());
        py.detach(|| self.inner.shell.remove_spilled());
        // The owner refers to this object: the circle would never go.
        let owner = self.inner.owner.lock().take();
        drop(owner);
        (threads, self.running_event_loop(py))
    }

    /// The event loop of coroutine tasks.
    fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.event_loop(py)
    }

    /// The event loop if a task has needed it.
    fn running_event_loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.inner.event_loop.get(py).map(|event_loop| event_loop.clone_ref(py))
    }

    /// Waits until the worker is closed: why, and whether it was in order (otherwise the
    /// connection was lost). `None` when the time is over before.
    #[pyo3(signature = (timeout_s=None))]
    fn wait_closed(&self, py: Python<'_>, timeout_s: Option<f64>) -> Option<(String, bool)> {
        let timeout = timeout_s.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::ZERO));
        let end = py.detach(|| self.inner.shell.wait_closed(timeout));
        end.map(|end| (end.reason, end.in_order))
    }

    #[getter]
    fn address(&self) -> &str {
        self.inner.shell.address()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.inner.shell.config().name
    }

    #[getter]
    fn nthreads(&self) -> usize {
        self.inner.shell.config().nthreads
    }

    /// In bytes; 0 means no limit.
    #[getter]
    fn memory_limit(&self) -> u64 {
        self.inner.shell.config().memory_limit
    }

    /// Pieces of the files of a shuffle that another worker has: identity, offset, length each.
    /// `None` stands for what is not there. Raises `ConnectionError` when nobody answers.
    fn read_shards<'py>(
        &self,
        py: Python<'py>,
        address: &str,
        pieces: Vec<([u8; 16], u64, u64)>,
    ) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
        let piece =
            |(file, offset, length)| ShardPiece { file: u128::from_be_bytes(file), offset, length };
        let pieces = pieces.into_iter().map(piece).collect();
        let answer = py.detach(|| self.inner.shell.read_shards(address, pieces, SHARDS_TIME));
        let found = answer.map_err(|error| PyConnectionError::new_err(error.to_string()))?;
        let bytes = |piece: Option<Bytes>| piece.map(|piece| PyBytes::new(py, &piece));
        Ok(found.into_iter().map(bytes).collect())
    }

    /// Where this process writes files of shuffles, which other workers may read.
    #[staticmethod]
    fn shard_directory(py: Python<'_>, local_directory: &str) -> PyResult<String> {
        let path = py.detach(|| shard_directory(local_directory))?;
        path.into_os_string().into_string().map_err(|path| {
            PyValueError::new_err(format!("the directory {} is no text", path.display()))
        })
    }

    /// Removes this process's files of shuffles, at its end.
    #[staticmethod]
    fn remove_shard_directories() {
        remove_shard_directories();
    }

    #[getter]
    fn local_directory(&self) -> &str {
        &self.inner.shell.config().local_directory
    }

    #[getter]
    fn resources<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let entries = PyDict::new(py);
        for (name, amount) in self.inner.shell.config().resources.iter() {
            entries.set_item(name, amount.as_f64())?;
        }
        Ok(entries)
    }

    /// The session's number; `None` before the scheduler has accepted the worker.
    #[getter]
    fn number(&self) -> Option<u32> {
        match self.inner.shell.phase() {
            Phase::Running(number) => Some(number.0),
            _ => None,
        }
    }

    /// `init`, `running`, `paused`, `closing` or `closed`, as Dask names them.
    #[getter]
    fn status(&self) -> &'static str {
        match self.inner.shell.phase() {
            Phase::Starting => "init",
            Phase::Running(_) if self.inner.shell.is_paused() => "paused",
            Phase::Running(_) => "running",
            Phase::Closing => "closing",
            Phase::Closed(_) => "closed",
        }
    }

    /// Executor threads that were started and have not ended.
    #[getter]
    fn executor_threads(&self) -> usize {
        self.inner.shell.executor_threads()
    }

    /// The tasks that executor threads are at: pairs of key and thread identity.
    fn executing_threads<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, u64)>> {
        let windows = self.inner.windows.lock().clone();
        let keys = windows.into_iter().map(|window| (window.key(), window.thread()));
        let busy = keys.filter(|(key, _)| *key != Key::default());
        busy.map(|(key, thread)| Ok((crate::keys::decode_key(py, &key)?, thread))).collect()
    }

    /// How many tasks run now.
    #[getter]
    fn executing_count(&self) -> usize {
        self.inner.shell.executing().len()
    }

    fn __repr__(&self) -> String {
        format!("<CoreWorker '{}' {} {}>", self.name(), self.address(), self.status())
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Ends the run of a coroutine task: with its result, or with its exception when that is given.
#[pyfunction]
#[pyo3(signature = (run, result, error=None))]
fn finish_coroutine(
    py: Python<'_>,
    run: &Bound<'_, DetachedRun>,
    result: Bound<'_, PyAny>,
    error: Option<Bound<'_, PyAny>>,
) {
    let result = error.map_or(Ok(result), |error| Err(PyErr::from_value(error)));
    executor::finish_coroutine(py, run.get(), result);
}

/// Leaves the calling task's slot; see `taskloom.secede`.
#[pyfunction]
fn secede(py: Python<'_>) -> PyResult<bool> {
    executor::secede(py)
}

/// Waits for a slot; see `taskloom.rejoin`.
#[pyfunction]
fn rejoin(py: Python<'_>) -> bool {
    executor::rejoin(py)
}

/// Whether the caller is part of a task.
#[pyfunction]
fn in_task(py: Python<'_>) -> bool {
    executor::current_task(py).is_some()
}

/// The key of the task that the caller is part of.
#[pyfunction]
fn current_task_key(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    let Some(current) = executor::current_task(py) else { return Ok(None) };
    Ok(Some(crate::keys::decode_key(py, &current.key)?.unbind()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CoreWorker>()?;
    module.add_class::<DetachedRun>()?;
    module.add_function(wrap_pyfunction!(finish_coroutine, module)?)?;
    module.add_function(wrap_pyfunction!(secede, module)?)?;
    module.add_function(wrap_pyfunction!(rejoin, module)?)?;
    module.add_function(wrap_pyfunction!(in_task, module)?)?;
    module.add_function(wrap_pyfunction!(current_task_key, module)?)?;
    Ok(())
}
