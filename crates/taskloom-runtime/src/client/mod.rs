//! A client's connection: the table of keys it holds, questions and answers, results fetched
//! from workers. Knows nothing of Python.
//!
//! - [`Entry`]: one key; [`Held`]: a reference to it that keeps its result alive.
//! - [`Wait`], [`Mailbox`]: how callers learn that something is complete.
//! - [`Submission`]: the only way to give the scheduler work.
//! - [`Gather`], [`Scatter`]: values from and to workers.
//! - [`ActorLink`]: calls of an actor.
//! - [`lineage`], [`rejoin`]: what is left when the session with the scheduler ends.

mod actors;
mod coordination;
mod entry;
mod events;
mod gather;
mod inbox;
mod lineage;
mod lines;
mod planted;
mod rejoin;
mod scatter;
mod signal;
mod submission;
mod table;
mod timers;
mod wait;

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;

pub use actors::{ActorLink, CallOutcome, PendingCall};
pub use entry::{Cancellation, Entry, Held, Outcome};
pub use gather::{Gather, Gathered};
pub use scatter::{Scatter, ScatterItem};
pub use submission::{FunctionSpec, Submission};
/// How a blocked caller stays awake.
pub use taskloom_net::Watch;
pub use timers::Timers;
pub use wait::{Mailbox, Wait};

use crate::data::DataClient;
use crate::io::IoThread;
use crate::link::{Link, Sink};
use crate::scheduler::SchedulerHandle;
use inbox::Inbox;
use parking_lot::Mutex;
use planted::Fault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use table::Table;
use taskloom_net::{ConnectError, ConnectOptions};
use taskloom_proto::client::{
    Answer, Cancel, ClientToScheduler, Collision, Deposit, FetchFailed, Handles, Question,
    RegisterClient, Request, SchedulerToClient, Ticket,
};
use taskloom_proto::handshake::Token;
use taskloom_types::{Handle, Key, TaskId, WorkerNo};

/// Released keys wait at most this long for other traffic to travel with.
const RELEASE_DELAY: Duration = Duration::from_millis(5);
/// … or until they are this many.
const RELEASE_BATCH: usize = 4096;

/// Something that the user should read.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    Collision(Collision),
    Message(String),
}

/// An answer on its way.
#[derive(Debug)]
pub struct PendingAnswer {
    answer: Mutex<(Option<Answer>, Vec<Arc<Wait>>)>,
}

impl PendingAnswer {
    /// Adds a wait that is counted down when the answer is there.
    pub fn wait_with(&self, wait: &Arc<Wait>) {
        {
            let mut slot = self.answer.lock();
            if slot.0.is_none() {
                slot.1.push(wait.clone());
                return;
            }
        }
        wait.count_down(false);
    }

    /// The answer, once.
    #[must_use]
    pub fn take(&self) -> Option<Answer> {
        self.answer.lock().0.take()
    }

    #[must_use]
    fn set(&self, answer: Answer) -> Vec<Arc<Wait>> {
        let mut slot = self.answer.lock();
        slot.0 = Some(answer);
        std::mem::take(&mut slot.1)
    }
}

/// How a client joins.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Shown in `scheduler_info` and in logs.
    pub name: String,
    /// Whether a key collision is an error instead of a warning.
    pub strict: bool,
    /// Address of the worker whose tasks use it; empty for others.
    pub worker: String,
    pub token: Token,
    /// Whether values always pass the scheduler. Otherwise only those of workers that cannot be
    /// reached do.
    pub relayed: bool,
}

