//! The world around the rules: time, network, and who is there.

use crate::agenda::{Agenda, Happening};
use crate::client::{SimClient, SimFuture};
use crate::rng::{Rng, mix};
use crate::sharing::Shared;
use crate::worker::SimWorker;
use crate::workload::{Node, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::scheduler::{Action, Config, DepositTimes, Event, Scheduler};
use taskloom_proto::ExitKind;
use taskloom_proto::client::{ClientToScheduler, RegisterClient, Ticket};
use taskloom_proto::supervisor::{RegisterSupervisor, SupervisorToScheduler};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{ClientId, ConnId, Key, Nanos, WorkerNo};

/// Longer than clients act, shorter than a run has to be quiet.
const PICKLES: DepositTimes = DepositTimes {
    open_ns: 250 * Nanos::MILLISECOND,
    collected_ns: 250 * Nanos::MILLISECOND,
    overtaken_ns: 250 * Nanos::MILLISECOND,
};

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Graphs that each client submits.
    pub graphs: u64,
    /// Tasks of each graph; small and by chance if not given.
    pub tasks: Option<u64>,
    /// After how many events the invariants are recounted.
    pub validate_every: u64,
    /// Whether every event is printed.
    pub trace: bool,
    /// Whether the trace's hash covers all that is in the messages.
    pub hash_messages: bool,
    /// A rule of the scheduler that is broken on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<taskloom_core::scheduler::Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            graphs: 4,
            tasks: None,
            validate_every: 1,
            trace: false,
            hash_messages: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}

impl Settings {
    /// Few graphs of some hundred tasks.
    #[must_use]
    pub fn large() -> Self {
        Self { graphs: 2, tasks: Some(300), validate_every: 64, ..Self::default() }
    }
}

/// What a run did, when all was well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub events: u64,
    pub futures: u64,
    pub worker_deaths: u64,
    pub worker_pauses: u64,
    pub restarts: u64,
    pub scattered: u64,
    pub requests: u64,
    /// Requests for locks, queues and other shared objects.
    pub shared: u64,
    pub stale_messages: u64,
    pub recomputed: u64,
    pub stolen: u64,
    pub retracted: u64,
    pub run_ahead: u64,
    pub collisions: u64,
    pub unpickled: u64,
    pub interrupted: u64,
    pub processes_replaced: u64,
    /// Hash of all that happened: equal seeds give equal traces.
    pub trace: u64,
}

impl Report {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.futures += other.futures;
        self.worker_deaths += other.worker_deaths;
        self.worker_pauses += other.worker_pauses;
        self.restarts += other.restarts;
        self.scattered += other.scattered;
        self.requests += other.requests;
        self.shared += other.shared;
        self.stale_messages += other.stale_messages;
        self.recomputed += other.recomputed;
        self.stolen += other.stolen;
        self.retracted += other.retracted;
        self.run_ahead += other.run_ahead;
        self.collisions += other.collisions;
        self.unpickled += other.unpickled;
        self.interrupted += other.interrupted;
        self.processes_replaced += other.processes_replaced;
        self.trace = mix(self.trace ^ other.trace);
    }
}

/// A broken invariant, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub at_event: u64,
    pub what: String,
    /// Options of the command that repeat the settings.
    options: &'static str,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {} fails at event {}: {}\nreplay: cargo run --release -p taskloom-sim --bin \
             simulate -- --seed {}{} --trace",
            self.seed, self.at_event, self.what, self.seed, self.options
        )
    }
}

/// A graph that was submitted, for clients that submit it again.
#[derive(Clone)]
pub(crate) struct PastGraph {
    pub name: u64,
    pub nodes: Vec<Node>,
}

