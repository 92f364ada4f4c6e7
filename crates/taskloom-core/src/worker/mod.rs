//! A worker's rules: which assigned task may start, which inputs to fetch from whom, which
//! results to keep. Values and calls are opaque here; the shell owns the bytes.
//!
//! Inputs are the `on_*` methods, one per event; [`Worker::next_ready`] starts a task;
//! [`Worker::drain_actions`] gives what the shell has to do, in order. The map of a [`LocalTask`]:
//!
//! ```text
//!             Compute                     next_ready              on_finished
//! (unknown) ----------> waiting -> ready ------------> executing -------------> held --Free--> (unknown)
//!                          |                            |  ^ secede / rejoin
//!                          +--- an input is wanted, in flight, or missing (fetch.rs)
//! ```
//!
//! A task may be an input, a run, or both. A run that is freed while a thread executes it leaves
//! the task at once and lives on in `running` as abandoned, until its thread is back: so a new
//! attempt never has to wait for, or be confused with, an old one.

mod acquire;
mod data;
mod fetch;
mod limits;
mod load;
mod memory;
mod planted;
mod rejoin;
mod runs;
mod validate;

#[cfg(test)]
mod tests;

pub use fetch::FetchOutcome;
pub use limits::Interrupt;
pub use memory::{MemoryLimits, SpillFailure, Ticket};
pub use runs::StartedRun;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use taskloom_proto::SmallBytes;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Attempt, Nanos, Priority, TaskId, WorkerNo};

/// With a fixed hash: ids come from the scheduler, and a replayed run must not depend on chance.
type Map<K, V> = HashMap<K, V, FixedState>;

/// What the shell has to do, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Send(WorkerToScheduler),
    /// Tell the scheduler that this run's result is here, with the value where it is small.
    ReportDone {
        task: TaskId,
        attempt: Attempt,
        size_bytes: u64,
    },
    /// Keep this encoded value.
    StoreInline {
        task: TaskId,
        value: SmallBytes,
    },
    /// The value is of no use any more.
    DropValue(TaskId),
    /// The value is offered under a number: its task's id means nothing any more.
    KeepValue {
        task: TaskId,
        number: u64,
    },
    /// The kept value is this task's from now on.
    TakeKept {
        number: u64,
        task: TaskId,
    },
    DropKept(u64),
    /// Nobody wants this run's outcome any more, and a thread or the event loop is still in it.
    Abandoned {
        task: TaskId,
        attempt: Attempt,
    },
    /// Raise an exception in this run, and in no other, if it still goes on.
    Interrupt {
        task: TaskId,
        attempt: Attempt,
        why: Interrupt,
    },
    /// Write this value to disk; answered by [`Worker::on_spilled`] or
    /// [`Worker::on_spill_failed`]. It stays in memory until then.
    Spill {
        task: TaskId,
        ticket: Ticket,
    },
    /// Read this value from disk; answered by [`Worker::on_loaded`] or
    /// [`Worker::on_load_failed`].
    Unspill {
        task: TaskId,
        ticket: Ticket,
    },
    /// Drop what is in memory of this value: its file, which was kept when it was read, is enough.
    Evict(TaskId),
    /// Give memory that is free back to the system.
    TrimMemory,
    /// Ask a peer; answered by [`Worker::on_fetch_done`] or [`Worker::on_fetch_failed`].
    Fetch {
        peer: WorkerNo,
        address: String,
        tasks: Vec<TaskId>,
    },
}

/// Limits of fetching and of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Peers asked at the same time.
    pub max_peers: usize,
    /// Bytes asked of one peer at a time, by the sizes the scheduler told; at least one value.
    pub max_fetch_bytes: u64,
    /// Bytes on their way from all peers; more is asked for while there are fewer.
    pub max_coming_bytes: u64,
    pub memory: MemoryLimits,
    /// A rule that is broken on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<planted::Fault>,
}

