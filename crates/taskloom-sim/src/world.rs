//! The world around the rules: time, network, and who is there.

use crate::agenda::{Agenda, Happening, Planned};
use crate::broken::{Broken, Checked};
use crate::client::SimClient;
use crate::ledger::Ledger;
use crate::memory::MemoryTrouble;
use crate::network::Network;
use crate::people::Pickle;
use crate::plan::{Part, Plan, SessionTrouble, Stage, What};
pub use crate::report::Report;
use crate::restarts::FirstNumbers;
use crate::rng::{Rng, mix};
use crate::sharing::Shared;
use crate::worker::SimWorker;
use crate::workload::{Node, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::scheduler::{Action, Config, DepositTimes, Event, Party, Scheduler};
use taskloom_proto::client::ClientToScheduler;
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
    /// Far more than any healthy run needs: beyond it the rules go round in circles (I11).
    pub max_events: u64,
    /// Whether every event is printed.
    pub trace: bool,
    /// Whether the trace's hash covers all that is in the messages.
    pub hash_messages: bool,
    /// A rule that is broken on purpose.
    #[cfg(feature = "planted")]
    pub planted: Option<taskloom_core::planted::Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            graphs: 4,
            tasks: None,
            validate_every: 1,
            max_events: 100_000,
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
        Self {
            graphs: 2,
            tasks: Some(300),
            validate_every: 64,
            max_events: 400_000,
            ..Self::default()
        }
    }

    /// As options of the command that replays a run.
    fn options(&self) -> &'static str {
        if self.tasks.is_some() { " --large" } else { "" }
    }
}

/// A broken invariant, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub at_event: u64,
    pub broken: Broken,
    /// Which part of the seed's plan was played.
    pub part: Part,
    /// Options of the command that repeat the settings.
    options: &'static str,
}

impl Failure {
    /// The rules met something that cannot be: an assertion failed.
    pub(crate) fn panicked(
        seed: u64,
        settings: Settings,
        part: &Part,
        panic: &(dyn std::any::Any + Send),
    ) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        let broken = Broken::new("panic", text);
        Self { seed, at_event: 0, broken, part: part.clone(), options: settings.options() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {} fails at event {}: {}\nreplay: cargo run --release -p taskloom-sim --bin \
             simulate -- --seed {}{}{} --trace",
            self.seed, self.at_event, self.broken, self.seed, self.options, self.part
        )
    }
}

/// A graph that was submitted, for clients that submit it again.
#[derive(Clone)]
pub(crate) struct PastGraph {
    /// The number of its step.
    pub name: usize,
    pub nodes: Vec<Node>,
}

pub(crate) struct World {
    pub settings: Settings,
    pub plan: Plan,
    /// The chance in what happens now.
    pub rng: Rng,
    pub agenda: Agenda,
    pub scheduler: Scheduler,
    pub config: Config,
    pub first_numbers: FirstNumbers,
    pub supervisor: ConnId,
    pub workers: BTreeMap<WorkerNo, SimWorker>,
    pub clients: BTreeMap<ClientId, SimClient>,
    pub names: u64,
    pub last_number: u32,
    /// Sessions of clients have numbers up to this one.
    pub last_session: u32,
    pub supervised: bool,
    /// Whether workers report regularly, and count as dead when they do not.
    pub heartbeats: bool,
    pub faults: bool,
    /// Messages of workers that come twice.
    pub twice_percent: u64,
    /// Transfers from workers that break off.
    pub cut_percent: u64,
    pub latency_us: u64,
    pub trouble: Trouble,
    pub past: Vec<PastGraph>,
    /// Keys of scattered values so far.
    pub scattered: u64,
    pub shared: Shared,
    pub network: Network,
    pub memory: MemoryTrouble,
    pub ledger: Ledger,
    /// The scheduler's process is stopped until then.
    pub scheduler_paused_until: Nanos,
    /// How far the scheduler's clock is ahead, in ns.
    pub scheduler_ahead_ns: u64,
    /// Raises, kills and reschedules so far, per call.
    pub planted: BTreeMap<u64, u8>,
    pub dependents: BTreeMap<Key, BTreeSet<Key>>,
    /// Keys that some client cancelled for everybody, and those that need them.
    pub forced: BTreeSet<Key>,
    /// Keys whose results may have gone with the session of a client.
    pub doubtful: BTreeSet<Key>,
    pub pickles: Vec<Pickle>,
    /// Keys whose pickles may keep nothing: what was said of them went with a session.
    pub lost_pickles: BTreeSet<Key>,
    /// Workers that were retired and stay where they are.
    pub retired: BTreeSet<u64>,
    pub poll_pending: bool,
    /// What was found where nobody could be told.
    pub broken: Option<Broken>,
    /// When something other than a heartbeat happened last.
    last_busy: Nanos,
    pub report: Report,
}