pub(crate) struct World {
    pub settings: Settings,
    pub rng: Rng,
    pub agenda: Agenda,
    pub scheduler: Scheduler,
    pub workers: BTreeMap<WorkerNo, SimWorker>,
    pub clients: BTreeMap<ClientId, SimClient>,
    pub names: u64,
    pub last_number: u32,
    pub supervised: bool,
    /// Whether workers report regularly, and count as dead when they do not.
    pub heartbeats: bool,
    pub faults: bool,
    pub kill_percent: u64,
    /// Transfers from workers that break off.
    pub cut_percent: u64,
    pub latency_us: u64,
    pub trouble: Trouble,
    pub past: Vec<PastGraph>,
    /// Keys of scattered values so far.
    pub scattered: u64,
    pub shared: Shared,
    pub last_identity: u64,
    /// Raises, kills and reschedules so far, per call.
    pub planted: BTreeMap<u64, u8>,
    pub dependents: BTreeMap<Key, BTreeSet<Key>>,
    /// Keys that some client cancelled for everybody, and those that need them.
    pub forced: BTreeSet<Key>,
    /// Pickled futures: whoever reads one gets a future of its own.
    pub pickles: Vec<(Ticket, SimFuture)>,
    /// Workers that were retired and stay where they are.
    pub retired: BTreeSet<u64>,
    pub poll_pending: bool,
    /// When something other than a heartbeat happened last.
    last_busy: Nanos,
    pub report: Report,
}

pub(crate) const SUPERVISOR: ConnId = ConnId(1);
/// A worker's time to live, where heartbeats are on.
pub(crate) const TTL_NS: u64 = 100 * Nanos::MILLISECOND;

/// Runs one seed.
///
/// # Errors
/// The first invariant that breaks.
pub fn run(seed: u64, settings: Settings) -> Result<Report, Failure> {
    let mut world = World::new(seed, settings);
    let outcome = world.live().and_then(|()| world.heal_and_check());
    let at_event = world.report.events;
    let options = if settings.tasks.is_some() { " --large" } else { "" };
    outcome.map_err(|what| Failure { seed, at_event, what, options })?;
    Ok(world.report)
}

impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        let mut rng = Rng::new(seed);
        let trouble = Trouble::random(&mut rng);
        let heartbeats = trouble.pauses || rng.chance(10);
        let config = Config {
            worker_ttl_ns: if heartbeats { TTL_NS } else { 1_000_000 * Nanos::SECOND },
            exit_report_ns: 50 * Nanos::MILLISECOND,
            no_workers_timeout_ns: trouble.no_worker_ms.map(|ms| ms * Nanos::MILLISECOND),
            work_stealing: rng.chance(80),
            allowed_failures: [0, 1, 3, 3][rng.below(4) as usize],
            cancel_grace_ns: 10 * Nanos::MILLISECOND,
            inline_bytes: if rng.chance(10) { 40 } else { 1 << 20 },
            #[cfg(feature = "planted")]
            planted: settings.planted,
            deposits: PICKLES,
            ..Config::default()
        };
        let mut world = Self {
            settings,
            agenda: Agenda::new(Nanos(Nanos::SECOND)),
            scheduler: Scheduler::new(config, seed),
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            names: rng.between(1, 4),
            last_number: 0,
            supervised: rng.chance(60),
            heartbeats,
            faults: true,
            kill_percent: if rng.chance(50) { rng.between(1, 25) } else { 0 },
            cut_percent: [0, 2, 2, 2, 50][rng.below(5) as usize],
            latency_us: [5, 50, 2_000][rng.below(3) as usize],
            trouble,
            past: Vec::new(),
            scattered: 0,
            shared: Shared::default(),
            last_identity: 0,
            planted: BTreeMap::new(),
            dependents: BTreeMap::new(),
            forced: BTreeSet::new(),
            pickles: Vec::new(),
            retired: BTreeSet::new(),
            poll_pending: false,
            last_busy: Nanos(Nanos::SECOND),
            report: Report::default(),
            rng,
        };
        world.cast();
        world
    }

    /// Who is there, and what is going to happen to them.
    fn cast(&mut self) {
        if self.supervised {
            let message = SupervisorToScheduler::Register(RegisterSupervisor::default());
            let event = Event::SupervisorMessage { supervisor: SUPERVISOR, message };
            self.agenda.after_us(0, Happening::ToScheduler(event));
        }
        for name in 0..self.names {
            let late = self.rng.below(20_000);
            self.agenda.after_us(late, Happening::WorkerStarts(name));
        }
        for number in 1..=self.rng.between(1, 3) {
            let client = ClientId(number as u32);
            let strict = self.rng.chance(25);
            self.clients.insert(client, SimClient::new(client, strict));
            let register = RegisterClient { strict, ..RegisterClient::default() };
            self.from_client(client, ClientToScheduler::Register(register));
            for _ in 0..self.settings.graphs * 2 {
                let at = self.rng.below(60_000);
                self.agenda.after_us(at, Happening::ClientActs(client));
            }
        }
        self.plan_misfortunes();
    }

    fn plan_misfortunes(&mut self) {
        let mut plan = |percent: bool, most: u64, happening: fn(u64) -> Happening| {
            if !percent {
                return;
            }
            for _ in 0..self.rng.below(most) {
                let at = self.rng.below(80_000);
                let name = self.rng.below(self.names);
                self.agenda.after_us(at, happening(name));
            }
        };
        plan(self.kill_percent > 0, 5, Happening::WorkerDies);
        plan(self.trouble.pauses, 4, Happening::WorkerPauses);
    }

    /// Sends along a lane that keeps its order.
    pub fn send(&mut self, lane: (u8, u64), happening: Happening) {
        let travel_us = 1 + self.rng.below(self.latency_us);
        self.agenda.send(lane, travel_us, happening);
    }

    pub fn from_client(&mut self, client: ClientId, message: ClientToScheduler) {
        let event = Event::ClientMessage { client, message };
        self.send((0, client.0.into()), Happening::ToScheduler(event));
    }

    pub fn from_worker(&mut self, worker: WorkerNo, message: WorkerToScheduler) {
        use WorkerToScheduler::{DepMissing, Done, Erred, Rescheduled, Retracted, Stored, Stuck};
        let may_come_twice = matches!(
            message,
            Done(_)
                | Erred(_)
                | Stuck(_)
                | Rescheduled(_)
                | Retracted(_)
                | DepMissing(_)
                | Stored(_)
        );
        let event = Event::WorkerMessage { worker, message };
        if may_come_twice && self.rng.chance(3) {
            // A copy that arrives late, perhaps after its session is over: to be fenced.
            let late = self.rng.below(50_000);
            self.agenda.after_us(late, Happening::ToScheduler(event.clone()));
        }
        self.send((1, worker.0.into()), Happening::ToScheduler(event));
    }

    /// Lets everything happen until nothing more does.
    pub fn live(&mut self) -> Result<(), String> {
        /// Far more than any healthy run needs: beyond it the rules go round in circles (I11).
        const MAX_EVENTS: u64 = 400_000;
        /// Deadlines that pass with nothing else happening between them.
        const MAX_IDLE_DEADLINES: u64 = 20_000;
        self.last_busy = self.agenda.now;
        let mut idle_deadlines = 0;
        while !self.is_at_rest() {
            let deadline = self.scheduler.next_deadline();
            let next = self.agenda.next_at();
            if let Some(at) = deadline.filter(|at| next.is_none_or(|next| *at < next)) {
                self.agenda.now = self.agenda.now.max(at);
                self.poll()?;
                idle_deadlines += 1;
                if idle_deadlines > MAX_IDLE_DEADLINES {
                    return Err("its deadlines never end".into());
                }
                continue;
            }
            let Some((serial, happening)) = self.agenda.pop() else { return Ok(()) };
            self.report.events += 1;
            if self.report.events > MAX_EVENTS {
                return Err("it does not come to rest".into());
            }
            if !happening.is_idle() {
                idle_deadlines = 0;
                self.last_busy = self.agenda.now;
            }
            self.take_down(serial, &happening);
            self.happen_unless_paused(happening)?;
        }
        Ok(())
    }

    /// Whether nothing more is going to come of anything.
    fn is_at_rest(&self) -> bool {
        /// Longer than any deadline of the scheduler but those of workers.
        const QUIET_NS: u64 = 300 * Nanos::MILLISECOND;
        if !self.agenda.is_quiet() {
            return false;
        }
        let now = self.agenda.now;
        if self.heartbeats {
            return now.since(self.last_busy) > QUIET_NS;
        }
        let far = now.after(1_000 * Nanos::SECOND);
        self.agenda.next_at().is_none() && self.scheduler.next_deadline().is_none_or(|at| at > far)
    }

    fn take_down(&mut self, serial: u64, happening: &Happening) {
        if self.settings.trace {
            println!("{:>12} {happening:?}", self.agenda.now.0);
        }
        let mut hash = mix(self.report.trace ^ self.agenda.now.0 ^ serial);
        if self.settings.hash_messages {
            let text = format!("{happening:?}");
            hash = text.bytes().fold(hash, |hash, byte| mix(hash ^ u64::from(byte)));
        }
        self.report.trace = hash;
    }

    fn happen_unless_paused(&mut self, happening: Happening) -> Result<(), String> {
        let now = self.agenda.now;
        let paused_until = happening
            .workers()
            .into_iter()
            .flatten()
            .filter_map(|number| self.workers.get(&number))
            .filter(|worker| worker.alive && worker.paused_until > now)
            .map(|worker| worker.paused_until)
            .max();
        if let Some(until) = paused_until {
            self.agenda.put(until, happening);
            return Ok(());
        }
        self.happen(happening)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::ToScheduler(event) => self.to_scheduler(event),
            Happening::ToWorker(number, message) => self.to_worker(number, message),
            Happening::ToClient(client, message) => self.to_client(client, message),
            Happening::ToSupervisor(message) => {
                self.supervisor_acts(message);
                Ok(())
            }
            Happening::ThreadHalf(worker, task, attempt) => self.secede(worker, task, attempt),
            Happening::ThreadBack(worker, task, attempt) => self.rejoin(worker, task, attempt),
            Happening::ThreadDone(worker, task, attempt) => self.thread_done(worker, task, attempt),
            Happening::Interrupted(worker, task, attempt, why) => {
                self.interrupted(worker, task, attempt, why)
            }
            Happening::PeerAnswers { asker, peer, tasks } => self.peer_answers(asker, peer, tasks),
            Happening::ClientFetches { client, handle, task, worker } => {
                self.client_fetches(client, handle, task, worker)
            }
            Happening::ClientPuts { client, handle, task, worker } => {
                self.client_puts(client, handle, task, worker)
            }
            Happening::ClientActs(client) => {
                self.client_acts(client);
                Ok(())
            }
            Happening::WorkerTick(number) => self.worker_tick(number),
            Happening::Heartbeat(number) => {
                self.heartbeat(number);
                Ok(())
            }
            Happening::WorkerNotices(number) => {
                self.kill(number, ExitKind::Requested);
                Ok(())
            }
            Happening::WorkerDies(name) => {
                self.kill_by_name(name);
                Ok(())
            }
            Happening::WorkerPauses(name) => {
                self.pause(name);
                Ok(())
            }
            Happening::WorkerStarts(name) => {
                self.start_worker(name);
                Ok(())
            }
            Happening::Poll => {
                self.poll_pending = false;
                self.poll()
            }
        }
    }

    fn to_scheduler(&mut self, event: Event) -> Result<(), String> {
        self.scheduler.handle(self.agenda.now, event);
        self.validate()?;
        if self.rng.chance(70) {
            return self.poll();
        }
        // More may arrive before the scheduler has a moment.
        if !self.poll_pending {
            self.poll_pending = true;
            let soon = self.rng.below(self.latency_us);
            self.agenda.after_us(soon, Happening::Poll);
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), String> {
        if !self.report.events.is_multiple_of(self.settings.validate_every) {
            return Ok(());
        }
        self.scheduler.validate()
    }

    pub fn poll(&mut self) -> Result<(), String> {
        let actions = self.scheduler.poll(self.agenda.now);
        self.validate()?;
        for action in actions {
            match action {
                Action::ToWorker(number, message) => {
                    self.send((2, number.0.into()), Happening::ToWorker(number, message));
                }
                Action::ToClient(client, message) => {
                    self.send((3, client.0.into()), Happening::ToClient(client, message));
                }
                Action::ToSupervisor(_, message) => {
                    self.send((5, 0), Happening::ToSupervisor(message));
                }
                Action::CloseWorker(number, _) => self.cut_off(number),
                Action::CloseClient(..) | Action::Stop => {}
            }
        }
        Ok(())
    }
}