impl Config {
    /// The usual limits for a worker with so much memory: a tenth of it is for what is on its way.
    #[must_use]
    pub fn with_memory(memory: MemoryLimits) -> Self {
        let plain = Self { memory, ..Self::default() };
        match memory.limit_bytes / 10 {
            0 => plain,
            tenth => Self {
                max_fetch_bytes: plain.max_fetch_bytes.min(tenth),
                max_coming_bytes: tenth,
                ..plain
            },
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let max_fetch_bytes = 50 * 1024 * 1024;
        Self {
            max_peers: 50,
            max_fetch_bytes,
            max_coming_bytes: u64::MAX,
            memory: MemoryLimits::default(),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

/// What was dropped since it was late or made no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Runs sent twice, or older than one that is here.
    pub stale_runs: u64,
    /// Outcomes of runs that nobody waits for.
    pub discarded_outcomes: u64,
    /// Fetched values that nobody needs any more.
    pub unwanted_values: u64,
    /// Messages about tasks that are not here.
    pub unknown_tasks: u64,
}

/// The rules of one worker; see the module.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    tasks: Map<TaskId, LocalTask>,
    ready: ReadyQueue,
    ready_coroutines: ReadyQueue,
    running: Map<(TaskId, Attempt), Running>,
    peers: Map<WorkerNo, fetch::Peer>,
    fetch_deadline: Option<Nanos>,
    limits: limits::Limits,
    memory: memory::Memory,
    kept: rejoin::Kept,
    last_serial: u64,
    managed_bytes: u64,
    actions: Vec<Action>,
    counters: Counters,
}

/// All that is known of one task here.
#[derive(Debug, Default)]
struct LocalTask {
    run: Option<runs::Run>,
    data: Option<data::Data>,
    fetch: Option<Box<fetch::FetchState>>,
    /// What the value is, or will be, across sessions; not of copies that were fetched, and not of
    /// actors.
    name: Option<rejoin::Name>,
    /// Runs here that have not started and need this task's result. A run counts once per use.
    users: u32,
    /// The scheduler wants a copy here; counts as one of `users` until it is there.
    acquired: bool,
    /// Those of `users` that wait, by task and serial. Entries of runs that are gone stay until
    /// the list is used: taking each out at once would make freeing many dependents quadratic.
    waiters: SmallVec<[(TaskId, u64); 2]>,
}

impl LocalTask {
    fn is_forgettable(&self) -> bool {
        self.run.is_none() && self.data.is_none() && self.users == 0
    }
}

/// A run that a thread or the event loop is in.
#[derive(Debug, Clone, Copy)]
struct Running {
    started: Nanos,
    /// Nobody wants the outcome.
    abandoned: bool,
    /// It occupies resources: the scheduler waits for its end in any case.
    has_resources: bool,
}

/// Runs that may start, best priority first, oldest first among equals.
#[derive(Debug, Default)]
struct ReadyQueue {
    heap: BinaryHeap<Reverse<(Priority, u64, TaskId)>>,
    /// Entries that are still valid: a run that is taken back stays in the heap until popped.
    live: usize,
}

impl Worker {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            tasks: Map::default(),
            ready: ReadyQueue::default(),
            ready_coroutines: ReadyQueue::default(),
            running: Map::default(),
            peers: Map::default(),
            fetch_deadline: None,
            limits: limits::Limits::default(),
            memory: memory::Memory::new(config.memory),
            kept: rejoin::Kept::default(),
            last_serial: 0,
            managed_bytes: 0,
            actions: Vec::new(),
            counters: Counters::default(),
        }
    }

    // Getters.

    /// How many runs may start in an executor thread now.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.ready.live
    }

    /// How many coroutine runs may start now.
    #[must_use]
    pub fn ready_coroutine_count(&self) -> usize {
        self.ready_coroutines.live
    }

    /// Bytes of all values here, on disk too, as reported by those who made them.
    #[must_use]
    pub fn managed_bytes(&self) -> u64 {
        self.managed_bytes
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the task's value is here.
    #[must_use]
    pub fn has_value(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|t| t.data.is_some())
    }

    /// Tasks whose value the scheduler knows to be here.
    pub fn held_tasks(&self) -> impl Iterator<Item = TaskId> {
        let held = |t: &LocalTask| t.data.as_ref().is_some_and(|d| d.reported);
        self.tasks.iter().filter(move |(_, t)| held(t)).map(|(task, _)| *task)
    }

    /// Tasks about which something is known here.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// What runs now, and since when; abandoned runs too, since they use the machine.
    pub fn executing(&self) -> impl Iterator<Item = (TaskId, Attempt, Nanos)> {
        self.running.iter().map(|((task, attempt), r)| (*task, *attempt, r.started))
    }

    /// When [`Worker::on_tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        match (self.fetch_deadline, self.limits.next_deadline()) {
            (Some(fetch), Some(limit)) => Some(fetch.min(limit)),
            (fetch, limit) => fetch.or(limit),
        }
    }

    // Out.

    /// Moves what is to be done to the end of `into`.
    pub fn drain_actions(&mut self, into: &mut Vec<Action>) {
        into.append(&mut self.actions);
    }

    #[must_use]
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    fn send(&mut self, message: WorkerToScheduler) {
        self.actions.push(Action::Send(message));
    }

    /// Forgets a task about which nothing is left to know.
    fn forget_if_idle(&mut self, task: TaskId) {
        if self.tasks.get(&task).is_some_and(LocalTask::is_forgettable) {
            self.tasks.remove(&task);
        }
    }
}