/// A client's connection to a scheduler.
pub struct Client {
    pub(crate) link: OnceLock<Arc<dyn Link<ClientToScheduler>>>,
    /// Held while handles are given out *and* their messages are queued, so that the scheduler
    /// never sees a handle before the message that makes it. No Python code runs under it.
    table: Mutex<Table>,
    releases: Mutex<Vec<Arc<Entry>>>,
    /// A timer will flush the releases.
    release_timer: AtomicBool,
    last_submission: AtomicU64,
    notices: Mutex<Vec<Notice>>,
    events: events::EventInbox,
    has_notices: AtomicBool,
    /// Why the connection is closed.
    closed: Mutex<Option<String>>,
    is_closed: AtomicBool,
    data: DataClient,
    actors: Mutex<actors::Links>,
    timers: Arc<dyn Timers>,
    strict: bool,
    /// Which run of which scheduler it is connected to; 0 before.
    epoch: AtomicU64,
    /// As what it has joined.
    registration: OnceLock<RegisterClient>,
    #[cfg(feature = "planted")]
    planted: OnceLock<Fault>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Client {
    fn prepare(config: &ClientConfig, io: &Arc<IoThread>) -> Arc<Self> {
        Self::with(config, io.clone(), DataClient::new(io.clone(), config.token.clone()))
    }

    fn with(config: &ClientConfig, timers: Arc<dyn Timers>, data: DataClient) -> Arc<Self> {
        Arc::new(Self {
            link: OnceLock::new(),
            table: Mutex::new(Table::default()),
            releases: Mutex::default(),
            release_timer: AtomicBool::new(false),
            last_submission: AtomicU64::new(0),
            notices: Mutex::default(),
            events: events::EventInbox::default(),
            has_notices: AtomicBool::new(false),
            closed: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            data,
            actors: Mutex::default(),
            timers,
            strict: config.strict,
            epoch: AtomicU64::new(0),
            registration: OnceLock::new(),
            #[cfg(feature = "planted")]
            planted: OnceLock::new(),
        })
    }

    fn join(&self, config: &ClientConfig, link: Arc<dyn Link<ClientToScheduler>>, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
        let register = RegisterClient {
            name: config.name.clone(),
            strict: config.strict,
            worker: config.worker.clone(),
            returns_from: 0,
        };
        self.registration.get_or_init(|| register.clone());
        link.send(ClientToScheduler::Register(register));
        link.flush();
        // `set` fails only when it is called twice.
        let _ = self.link.set(link);
    }

    /// Connects to a scheduler in another process. Blocks until the handshake is done.
    pub fn connect(
        config: &ClientConfig,
        io: &Arc<IoThread>,
        address: &str,
        options: ConnectOptions,
    ) -> Result<Arc<Self>, ConnectError> {
        let client = Self::prepare(config, io);
        let sink: Arc<dyn Sink<SchedulerToClient>> = Arc::new(Inbox::new(&client));
        client.table.lock().keep_lineage();
        if let Ok(scheduler) = address.parse() {
            client.data.allow_detour(scheduler, config.relayed);
        }
        let opened = io.connect::<ClientToScheduler>(address, &config.token, sink, options)?;
        client.join(config, opened.link, opened.epoch);
        Ok(client)
    }

    /// Connects to a scheduler of this process, without a socket.
    #[must_use]
    pub fn connect_local(
        config: &ClientConfig,
        io: &Arc<IoThread>,
        scheduler: &SchedulerHandle,
    ) -> Arc<Self> {
        let client = Self::prepare(config, io);
        let sink: Arc<dyn Sink<SchedulerToClient>> = Arc::new(Inbox::new(&client));
        let link = scheduler.connect_client(sink);
        client.join(config, link, scheduler.epoch());
        client
    }

    /// Joins over a link that the caller carries, as a simulated network does: what arrives for the
    /// client goes to the sink, and what it does later is called back by `timers`.
    #[must_use]
    pub fn join_over(
        config: &ClientConfig,
        timers: Arc<dyn Timers>,
        data: DataClient,
        link: Arc<dyn Link<ClientToScheduler>>,
        epoch: u64,
    ) -> (Arc<Self>, Arc<dyn Sink<SchedulerToClient>>) {
        let client = Self::with(config, timers, data);
        let sink = Arc::new(Inbox::new(&client));
        client.table.lock().keep_lineage();
        client.join(config, link, epoch);
        (client, sink)
    }

    fn send(&self, message: ClientToScheduler) {
        if let Some(link) = self.link.get() {
            link.send(message);
        }
    }

    /// Hands over all that was queued.
    pub fn flush(&self) {
        if let Some(link) = self.link.get() {
            link.flush();
        }
    }

    /// Blocks while the scheduler is far behind; see [`Link::wait_for_room`].
    pub fn wait_for_room(&self) {
        if let Some(link) = self.link.get() {
            link.wait_for_room();
        }
    }

    /// Whether both are connected to the same run of one scheduler.
    #[must_use]
    pub fn shares_scheduler_with(&self, other: &Self) -> bool {
        self.epoch.load(Ordering::Acquire) == other.epoch.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Why the connection is closed, when it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<String> {
        self.closed.lock().clone()
    }

    /// Leaves the scheduler, which then releases all of this client's keys.
    pub fn close(&self, reason: &str) {
        self.flush_releases();
        self.fail_all(reason);
        if let Some(link) = self.link.get() {
            link.close();
        }
        self.data.close();
    }

    /// Starts work that the scheduler must see as a whole.
    #[must_use]
    pub fn submission(self: &Arc<Self>) -> Submission<'_> {
        let mut table = self.table.lock();
        // A key that nobody holds any more is released before it can be used again: what is
        // submitted under it then is new work.
        if !self.has(Fault::LeavingUsedAgain) {
            let released = self.take_releases(&mut table);
            if !released.handles.is_empty() {
                self.send(ClientToScheduler::Release(released));
            }
        }
        Submission::new(self, table)
    }

    /// A number for a whole submission.
    #[must_use]
    pub fn next_submission(&self) -> u64 {
        self.last_submission.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The live entry of a key, if there is one.
    #[must_use]
    pub fn find(self: &Arc<Self>, key: &Key) -> Option<Held> {
        let table = self.table.lock();
        table.find(key).map(|entry| Held::new(entry.clone(), self.clone()))
    }

    /// A new reference to an entry, which is dead when it was released before.
    #[must_use]
    pub fn hold(self: &Arc<Self>, entry: &Arc<Entry>) -> Held {
        Held::new(entry.clone(), self.clone())
    }

    /// Number of keys that this client holds.
    #[must_use]
    pub fn held_keys(&self) -> usize {
        self.table.lock().len()
    }

    /// All keys that somebody holds.
    #[must_use]
    pub fn held(self: &Arc<Self>) -> Vec<Held> {
        let entries: Vec<_> = self.table.lock().entries().cloned().collect();
        let held = entries.into_iter().filter(|entry| entry.is_held());
        held.map(|entry| Held::new(entry, self.clone())).collect()
    }

    /// The last holder of an entry is gone.
    fn leave(self: &Arc<Self>, entry: &Arc<Entry>) {
        if entry.is_leaving.swap(true, Ordering::AcqRel) {
            return;
        }
        let count = {
            let mut releases = self.releases.lock();
            releases.push(entry.clone());
            releases.len()
        };
        if self.is_closed() {
            self.releases.lock().clear();
        } else if count >= RELEASE_BATCH || self.release_timer.swap(true, Ordering::AcqRel) {
            if count >= RELEASE_BATCH && count % RELEASE_BATCH == 0 {
                self.release_soon(Duration::ZERO);
            }
        } else {
            self.release_soon(RELEASE_DELAY);
        }
    }

    /// On the IO thread: whoever drops a future may hold any lock.
    fn release_soon(self: &Arc<Self>, delay: Duration) {
        let client: Weak<Self> = Arc::downgrade(self);
        let flush = move || {
            let Some(client) = client.upgrade() else { return };
            client.release_timer.store(false, Ordering::Release);
            client.flush_releases();
        };
        self.timers.after(delay, Box::new(flush));
    }

    /// A future is pickled: the scheduler keeps its result until somebody has unpickled it.
    pub fn deposit(&self, held: &Held, ticket: Ticket) {
        let handle = held.entry().handle;
        self.tell(ClientToScheduler::Deposit(Deposit { handle, ticket }));
    }

    /// Tells the scheduler now which keys are held no more.
    pub fn flush_releases(&self) {
        {
            let mut table = self.table.lock();
            let released = self.take_releases(&mut table);
            if released.handles.is_empty() {
                return;
            }
            self.send(ClientToScheduler::Release(released));
        }
        self.flush();
    }

    fn take_releases(&self, table: &mut Table) -> Handles {
        let leaving = std::mem::take(&mut *self.releases.lock());
        let mut handles = Vec::with_capacity(leaving.len());
        for entry in leaving {
            entry.is_leaving.store(false, Ordering::Release);
            // Somebody may have taken hold of it again.
            if entry.is_held() {
                continue;
            }
            if self.has(Fault::ReleasedStaysKnown) || table.remove(&entry) {
                handles.push(entry.handle);
            }
            if self.has(Fault::ReleasedTwice) {
                handles.push(entry.handle);
            }
        }
        Handles { handles }
    }

    /// Asks the scheduler something.
    #[must_use]
    pub fn ask(&self, question: Question) -> Arc<PendingAnswer> {
        self.ask_numbered(question).1
    }

    /// As [`Client::ask`], with the number of the request; 0 when the client is closed.
    fn ask_numbered(&self, question: Question) -> (u64, Arc<PendingAnswer>) {
        let pending = Arc::new(PendingAnswer { answer: Mutex::default() });
        let id = {
            let mut table = self.table.lock();
            if self.is_closed() {
                drop(table);
                let reason = self.close_reason().unwrap_or_default();
                let _ = pending.set(Answer::failed("closed", reason));
                return (0, pending);
            }
            let id = table.add_question(pending.clone());
            self.send(ClientToScheduler::Request(Request { id, question }));
            id
        };
        self.flush();
        (id, pending)
    }

    /// Has tasks cancelled: what they were, their futures hear later.
    pub fn cancel(&self, entries: &[Held], force: bool, reason: &str, message: &str) {
        for held in entries {
            held.entry().is_cancelling.store(true, Ordering::Release);
        }
        let handles = handles_of(entries);
        let (reason, message) = (reason.to_string(), message.to_string());
        self.tell(ClientToScheduler::Cancel(Cancel { handles, force, reason, message }));
    }

    /// Runs erred tasks again.
    pub fn retry(&self, entries: &[Held]) {
        for held in entries {
            let erred = matches!(held.entry().outcome(), Outcome::Erred(_));
            if erred && !held.entry().is_cancelling() {
                let _ = held.entry().set(Outcome::Pending);
            }
        }
        self.tell(ClientToScheduler::Retry(Handles { handles: handles_of(entries) }));
    }

    /// Keeps tasks until they are done, although nobody may hold them.
    pub fn detach(&self, entries: &[Held]) {
        self.tell(ClientToScheduler::Detach(Handles { handles: handles_of(entries) }));
    }

    fn tell(&self, message: ClientToScheduler) {
        {
            let _order = self.table.lock();
            self.send(message);
        }
        self.flush();
    }

    /// Where a worker serves its data.
    fn peer_address(&self, worker: WorkerNo) -> Option<Arc<str>> {
        self.table.lock().peer(worker)
    }

    /// A worker did not give a result that it is said to hold: the scheduler is told, and tells
    /// where else it is, or has it made again.
    pub fn fetch_failed(&self, entry: &Entry, task: TaskId, worker: WorkerNo) {
        self.disbelieve(entry, task, worker);
        self.report_failed_fetch(entry, task, worker);
    }

    /// The result counts as pending until the scheduler says again where it is.
    fn disbelieve(&self, entry: &Entry, task: TaskId, worker: WorkerNo) {
        if !self.has(Fault::FailedFetchBelieved) {
            entry.disbelieve(task, worker);
        }
    }

    fn report_failed_fetch(&self, entry: &Entry, task: TaskId, worker: WorkerNo) {
        let workers = vec![worker];
        let failed = FetchFailed { handle: entry.handle, task, workers };
        self.tell(ClientToScheduler::FetchFailed(failed));
    }

    fn add_notice(&self, notice: Notice) {
        self.notices.lock().push(notice);
        self.has_notices.store(true, Ordering::Release);
    }

    /// What the user should read, once. Cheap when there is nothing.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        if !self.has_notices.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.notices.lock())
    }

    /// The connection is over: whoever waits learns why.
    fn fail_all(&self, reason: &str) {
        let mut closed = self.closed.lock();
        if closed.is_some() {
            return;
        }
        *closed = Some(reason.to_string());
        drop(closed);
        let (entries, questions) = {
            let mut table = self.table.lock();
            self.is_closed.store(true, Ordering::Release);
            table.drain()
        };
        let why = Arc::new(Cancellation {
            reason: "scheduler-connection-lost".into(),
            message: reason.into(),
            lost: false,
        });
        let mut waits = Vec::new();
        for entry in entries {
            waits.extend(entry.set(Outcome::Cancelled(why.clone())));
        }
        waits.iter().for_each(|wait| wait.count_down(true));
        self.fail_actor_calls(reason);
        for question in questions {
            let waits = question.set(Answer::failed("closed", reason));
            waits.iter().for_each(|wait| wait.count_down(true));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close("the client was dropped");
    }
}

fn handles_of(entries: &[Held]) -> Vec<Handle> {
    entries.iter().map(|held| held.entry().handle).collect()
}
