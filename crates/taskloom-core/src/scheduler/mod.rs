//! The scheduler: decides where and when tasks run.
//!
//! A pure state machine. [`Scheduler::handle`] applies one event, [`Scheduler::poll`] places what
//! became runnable and returns what is to be sent. Surprising input is a case, not a failure: it
//! is answered or counted, so that one bad message never stops the scheduler.
//!
//! - `task`: the arena and the table of states; `transitions`: the rules between the states.
//! - `submit`, `clients`, `deposits`: what clients say; `workers`, `suspects`: what workers do,
//!   and their end; `sessions`: those whose connection is broken; `offers`: what
//!   outlives a session.
//! - `attempts`, `interrupts`, `policies`: retries with pauses, runs beyond their limits.
//! - `actors`: results that live on one worker; `scatter`: data that clients put there.
//! - `placement`, `stealing`: which worker gets which task, and how much ahead; `standing`: who
//!   looks for work; `eligibility`: who may run what.
//! - `coordination`: locks, queues and other objects that programs share.
//! - `replicas`: copies of results by order; `memory`: workers whose memory is short.
//! - `events`, `setups`, `task_logs`, `control`, `dump`: for those who operate the cluster;
//!   `journal`: bounded records.
//! - `questions`, `info`: what people ask; `validate`, `planted`: for tests and the simulator.

mod actors;
mod adaptive;
mod attempts;
mod clients;
mod control;
mod coordination;
mod departures;
mod deposits;
mod dump;
mod eligibility;
mod events;
mod info;
mod interrupts;
mod journal;
mod memory;
mod naming;
mod offers;
mod outbox;
mod partings;
mod placement;
mod planted;
mod policies;
mod questions;
mod queue;
mod replay;
mod replicas;
mod scatter;
mod sessions;
mod setups;
mod spread;
mod standing;
mod stealing;
mod story;
mod submit;
mod supervisors;
mod suspects;
mod task;
mod task_logs;
mod tied;
mod transitions;
mod validate;
mod worker_table;
mod workers;

#[cfg(test)]
mod tests;

pub use deposits::DepositTimes;
#[cfg(feature = "planted")]
use planted::Fault;
pub use sessions::Party;
pub use task::{State, TRANSITIONS, is_legal};

use clients::ClientRecord;
use foldhash::fast::FixedState;
use outbox::Outbox;
use story::StoryBook;
use submit::FunctionTable;
use suspects::Suspects;
use task::{PrefixTable, TaskTable};
use taskloom_proto::client::{ClientToScheduler, SchedulerToClient};
use taskloom_proto::supervisor::{SchedulerToSupervisor, SupervisorToScheduler};
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};
use taskloom_types::{ClientId, ConnId, Generation, Nanos, WorkerNo};
use transitions::Step;
use worker_table::{ClassTable, WorkerSlot, WorkerTable};

pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
pub(crate) type Set<K> = hashbrown::HashSet<K, FixedState>;

/// Settings. The names are Dask's where it has the setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients and workers reach the scheduler; shown to people.
    pub address: String,
    /// Deaths of workers that a task may cause before it fails with `KilledWorker`.
    pub allowed_failures: u8,
    /// Silence after which a worker counts as lost, in ns.
    pub worker_ttl_ns: u64,
    /// How long a task may wait for a worker that may run it, in ns. `None`: for ever.
    pub no_workers_timeout_ns: Option<u64>,
    /// How often workers report, in ms.
    pub heartbeat_ms: u32,
    /// How long a session may be without a connection, in ns; 0: it ends with it.
    pub grace_ns: u64,
    /// How long placement waits, after a start, for workers of an earlier run to offer what they
    /// hold, in ns; from the first who comes back on.
    pub settle_ns: u64,
    /// Assumed speed of transfers between workers, in bytes per second.
    pub bandwidth: u64,
    /// Copies of results from this size on spread as a tree, in bytes.
    pub spread_bytes: u64,
    /// Whether idle workers take work from busy ones.
    pub work_stealing: bool,
    /// Expected work that a worker thread is given ahead, in ns.
    pub prefetch_ns: u64,
    /// How long to wait for a supervisor's word on a dead worker, in ns.
    pub exit_report_ns: u64,
    /// How long a worker that leaves may take to end the calls of an actor and hand it over, in
    /// ns.
    pub hand_over_ns: u64,
    /// How long a run that was cancelled with force may go on before its process is replaced, in
    /// ns.
    pub cancel_grace_ns: u64,
    /// Bytes of small results that the scheduler keeps in all; beyond it only workers do.
    pub inline_bytes: u64,
    /// Memory of a worker that no result accounts for counts once it has been there for so long, in
    /// ns.
    pub recent_to_old_ns: u64,
    /// How long pickled futures keep their results.
    pub deposits: DepositTimes,
    /// How long a new worker may take for each call before its first task, in ns.
    pub setup_timeout_ns: u64,
    /// A rule that is broken on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<Fault>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: String::new(),
            allowed_failures: 3,
            worker_ttl_ns: 30 * Nanos::SECOND,
            no_workers_timeout_ns: None,
            heartbeat_ms: 1000,
            grace_ns: 30 * Nanos::SECOND,
            settle_ns: 2 * Nanos::SECOND,
            bandwidth: 500_000_000,
            // Smaller ones are cheaper to fetch than to wait for.
            spread_bytes: 1024 * 1024,
            work_stealing: true,
            prefetch_ns: Nanos::MILLISECOND,
            exit_report_ns: 2 * Nanos::SECOND,
            hand_over_ns: 30 * Nanos::SECOND,
            cancel_grace_ns: 5 * Nanos::SECOND,
            inline_bytes: 512 * 1024 * 1024,
            recent_to_old_ns: 30 * Nanos::SECOND,
            deposits: DepositTimes::default(),
            setup_timeout_ns: 300 * Nanos::SECOND,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    ClientMessage {
        client: ClientId,
        message: ClientToScheduler,
    },
    ClientLeft {
        client: ClientId,
    },
    WorkerMessage {
        worker: WorkerNo,
        message: WorkerToScheduler,
    },
    WorkerLeft {
        worker: WorkerNo,
    },
    SupervisorMessage {
        supervisor: ConnId,
        message: SupervisorToScheduler,
    },
    SupervisorLeft {
        supervisor: ConnId,
    },
    /// The party's connection is broken. Its session waits for another one.
    Away(Party),
    /// The session goes on; nothing that was said is lost.
    Back(Party),
}

