//! A worker's shell: one lock around the rules and the values, an IO thread on one side, executor
//! threads on the other.
//!
//! - [`execute`]: executor threads take runs and end them, one lock each.
//! - [`inbound`]: the scheduler's messages, peers' requests and answers.
//! - [`actors`]: objects that live here and are called from anywhere.
//! - [`values`]: what is here, as objects or as bytes; [`exports`]: copies in shared memory.
//! - [`slots`], [`outbox`], [`jobs`]: who may run, what is to be sent, what needs the language.
//! - [`logs`]: what tasks write; [`rejoin`]: what is left when the session ends.
//! - [`memory`], [`disk`], [`spill`]: values that move to disk and back.
//!
//! The shell does not know which language tasks are written in: objects are a type parameter.
//! No lock is held while a thread waits for the language, so heartbeats and data are served
//! while a task holds it.

mod actors;
mod disk;
mod execute;
mod exports;
mod inbound;
mod jobs;
mod logs;
mod memory;
mod outbox;
mod process;
mod rejoin;
mod slots;
pub mod spill;
mod state;
mod values;

#[cfg(test)]
mod tests;

pub use actors::{ActorTurn, Actors, LiveActor, Turn, TurnEnd};
pub use execute::{Next, Seat, Seceded};
pub use exports::KnownTo;
pub use jobs::{Encode, Job, JobQueue, Serve};
pub use memory::{MemoryOptions, set_trim_thread};
pub use state::{End, Execution, Outcome, Phase};
pub use taskloom_core::worker::StartedRun;
pub use values::{INLINE_BYTES, LocalObject, Received, Servable, Use, Value};

use crate::data::{DataClient, DataServer, DataStore, FetchError};
use crate::io::{IoThread, Timer};
use crate::link::{Link, Sink};
use crate::resident::own_resident_bytes;
use crate::scheduler::SchedulerHandle;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use process::CpuMeter;
use spill::SpillStore;
use spill::directory::base_directory;
use state::State;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use taskloom_net::{ConnectError, ConnectOptions, ListenError, ListenOptions};
use taskloom_proto::actor::ActorSnapshot;
use taskloom_proto::client::Closing;
use taskloom_proto::hand_over::ActorHandedOver;
use taskloom_proto::handshake::Token;
use taskloom_proto::shards::ShardPiece;
use taskloom_proto::worker::{
    Heartbeat, RegisterWorker, RunDone, SchedulerToWorker, WorkerFunction, WorkerToScheduler,
};
use taskloom_types::{FunctionNo, Nanos, Resources, TaskId, WorkerNo};

/// What a worker is.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub name: String,
    pub nthreads: usize,
    /// In bytes; 0 means no limit.
    pub memory_limit: u64,
    pub memory: MemoryOptions,
    pub resources: Resources,
    pub local_directory: String,
    /// Where to serve data, such as `tcp://127.0.0.1:0`.
    pub listen: String,
    /// Whether `listen` may be an address that other machines can reach.
    pub allow_insecure_network: bool,
    /// The name of the machine.
    pub host: String,
    /// Whether a supervisor reports how this process ends.
    pub supervised: bool,
    pub version: String,
}