/// A worker's time to live, where heartbeats are on.
pub(crate) const TTL_NS: u64 = 100 * Nanos::MILLISECOND;

/// Runs one seed.
///
/// # Errors
/// The first invariant that breaks.
pub fn run(seed: u64, settings: Settings) -> Result<Report, Failure> {
    run_part(seed, settings, &Part::default())
}

/// Runs a part of what a seed has in store.
///
/// # Errors
/// The first invariant that breaks.
pub fn run_part(seed: u64, settings: Settings, part: &Part) -> Result<Report, Failure> {
    let mut world = World::new(seed, settings, part);
    let outcome = world.live().and_then(|()| world.heal_and_check());
    let at_event = world.report.events;
    let options = settings.options();
    let part = part.clone();
    outcome.map_err(|broken| Failure { seed, at_event, broken, part, options })?;
    Ok(world.report)
}

/// What a seed has in store.
#[must_use]
pub(crate) fn plan_of(seed: u64, settings: Settings, part: &Part) -> Plan {
    World::new(seed, settings, part).plan
}

impl World {
    fn new(seed: u64, settings: Settings, part: &Part) -> Self {
        let mut rng = Rng::new(seed);
        let trouble = Trouble::random(&mut rng);
        let heartbeats = trouble.pauses || rng.chance(if trouble.network { 60 } else { 10 });
        let config = Config {
            // Most results that are copied here: the tree is tried under all faults.
            spread_bytes: 1000,
            worker_ttl_ns: if heartbeats { TTL_NS } else { 1_000_000 * Nanos::SECOND },
            exit_report_ns: 50 * Nanos::MILLISECOND,
            hand_over_ns: 50 * Nanos::MILLISECOND,
            grace_ns: crate::sessions::GRACE_NS,
            settle_ns: 10 * Nanos::MILLISECOND,
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
        let names = if trouble.deadly { rng.between(1, 2) } else { rng.between(1, 4) };
        let may_die = rng.chance(50) && !trouble.calm;
        let memory = MemoryTrouble::random(seed, !trouble.calm);
        let stage = Stage {
            seed,
            graphs: settings.graphs,
            tasks: settings.tasks,
            names,
            clients: rng.between(1, 3),
            trouble,
            kills: may_die,
            heartbeats,
            is_memory_short: memory.limits.is_some(),
            sessions: SessionTrouble::random(seed, trouble.calm),
        };
        let mut world = Self {
            settings,
            plan: Plan::new(&stage).part(part),
            agenda: Agenda::new(Nanos(Nanos::SECOND)),
            ledger: Ledger::new(&config, trouble),
            scheduler: Scheduler::new(config.clone(), mix(seed)),
            config,
            first_numbers: FirstNumbers::default(),
            supervisor: ConnId(1),
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            names,
            last_number: 0,
            last_session: stage.clients as u32,
            supervised: rng.chance(60),
            heartbeats,
            faults: true,
            twice_percent: if trouble.calm { 0 } else { [0, 3, 3, 20][rng.below(4) as usize] },
            cut_percent: if trouble.calm { 0 } else { [0, 2, 2, 2, 50][rng.below(5) as usize] },
            latency_us: [5, 50, 2_000][rng.below(3) as usize],
            trouble,
            past: Vec::new(),
            scattered: 0,
            shared: Shared::default(),
            network: Network::default(),
            memory,
            scheduler_paused_until: Nanos(0),
            scheduler_ahead_ns: 0,
            planted: BTreeMap::new(),
            dependents: BTreeMap::new(),
            forced: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            pickles: Vec::new(),
            lost_pickles: BTreeSet::new(),
            retired: BTreeSet::new(),
            poll_pending: false,
            broken: None,
            last_busy: Nanos(Nanos::SECOND),
            report: Report::default(),
            rng,
        };
        world.cast(stage.clients, part);
        world
    }

    /// Who is there, and what is going to happen to them.
    fn cast(&mut self, clients: u64, part: &Part) {
        if self.supervised {
            let message = SupervisorToScheduler::Register(RegisterSupervisor::default());
            let event = Event::SupervisorMessage { supervisor: self.supervisor, message };
            self.agenda.after_us(0, Happening::ToScheduler(event));
        }
        for number in 1..=clients {
            let client = ClientId(number as u32);
            let strict = self.rng.chance(25);
            let record = SimClient::new(client, strict, self.scheduler.epoch());
            #[cfg(feature = "planted")]
            if let Some(fault) = self.settings.planted {
                record.real.client.plant(fault);
            }
            self.clients.insert(client, record);
            self.carry(client);
        }
        for (number, step) in self.plan.steps.iter().enumerate() {
            if part.plays(number) {
                let at = self.agenda.now.after(step.at_us * Nanos::MICROSECOND);
                self.agenda.put_keyed(at, step.key, Happening::Planned(number));
            }
        }
    }

    /// A step of the plan comes.
    fn planned(&mut self, number: usize) -> Checked {
        let Some(step) = self.plan.steps.get(number) else { return Ok(()) };
        match step.what.clone() {
            What::WorkerStarts(name) => self.start_worker(name),
            What::Client(client, deed) => return self.client_does(client, number, &deed),
            What::SchedulerRestarts => self.restart_scheduler(),
            What::Line(client, ms) => self.break_line(client, ms),
            What::Worker(name, misfortune) => self.befall(name, misfortune),
        }
        Ok(())
    }

    /// What comes next follows from this.
    pub fn begin(&mut self, key: u64) {
        self.agenda.begin(key);
        self.rng = Rng::new(key);
    }

    /// Sends along a lane that keeps its order. Returns when it arrives if nothing holds it up.
    pub fn send(&mut self, lane: (u8, u64), happening: Happening) -> Nanos {
        let slower_us = self.network.slower_us(self.agenda.now, &happening);
        let travel_us = 1 + self.rng.below(self.latency_us) + slower_us;
        self.agenda.send(lane, travel_us, happening)
    }

    /// Takes along what a client has said, and when it wants to be called back.
    pub fn carry(&mut self, client: ClientId) {
        let Some(record) = self.client(client) else { return };
        let (said, calls) = (record.real.take_said(), record.real.take_calls());
        for message in &said {
            if let ClientToScheduler::Release(released) = message
                && let Err(broken) = record.on_release(released)
            {
                self.broken.get_or_insert(broken);
                return;
            }
        }
        for (number, delay) in calls {
            let micros = delay.as_micros() as u64;
            self.agenda.after_us(micros, Happening::ClientCalledBack(client, number));
        }
        for message in said {
            self.from_client(client, message);
        }
    }

    pub fn from_client(&mut self, client: ClientId, message: ClientToScheduler) {
        let Some(session) = self.clients.get(&client).map(|record| record.session) else { return };
        let event = Event::ClientMessage { client: session, message };
        self.send((0, session.0.into()), Happening::ToScheduler(event));
    }

    /// A worker says something, after all that it has gathered.
    pub fn from_worker(&mut self, worker: WorkerNo, message: WorkerToScheduler) {
        self.flush_worker(worker);
        self.send_from_worker(worker, message);
    }

    pub fn send_from_worker(&mut self, worker: WorkerNo, message: WorkerToScheduler) {
        use WorkerToScheduler::{
            DepMissing, Done, Erred, Rejoined, Rescheduled, Retracted, Seceded, Stuck,
        };
        // Not what names no attempt: no session says a thing twice, and of a copy that was freed
        // meanwhile nobody could tell.
        let may_come_twice = matches!(
            message,
            Done(_)
                | Erred(_)
                | Stuck(_)
                | Rescheduled(_)
                | Retracted(_)
                | DepMissing(_)
                | Seceded(_)
                | Rejoined(_)
        );
        let event = Event::WorkerMessage { worker, message };
        let copy = (may_come_twice && self.rng.chance(self.twice_percent)).then(|| event.clone());
        let arrives = self.send((1, worker.0.into()), Happening::ToScheduler(event));
        if let Some(copy) = copy {
            // It arrives late, perhaps after its session is over: to be fenced.
            let latest_us = [500, 5_000, 50_000][self.rng.below(3) as usize];
            let late_ns = self.rng.below(latest_us) * Nanos::MICROSECOND;
            self.agenda.put(arrives.after(late_ns), Happening::ToScheduler(copy));
        }
    }

    /// Lets everything happen until nothing more does.
    pub fn live(&mut self) -> Checked {
        /// Deadlines that pass with nothing else happening between them.
        const MAX_IDLE_DEADLINES: u64 = 20_000;
        self.last_busy = self.agenda.now;
        let mut idle_deadlines = 0;
        while !self.is_at_rest() {
            let deadline = self.next_deadline();
            let next = self.agenda.next_at();
            if let Some(at) = deadline.filter(|at| next.is_none_or(|next| *at < next)) {
                self.agenda.now = self.agenda.now.max(at);
                self.begin(mix(at.0));
                self.poll()?;
                idle_deadlines += 1;
                if idle_deadlines > MAX_IDLE_DEADLINES {
                    return Err(Broken::new("I11", "its deadlines never end"));
                }
                continue;
            }
            let Some(planned) = self.agenda.pop() else { return Ok(()) };
            self.begin(planned.key);
            self.report.events += 1;
            if self.report.events > self.settings.max_events {
                return Err(Broken::new("I11", "it does not come to rest"));
            }
            if !planned.happening.is_idle() {
                idle_deadlines = 0;
                self.last_busy = self.agenda.now;
            }
            self.take_down(&planned);
            self.happen_unless_held_up(planned)?;
            self.broken.take().map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// When the scheduler has something to do by itself, by the world's time.
    fn next_deadline(&self) -> Option<Nanos> {
        let at = self.scheduler.next_deadline()?;
        let at = Nanos(at.0.saturating_sub(self.scheduler_ahead_ns));
        Some(at.max(self.scheduler_paused_until))
    }

    /// The scheduler's clock.
    pub fn scheduler_now(&self) -> Nanos {
        self.agenda.now.after(self.scheduler_ahead_ns)
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
        self.agenda.next_at().is_none() && self.next_deadline().is_none_or(|at| at > far)
    }

    fn take_down(&mut self, Planned { key, happening, .. }: &Planned) {
        if self.settings.trace {
            println!("{:>12} {happening:?}", self.agenda.now.0);
        }
        let mut hash = mix(self.report.trace ^ self.agenda.now.0 ^ *key);
        if self.settings.hash_messages {
            let text = format!("{happening:?}");
            hash = text.bytes().fold(hash, |hash, byte| mix(hash ^ u64::from(byte)));
        }
        self.report.trace = hash;
    }

    /// What has to do with a process that is stopped, or goes over a link that is stalled, happens
    /// later.
    fn happen_unless_held_up(&mut self, planned: Planned) -> Checked {
        let now = self.agenda.now;
        let happening = &planned.happening;
        let paused = happening.workers().into_iter().flatten().filter_map(|number| {
            self.workers.get(&number).filter(|worker| worker.alive).map(|w| w.paused_until)
        });
        let mut until = paused.max().unwrap_or_default().max(self.network.stalled(happening));
        if matches!(happening, Happening::ToScheduler(_) | Happening::Poll) {
            until = until.max(self.scheduler_paused_until);
        }
        if until > now {
            self.hold_up(planned, until);
            return Ok(());
        }
        self.happen(planned.happening)
    }

    /// Puts something off, or on the list of those that wait for a process that does not go on.
    fn hold_up(&mut self, planned: Planned, until: Nanos) {
        let frozen = planned.happening.workers().into_iter().flatten().find(|number| {
            self.workers.get(number).is_some_and(|worker| worker.alive && worker.is_frozen())
        });
        match frozen {
            Some(number) => self.wait_for_frozen(number, planned),
            None => self.agenda.put_off(until, planned),
        }
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::ToScheduler(event) => self.to_scheduler(event),
            Happening::ToWorker(number, message) => self.to_worker(number, message),
            Happening::ToClient(session, message) => match self.listener(session) {
                Some(client) => self.to_client(client, message),
                None => Ok(()),
            },
            Happening::ClientNotices(session) => self.client_notices(session),
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
            Happening::PeerTimesOut { asker, peer } => self.peer_fails(asker, peer),
            Happening::PeerGives { asker, peer, items } => self.peer_gives(asker, peer, items),
            Happening::ClientFetches { client, handle, task, worker } => {
                self.client_fetches(client, handle, task, worker)
            }
            Happening::ClientFetchFails { client, handle, task, worker } => {
                self.client_has_value(client, handle, task, worker, None)
            }
            Happening::ClientPuts { client, handle, task, worker } => {
                self.client_puts(client, handle, task, worker)
            }
            Happening::ClientCalledBack(client, number) => {
                if let Some(record) = self.client(client) {
                    record.real.call(number);
                    self.carry(client);
                }
                Ok(())
            }
            Happening::Planned(number) => self.planned(number),
            Happening::WorkerFlushes(number) => {
                self.flush_worker(number);
                Ok(())
            }
            Happening::WorkerTick(number) => self.worker_tick(number),
            Happening::Heartbeat(number) => {
                self.heartbeat(number);
                Ok(())
            }
            Happening::WorkerNotices(number) => self.notice(number),
            Happening::Measures(name, more_bytes) => self.measure(name, more_bytes),
            Happening::DiskEnds(worker, task, ticket, end) => {
                self.disk_ends(worker, task, ticket, end)
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

    fn to_scheduler(&mut self, event: Event) -> Checked {
        if let Event::Back(Party::Client(session)) = event
            && self.return_anew(session)?
        {
            return Ok(());
        }
        if self.is_of_another_run(&event) || self.is_of_the_past(&event) {
            return Ok(());
        }
        self.ledger.on_event(&event, &self.scheduler);
        let now = self.scheduler_now();
        let is_heartbeat = Happening::is_heartbeat(&event);
        self.scheduler.handle(now, event);
        self.ledger.after_event(&self.scheduler)?;
        if !is_heartbeat {
            self.validate()?;
        }
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

    fn validate(&self) -> Checked {
        if self.report.events.is_multiple_of(self.settings.validate_every) {
            self.scheduler.validate()?;
        }
        Ok(())
    }

    pub fn poll(&mut self) -> Checked {
        let now = self.scheduler_now();
        let actions = self.scheduler.poll(now);
        if !actions.is_empty() {
            self.validate()?;
        }
        for action in actions {
            self.ledger.on_action(&action);
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
                Action::CloseWorker(number, why) | Action::CutWorker(number, why) => {
                    self.cut_off(number, &why)?;
                }
                Action::CloseClient(session, _) => self.close_session(session),
                Action::CloseSupervisor(..) | Action::Stop => {}
            }
        }
        Ok(())
    }
}