/// What the shell shall do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    ToClient(ClientId, SchedulerToClient),
    ToWorker(WorkerNo, SchedulerToWorker),
    ToSupervisor(ConnId, SchedulerToSupervisor),
    /// Close the connection; the text is for the log.
    CloseWorker(WorkerNo, String),
    CloseClient(ClientId, String),
    CloseSupervisor(ConnId, String),
    /// End the session without a word: the worker is taken for dead, and should it live, it comes
    /// back as a new one.
    CutWorker(WorkerNo, String),
    /// End the scheduler.
    Stop,
}

/// Counters for people and tests; all grow only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub transitions: u64,
    /// Transitions that the table does not allow: always 0, or there is a bug.
    pub illegal_transitions: u64,
    /// Messages about an attempt, a session or a task that is over.
    pub stale_messages: u64,
    pub tasks_submitted: u64,
    pub tasks_done: u64,
    pub tasks_erred: u64,
    pub collisions: u64,
    /// Graph keys that came with another spec than the one that is kept.
    pub spec_differences: u64,
    pub stolen: u64,
    pub retracted: u64,
    pub recomputed: u64,
    pub run_ahead: u64,
    pub workers_lost: u64,
    /// Sessions that went on after their connection was broken.
    pub sessions_resumed: u64,
    /// Results of earlier sessions that were not made again.
    pub results_adopted: u64,
    /// Processes that were replaced since a run in them did not end.
    pub processes_replaced: u64,
    /// Copies that a worker dropped for want of memory, since others had them.
    pub spared_copies: u64,
}

/// What the shell passed on to workers that clients cannot reach.
#[derive(Debug, Clone, Copy, Default)]
struct Relayed {
    connections: usize,
    bytes: u64,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    epoch: u64,
    now: Nanos,
    tasks: TaskTable,
    prefixes: PrefixTable,
    classes: ClassTable,
    workers: WorkerTable,
    clients: Map<ClientId, ClientRecord>,
    functions: FunctionTable,
    supervisors: Map<ConnId, String>,
    absences: sessions::Absences,
    offers: offers::Offers,
    suspects: Suspects,
    policies: policies::PolicyTable,
    delays: attempts::Delays,
    partings: partings::Partings,
    questions: questions::OpenQuestions,
    scatters: scatter::Scatters,
    events: events::Events,
    setups: setups::Setups,
    replication: replicas::Replication,
    relayed: Relayed,
    task_logs: task_logs::TaskLogs,
    coordinator: coordination::Coordinator,
    deposits: deposits::Deposits,
    actors: actors::Actors,
    /// Consequences that are still to be drawn; empty between events.
    steps: Vec<Step>,
    outbox: Outbox,
    story: StoryBook,
    counters: Counters,
    state_counts: [u64; 7],
    inline_bytes: u64,
    generation: Generation,
    /// Keeps submissions of one generation in the order in which they came.
    next_order: u64,
    next_stamp: u32,
    standings: standing::Standings,
    /// Classes with restrictions whose queues were empty, or had other workers, at the last
    /// placement.
    fresh_classes: Vec<u32>,
    /// Workers with tasks in their own queues, and workers with more than they can run at once;
    /// some have left that state by now.
    victims: std::collections::VecDeque<WorkerSlot>,
    overfull: Vec<WorkerSlot>,
    /// Nobody has been silent for too long before.
    silence_at: Nanos,
    /// Whether something that changes placements happened since the last [`Scheduler::poll`].
    placement_due: bool,
    steal_at: Option<Nanos>,
    /// Tasks that no worker may run, and since when; some have left that state by now. Empty
    /// when there is no time-out.
    without_worker: std::collections::VecDeque<(Nanos, queue::Entry)>,
    last_poll: Nanos,
}