/// Where the scheduler is.
pub enum SchedulerAt<'a> {
    Address(&'a str, ConnectOptions),
    ThisProcess(&'a SchedulerHandle),
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot serve data: {0}")]
    Listen(#[from] ListenError),
    #[error("the scheduler did not accept the worker '{name}': {reason}")]
    Refused { name: String, reason: String },
}

/// Told why the worker is closed.
type OnClosed = Box<dyn FnOnce(&str) + Send>;

/// How long the scheduler may take to accept a connected worker.
const REGISTER_TIME: Duration = Duration::from_secs(30);

/// A worker; see the module. `O` is an object of the tasks' language.
pub struct WorkerShell<O: LocalObject> {
    config: WorkerConfig,
    me: Weak<Self>,
    origin: Instant,
    io: Arc<IoThread>,
    token: Token,
    peers: DataClient,
    state: Mutex<State<O>>,
    work_is_here: Condvar,
    slot_is_free: Condvar,
    /// The phase changed, or a draining worker's run ended.
    closed: Condvar,
    /// Held while messages are sent, so that they leave in the order they were queued.
    sending: Mutex<()>,
    link: OnceLock<Arc<dyn Link<WorkerToScheduler>>>,
    server: Mutex<Option<DataServer>>,
    address: OnceLock<String>,
    /// Which run of the scheduler this worker has a session with.
    epoch: AtomicU64,
    /// Sessions so far; shared with the state.
    session: Arc<AtomicU64>,
    heartbeat: Mutex<Option<Timer>>,
    /// The earliest point in time for which the rules are to be looked at, and its timer.
    deadline: Mutex<Option<(Nanos, Timer)>>,
    jobs: JobQueue<Job>,
    logs: logs::TaskLogs,
    to_serialize: JobQueue<Serve<O>>,
    to_encode: JobQueue<Encode<O>>,
    disk: disk::Disk<O>,
    memory_monitor: Mutex<Option<Timer>>,
    /// Why nothing can go to disk; empty if it can.
    spill_error: Mutex<String>,
    actors: Arc<Actors<O>>,
    on_closed: Mutex<Option<OnClosed>>,
}

impl<O: LocalObject> WorkerShell<O> {
    #[must_use]
    pub fn new(config: WorkerConfig, io: Arc<IoThread>, token: Token) -> Arc<Self> {
        let actors = Arc::new(Actors::default());
        let session = Arc::new(AtomicU64::new(1));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            origin: Instant::now(),
            peers: DataClient::new(io.clone(), token.clone()),
            io,
            token,
            state: Mutex::new(State::new(&config, actors.clone(), session.clone())),
            disk: disk::Disk::new(SpillStore::new(
                base_directory(&config.local_directory),
                config.name.clone(),
                config.memory.max_spill,
            )),
            config,
            work_is_here: Condvar::new(),
            slot_is_free: Condvar::new(),
            closed: Condvar::new(),
            sending: Mutex::new(()),
            link: OnceLock::new(),
            server: Mutex::new(None),
            address: OnceLock::new(),
            epoch: AtomicU64::new(0),
            session,
            heartbeat: Mutex::new(None),
            deadline: Mutex::new(None),
            jobs: JobQueue::default(),
            logs: logs::TaskLogs::default(),
            to_serialize: JobQueue::default(),
            to_encode: JobQueue::default(),
            memory_monitor: Mutex::new(None),
            spill_error: Mutex::default(),
            actors,
            on_closed: Mutex::new(None),
        })
    }

    /// Called once when the worker is closed, on the thread that learns of it. It must return
    /// soon. Set it before [`WorkerShell::start`].
    pub fn set_on_closed(&self, callback: impl FnOnce(&str) + Send + 'static) {
        *self.on_closed.lock() = Some(Box::new(callback));
    }

    /// Connects, serves data and registers. Tasks may arrive before this returns.
    pub fn start(self: &Arc<Self>, scheduler: SchedulerAt<'_>) -> Result<(), WorkerError> {
        let sink: Arc<dyn Sink<SchedulerToWorker>> = self.clone();
        let (link, epoch) = match scheduler {
            SchedulerAt::Address(address, options) => {
                let opened = self.io.connect(address, &self.token, sink, options)?;
                (opened.link, opened.epoch)
            }
            SchedulerAt::ThisProcess(handle) => (handle.connect_worker(sink), handle.epoch()),
        };
        self.epoch.store(epoch, Ordering::Release);
        let link = self.link.get_or_init(|| link);
        if let Err(error) = self.serve_data(epoch) {
            link.close();
            return Err(error.into());
        }
        link.send(WorkerToScheduler::Register(self.registration()));
        link.flush();
        Ok(())
    }

    fn serve_data(self: &Arc<Self>, epoch: u64) -> Result<(), ListenError> {
        let allow_insecure_network = self.config.allow_insecure_network;
        let options = ListenOptions { allow_insecure_network };
        let store: Arc<dyn DataStore> = self.clone();
        let listen = &self.config.listen;
        let server = DataServer::listen(&self.io, listen, options, &self.token, epoch, store)?;
        self.address.get_or_init(|| server.address());
        *self.server.lock() = Some(server);
        Ok(())
    }

    fn registration(&self) -> RegisterWorker {
        let limits = self.config.memory.limits(self.config.memory_limit);
        RegisterWorker {
            name: self.config.name.clone(),
            address: self.address().to_string(),
            nthreads: u32::try_from(self.config.nthreads).unwrap_or(u32::MAX),
            memory_limit: self.config.memory_limit,
            resources: self.config.resources.clone(),
            pid: std::process::id(),
            host: self.config.host.clone(),
            supervised: self.config.supervised,
            local_directory: self.config.local_directory.clone(),
            version: self.config.version.clone(),
            target_bytes: limits.target_bytes,
            pause_bytes: limits.pause_bytes,
            returns_from: 0,
        }
    }

    /// Waits until the scheduler has accepted the worker. Blocks.
    pub fn wait_registered(&self) -> Result<WorkerNo, WorkerError> {
        let refused = |reason: &str| WorkerError::Refused {
            name: self.config.name.clone(),
            reason: reason.to_string(),
        };
        let deadline = Instant::now() + REGISTER_TIME;
        let mut state = self.state.lock();
        loop {
            // Whoever is slow to look may find it closed again: that is not a refusal.
            if let Some(number) = state.accepted_as {
                return Ok(number);
            }
            match &state.phase {
                Phase::Closing => return Err(refused("the worker was closed")),
                Phase::Closed(end) => return Err(refused(&end.reason)),
                Phase::Starting | Phase::Running(_) => {}
            }
            if self.closed.wait_until(&mut state, deadline).timed_out() {
                return Err(refused("it did not answer"));
            }
        }
    }

    // Getters.

    #[must_use]
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// Reads pieces of files of a shuffle at another worker. Blocks, at most for `limit`.
    ///
    /// # Errors
    /// The worker cannot be reached, or does not answer.
    pub fn read_shards(
        &self,
        address: &str,
        pieces: Vec<ShardPiece>,
        limit: Duration,
    ) -> Result<Vec<Option<Bytes>>, FetchError> {
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        let on_reply = Box::new(move |result| {
            // Nobody waits any more.
            let _ = sender.send(result);
        });
        self.peers.read_shards(address, pieces, on_reply);
        answer.recv_timeout(limit).unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", limit.as_secs());
            Err(FetchError::Lost { address: address.into(), reason })
        })
    }

    /// Where this worker serves data; empty before the start.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.get().map_or("", String::as_str)
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.lock().phase.clone()
    }

    /// Time since this shell was made.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos(self.origin.elapsed().as_nanos() as u64)
    }

    /// Whether nothing starts here, since memory is short.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state.lock().core.is_paused()
    }

    /// Executor threads that were started and have not ended.
    #[must_use]
    pub fn executor_threads(&self) -> usize {
        self.state.lock().slots.threads()
    }

    /// Tasks that run now.
    #[must_use]
    pub fn executing(&self) -> Vec<TaskId> {
        self.state.lock().core.executing().map(|(task, _, _)| task).collect()
    }

    /// A function's serialized form.
    #[must_use]
    pub fn function(&self, number: FunctionNo) -> Option<WorkerFunction> {
        self.state.lock().functions.get(&number).cloned()
    }

    /// Functions whose cached callables are of no use any more.
    #[must_use]
    pub fn take_forgotten_functions(&self) -> Vec<FunctionNo> {
        std::mem::take(&mut self.state.lock().forgotten)
    }

    /// A value that is here.
    #[must_use]
    pub fn value(&self, task: TaskId) -> Option<Value<O>> {
        self.state.lock().values.get(&task).cloned()
    }

    /// The actors that live here.
    #[must_use]
    pub fn actors(&self) -> &Actors<O> {
        &self.actors
    }

    /// Sends an actor's snapshot to the scheduler.
    pub fn send_snapshot(&self, snapshot: ActorSnapshot) {
        self.state.lock().outbox.push(WorkerToScheduler::ActorSnapshot(snapshot));
        self.flush();
    }

    /// Gives the scheduler an actor's last state, or says why there is none.
    pub fn send_handed_over(&self, last: ActorHandedOver) {
        self.state.lock().outbox.push(WorkerToScheduler::ActorHandedOver(last));
        self.flush();
    }

    #[must_use]
    pub fn jobs(&self) -> &JobQueue<Job> {
        &self.jobs
    }

    #[must_use]
    pub fn to_serialize(&self) -> &JobQueue<Serve<O>> {
        &self.to_serialize
    }

    #[must_use]
    pub fn take_garbage(&self) -> Vec<Value<O>> {
        std::mem::take(&mut self.state.lock().garbage)
    }

    /// Keeps a value's encoded form beside its object, for the next peer that asks.
    pub fn keep_encoded(&self, task: TaskId, segments: Vec<Bytes>) {
        let mut state = self.state.lock();
        if let Some(Value::Object { encoded, .. }) = state.values.get_mut(&task) {
            *encoded = Some(segments);
        }
    }

    /// Answers a [`Job::Run`].
    pub fn run_done(&self, request: u64, ok: bool, payload: Bytes) {
        let done = RunDone { request, ok, payload };
        self.state.lock().outbox.push(WorkerToScheduler::RunDone(done));
        self.flush();
    }

    // Sending.

    /// Sends what waits.
    pub(super) fn flush(&self) {
        let _turn = self.sending.lock();
        let batch = self.state.lock().outbox.take();
        let Some(link) = self.link.get().filter(|_| !batch.is_empty()) else { return };
        for message in batch {
            link.send(message);
        }
        link.flush();
    }

    fn flush_if_urgent(&self) {
        if self.state.lock().outbox.is_urgent() {
            self.flush();
        }
    }

    fn start_heartbeat(&self, period: Duration) {
        let me = self.me.clone();
        let mut meter = CpuMeter::new();
        let beat = move || {
            if let Some(me) = me.upgrade() {
                me.send_heartbeat(meter.read());
            }
        };
        let timer = self.io.every(period, beat);
        if let Some(before) = self.heartbeat.lock().replace(timer) {
            before.cancel();
        }
    }

    fn send_heartbeat(&self, cpu_percent: f64) {
        let resident_bytes = own_resident_bytes(0);
        let (disk_bytes, spill_error) = self.disk_state();
        let now = self.now();
        let mut state = self.state.lock();
        let in_us = |since: Nanos| now.since(since) / Nanos::MICROSECOND;
        let heartbeat = Heartbeat {
            executing: state.core.executing().map(|(t, a, since)| (t, a, in_us(since))).collect(),
            ready: u32::try_from(state.core.ready_count()).unwrap_or(u32::MAX),
            managed_bytes: state.core.managed_bytes(),
            resident_bytes,
            cpu_percent,
            spilled_bytes: state.core.spilled_bytes(),
            disk_bytes,
            unspillable_bytes: state.core.unspillable_bytes(),
            spill_error,
        };
        state.outbox.push(WorkerToScheduler::Heartbeat(heartbeat));
        if !state.garbage.is_empty() {
            self.jobs.push(Job::CollectGarbage);
        }
        drop(state);
        self.flush();
    }

    // The end.

    /// Asks the scheduler to let this worker go: others take over what it has to do and what only
    /// it holds, then it is closed.
    pub fn ask_to_leave(&self, reason: &str) {
        let wish = Closing { reason: reason.to_string() };
        self.state.lock().outbox.push(WorkerToScheduler::Leave(wish));
        self.flush();
    }

    /// Tells the scheduler that this worker leaves, and closes the connection.
    pub fn close(&self, reason: &str) {
        self.flush();
        if let Some(link) = self.link.get() {
            link.send(WorkerToScheduler::Closing(Closing { reason: reason.to_string() }));
            link.flush();
            link.close();
        }
        self.end(reason, true);
    }

    /// The scheduler lets this worker go. Where actors have lived, callers first get the answers that
    /// are on their way, and learn of each call whether it began.
    fn part(&self, reason: String) {
        let server = self.server.lock();
        let Some(server) = server.as_ref().filter(|_| self.actors.had_some()) else {
            drop(server);
            return self.end(&reason, true);
        };
        let me = self.me.clone();
        server.part(Box::new(move || {
            if let Some(me) = me.upgrade() {
                me.end(&reason, true);
            }
        }));
    }

    /// The worker has no scheduler any more. Only the first call counts.
    fn end(&self, reason: &str, in_order: bool) {
        {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Closed(_)) {
                return;
            }
            state.phase = Phase::Closed(End { reason: reason.to_string(), in_order });
        }
        for timer in [&self.heartbeat, &self.memory_monitor] {
            if let Some(timer) = timer.lock().take() {
                timer.cancel();
            }
        }
        if let Some(link) = self.link.get() {
            link.close();
        }
        self.peers.close();
        drop(self.server.lock().take());
        self.end_actors();
        self.wake_all();
        // Requests of peers are answered by being dropped; objects in them are not: the queue's
        // threads take those.
        self.jobs.end();
        drop(self.disk.end());
        let callback = self.on_closed.lock().take();
        if let Some(callback) = callback {
            callback(reason);
        }
    }

    /// Ends all actors: what was asked of them is answered by being dropped.
    fn end_actors(&self) {
        let (objects, ended): (Vec<_>, Vec<_>) = self.actors.end_all().into_iter().unzip();
        let garbage = objects.into_iter().map(|object| Value::Object { object, encoded: None });
        self.state.lock().garbage.extend(garbage);
        drop(ended);
    }

    fn wake_all(&self) {
        self.work_is_here.notify_all();
        self.slot_is_free.notify_all();
        self.closed.notify_all();
    }

    /// Waits until the worker is closed, at most `timeout`; says why it is. Blocks.
    pub fn wait_closed(&self, timeout: Option<Duration>) -> Option<End> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        loop {
            if let Phase::Closed(end) = &state.phase {
                return Some(end.clone());
            }
            match deadline {
                None => self.closed.wait(&mut state),
                Some(deadline) => {
                    if self.closed.wait_until(&mut state, deadline).timed_out() {
                        return None;
                    }
                }
            }
        }
    }

    /// Gives up all values, for the caller to drop. Only after the end.
    #[must_use]
    pub fn take_values(&self) -> Vec<Value<O>> {
        drop(self.to_serialize.end());
        drop(self.to_encode.end());
        let mut state = self.state.lock();
        let mut values = std::mem::take(&mut state.garbage);
        values.extend(std::mem::take(&mut state.values).into_values());
        values.extend(std::mem::take(&mut state.kept).into_values());
        values
    }
}