impl Scheduler {
    /// `epoch` tells this run of the scheduler from earlier ones at the same address.
    #[must_use]
    pub fn new(config: Config, epoch: u64) -> Self {
        Self {
            config,
            epoch,
            now: Nanos::default(),
            // Workers may still run tasks of an earlier run: its ids are no ids of this one.
            tasks: TaskTable::from_generation((epoch >> 32) as u32),
            prefixes: PrefixTable::default(),
            classes: ClassTable::default(),
            workers: WorkerTable::default(),
            clients: Map::default(),
            functions: FunctionTable::default(),
            supervisors: Map::default(),
            absences: sessions::Absences::default(),
            offers: offers::Offers::default(),
            suspects: Suspects::default(),
            policies: policies::PolicyTable::default(),
            delays: attempts::Delays::default(),
            partings: partings::Partings::default(),
            questions: questions::OpenQuestions::default(),
            scatters: scatter::Scatters::default(),
            events: events::Events::default(),
            setups: setups::Setups::default(),
            replication: replicas::Replication::default(),
            relayed: Relayed::default(),
            task_logs: task_logs::TaskLogs::default(),
            coordinator: coordination::Coordinator::default(),
            deposits: deposits::Deposits::default(),
            actors: actors::Actors::default(),
            steps: Vec::new(),
            outbox: Outbox::default(),
            story: StoryBook::default(),
            counters: Counters::default(),
            state_counts: [0; 7],
            inline_bytes: 0,
            generation: Generation::default(),
            next_order: 0,
            next_stamp: 0,
            standings: standing::Standings::default(),
            fresh_classes: Vec::new(),
            victims: std::collections::VecDeque::new(),
            overfull: Vec::new(),
            silence_at: Nanos::default(),
            placement_due: false,
            steal_at: None,
            without_worker: std::collections::VecDeque::new(),
            last_poll: Nanos::default(),
        }
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Tasks that the scheduler knows, in any state.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Applies one event. Its consequences, but for placement, are drawn at once.
    pub fn handle(&mut self, now: Nanos, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::ClientMessage { client, message } => self.on_client_message(client, message),
            Event::ClientLeft { client } => self.on_client_left(client),
            Event::WorkerMessage { worker, message } => self.on_worker_message(worker, message),
            Event::WorkerLeft { worker } => self.on_worker_left(worker, true),
            Event::SupervisorMessage { supervisor, message } => {
                self.on_supervisor_message(supervisor, message);
            }
            Event::SupervisorLeft { supervisor } => self.on_supervisor_left(supervisor),
            Event::Away(party) => self.on_away(party),
            Event::Back(party) => self.on_back(party),
        }
        self.run_steps();
    }

    /// Applies due deadlines, places runnable tasks and returns what is to be sent. Call it once
    /// after each batch of events, and when [`Scheduler::next_deadline`] has come.
    pub fn poll(&mut self, now: Nanos) -> Vec<Action> {
        self.now = self.now.max(now);
        self.forgive_own_pause();
        self.on_deadlines();
        self.run_steps();
        if self.placement_due && !self.offers.is_settling() {
            self.placement_due = false;
            self.place();
        }
        self.answer_open_questions();
        self.tell_transitions();
        self.last_poll = self.now;
        self.outbox.drain()
    }

    /// When [`Scheduler::poll`] has something to do even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let deadlines = [
            self.next_worker_deadline(),
            self.next_absence_deadline(),
            self.offers.next_deadline(),
            self.suspects.next_deadline(),
            self.delays.next_deadline(),
            self.questions.next_deadline(),
            self.scatters.next_deadline(),
            self.coordinator.next_deadline(),
            self.deposits.next_deadline(),
            self.setups.next_deadline(),
            self.actors.next_deadline(),
            self.next_no_worker_deadline(),
            self.steal_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// If the scheduler itself slept (suspended, stopped), silence is no sign of death: every
    /// worker gets the time back (reference F10).
    fn forgive_own_pause(&mut self) {
        let pause = self.now.since(self.last_poll);
        if pause < self.config.worker_ttl_ns / 2 || self.last_poll == Nanos::default() {
            return;
        }
        let slots: Vec<_> = self.workers.slots().collect();
        for slot in slots {
            self.workers[slot].last_seen = self.now;
        }
        self.absences.extend(self.now.after(self.config.grace_ns));
    }

    fn on_deadlines(&mut self) {
        self.lose_silent_workers();
        self.end_absences();
        self.end_offers();
        self.end_overdue_limbo();
        self.end_delays();
        self.fail_tasks_without_workers();
        self.lose_abandoned_scatters();
        self.end_overdue_coordination();
        self.end_overdue_deposits();
        self.give_up_overdue_setups();
        self.answer_doubts();
        self.end_overdue_hand_overs();
        self.placement_due |= self.partings.expire(self.now);
        if self.steal_at.is_some_and(|at| at <= self.now) {
            self.steal_at = None;
            self.placement_due = true;
        }
    }
}
