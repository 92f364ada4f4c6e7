//! The world around the rules: time, network, processes, and the checks.

use crate::client::{Known, SimClient, SimFuture, ToFetch};
use crate::rng::Rng;
use crate::worker::{Effect, INLINE_BYTES, SimWorker, Thread};
use crate::workload::{Behaviour, Node, Trouble, graph};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use taskloom_core::scheduler::{Action, Config, Event, Scheduler};
use taskloom_core::worker::FetchOutcome;
use taskloom_proto::client::{
    Cancel, ClientToScheduler, Closing, FetchFailed, Handles, Question, RegisterClient, Request,
    SchedulerToClient, SubmitBatch, TaskSpec,
};
use taskloom_proto::supervisor::{SupervisorToScheduler, WorkerExited};
use taskloom_proto::worker::{RegisterWorker, SchedulerToWorker, TaskDone, WorkerToScheduler};
use taskloom_proto::{ErrorInfo, ExitKind, ExitReason, TaskOptions, Value};
use taskloom_types::{
    Amount, Attempt, ClientId, ConnId, Handle, Key, Nanos, Resources, TaskId, WorkerNo,
};

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Graphs that each client submits.
    pub graphs: u64,
    /// Whether every event is printed.
    pub trace: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { graphs: 4, trace: false }
    }
}

/// What a run did, when all was well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub events: u64,
    pub futures: u64,
    pub worker_deaths: u64,
    pub stale_messages: u64,
    pub recomputed: u64,
    pub stolen: u64,
    pub retracted: u64,
    pub run_ahead: u64,
    /// Hash of all that happened: equal seeds give equal traces.
    pub trace: u64,
}

/// A broken invariant, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    pub seed: u64,
    pub at_event: u64,
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "seed {} fails at event {}: {}\nreplay: cargo run --release -p taskloom-sim --bin \
             simulate -- --seed {} --trace",
            self.seed, self.at_event, self.what, self.seed
        )
    }
}

#[derive(Debug, Clone)]
enum Happening {
    ToScheduler(Event),
    ToWorker(WorkerNo, SchedulerToWorker),
    ToClient(ClientId, SchedulerToClient),
    ThreadHalf(WorkerNo, TaskId, Attempt),
    ThreadBack(WorkerNo, TaskId, Attempt),
    ThreadDone(WorkerNo, TaskId, Attempt),
    PeerAnswers { asker: WorkerNo, peer: WorkerNo, tasks: Vec<TaskId> },
    ClientFetches { client: ClientId, handle: Handle, task: TaskId, worker: WorkerNo },
    ClientActs(ClientId),
    WorkerTick(WorkerNo),
    WorkerDies(u64),
    WorkerStarts(u64),
    Poll,
}

/// In the heap by time, then by when it was put there.
struct Scheduled {
    at: Nanos,
    serial: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// A graph that was submitted, for clients that submit it again.
#[derive(Clone)]
struct PastGraph {
    name: u64,
    nodes: Vec<Node>,
}

struct World {
    settings: Settings,
    rng: Rng,
    now: Nanos,
    serial: u64,
    heap: BinaryHeap<Reverse<Scheduled>>,
    scheduler: Scheduler,
    workers: BTreeMap<WorkerNo, SimWorker>,
    clients: BTreeMap<ClientId, SimClient>,
    /// Last delivery per direction of a connection: TCP keeps the order.
    lanes: BTreeMap<(u8, u64), Nanos>,
    names: u64,
    last_number: u32,
    supervised: bool,
    faults: bool,
    kill_percent: u64,
    latency_us: u64,
    trouble: Trouble,
    past: Vec<PastGraph>,
    last_identity: u64,
    /// Raises, kills and reschedules so far, per call.
    planted: BTreeMap<u64, u8>,
    dependents: BTreeMap<Key, BTreeSet<Key>>,
    poll_pending: bool,
    report: Report,
}

const SUPERVISOR: ConnId = ConnId(1);

/// Runs one seed.
///
/// # Errors
/// The first invariant that breaks.
pub fn run(seed: u64, settings: Settings) -> Result<Report, Failure> {
    let mut world = World::new(seed, settings);
    let outcome = world.live().and_then(|()| world.heal_and_check());
    let at_event = world.report.events;
    outcome.map_err(|what| Failure { seed, at_event, what })?;
    Ok(world.report)
}

impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            worker_ttl_ns: 1_000_000 * Nanos::SECOND,
            exit_report_ns: 50 * Nanos::MILLISECOND,
            work_stealing: rng.chance(80),
            ..Config::default()
        };
        let trouble = Trouble::random(&mut rng);
        let names = rng.between(1, 4);
        let mut world = Self {
            settings,
            now: Nanos(Nanos::SECOND),
            serial: 0,
            heap: BinaryHeap::new(),
            scheduler: Scheduler::new(config, seed),
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            lanes: BTreeMap::new(),
            names,
            last_number: 0,
            supervised: rng.chance(60),
            faults: true,
            kill_percent: if rng.chance(50) { rng.between(1, 25) } else { 0 },
            latency_us: [5, 50, 2_000][rng.below(3) as usize],
            trouble,
            past: Vec::new(),
            last_identity: 0,
            planted: BTreeMap::new(),
            dependents: BTreeMap::new(),
            poll_pending: false,
            report: Report::default(),
            rng,
        };
        world.cast();
        world
    }

    /// Who is there, and what is going to happen to them.
    fn cast(&mut self) {
        for name in 0..self.names {
            let late = self.rng.below(20_000);
            self.after_us(late, Happening::WorkerStarts(name));
        }
        for number in 1..=self.rng.between(1, 3) {
            let client = ClientId(number as u32);
            self.clients.insert(client, SimClient::new(client));
            let register = RegisterClient::default();
            self.from_client(client, ClientToScheduler::Register(register));
            for _ in 0..self.settings.graphs * 2 {
                let at = self.rng.below(60_000);
                self.after_us(at, Happening::ClientActs(client));
            }
        }
        if self.kill_percent > 0 {
            for _ in 0..self.rng.below(5) {
                let at = self.rng.below(80_000);
                let name = self.rng.below(self.names);
                self.after_us(at, Happening::WorkerDies(name));
            }
        }
    }

    fn after_us(&mut self, micros: u64, happening: Happening) {
        let at = self.now.after(micros * Nanos::MICROSECOND);
        self.put(at, happening);
    }

    fn put(&mut self, at: Nanos, happening: Happening) {
        self.serial += 1;
        self.heap.push(Reverse(Scheduled { at, serial: self.serial, happening }));
    }

    /// Sends along a lane that keeps its order.
    fn send(&mut self, lane: (u8, u64), happening: Happening) {
        let travel = 1 + self.rng.below(self.latency_us);
        let earliest = self.now.after(travel * Nanos::MICROSECOND);
        let last = self.lanes.entry(lane).or_default();
        *last = (*last).max(earliest).after(1);
        let at = *last;
        self.put(at, happening);
    }

    fn from_client(&mut self, client: ClientId, message: ClientToScheduler) {
        let event = Event::ClientMessage { client, message };
        self.send((0, client.0.into()), Happening::ToScheduler(event));
    }

    fn from_worker(&mut self, worker: WorkerNo, message: WorkerToScheduler) {
        use WorkerToScheduler::{DepMissing, Done, Erred, Rescheduled, Retracted};
        let may_come_twice =
            matches!(message, Done(_) | Erred(_) | Rescheduled(_) | Retracted(_) | DepMissing(_));
        let event = Event::WorkerMessage { worker, message };
        if may_come_twice && self.rng.chance(3) {
            // A copy that arrives late, perhaps after its session is over: to be fenced.
            let late = self.rng.below(50_000);
            self.after_us(late, Happening::ToScheduler(event.clone()));
        }
        self.send((1, worker.0.into()), Happening::ToScheduler(event));
    }

    /// Lets everything happen until nothing more does.
    fn live(&mut self) -> Result<(), String> {
        /// Far more than any healthy run needs: beyond it the rules go round in circles (I11).
        const MAX_EVENTS: u64 = 200_000;
        loop {
            let Some(Reverse(next)) = self.heap.pop() else {
                match self.scheduler.next_deadline() {
                    Some(at) if at < self.now.after(1_000 * Nanos::SECOND) => {
                        self.now = self.now.max(at);
                        self.poll()?;
                        continue;
                    }
                    _ => return Ok(()),
                }
            };
            let deadline = self.scheduler.next_deadline().filter(|at| *at < next.at);
            if let Some(at) = deadline {
                self.heap.push(Reverse(next));
                self.now = self.now.max(at);
                self.poll()?;
                continue;
            }
            self.now = self.now.max(next.at);
            self.report.events += 1;
            if self.report.events > MAX_EVENTS {
                return Err("it does not come to rest".into());
            }
            if self.settings.trace {
                println!("{:>12} {:?}", self.now.0, next.happening);
            }
            self.report.trace = crate::rng::mix(self.report.trace ^ self.now.0 ^ next.serial);
            self.happen(next.happening)?;
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::ToScheduler(event) => self.to_scheduler(event),
            Happening::ToWorker(number, message) => self.to_worker(number, message),
            Happening::ToClient(client, message) => self.to_client(client, message),
            Happening::ThreadHalf(worker, task, attempt) => {
                self.with_thread(worker, task, attempt, |world, worker| {
                    world.secede(worker, task, attempt)
                })
            }
            Happening::ThreadBack(worker, task, attempt) => {
                self.with_thread(worker, task, attempt, |world, worker| {
                    world.rejoin(worker, task, attempt)
                })
            }
            Happening::ThreadDone(worker, task, attempt) => {
                self.with_thread(worker, task, attempt, |world, worker| {
                    world.thread_done(worker, task, attempt)
                })
            }
            Happening::PeerAnswers { asker, peer, tasks } => self.peer_answers(asker, peer, tasks),
            Happening::ClientFetches { client, handle, task, worker } => {
                self.client_fetches(client, handle, task, worker)
            }
            Happening::ClientActs(client) => self.client_acts(client),
            Happening::WorkerTick(number) => self.worker_tick(number),
            Happening::WorkerDies(name) => {
                if self.faults {
                    self.kill_by_name(name);
                }
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
        self.scheduler.handle(self.now, event);
        self.scheduler.validate()?;
        if self.rng.chance(70) {
            return self.poll();
        }
        // More may arrive before the scheduler has a moment.
        if !self.poll_pending {
            self.poll_pending = true;
            let soon = self.rng.below(self.latency_us);
            self.after_us(soon, Happening::Poll);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), String> {
        let actions = self.scheduler.poll(self.now);
        self.scheduler.validate()?;
        for action in actions {
            match action {
                Action::ToWorker(number, message) => {
                    self.send((2, number.0.into()), Happening::ToWorker(number, message));
                }
                Action::ToClient(client, message) => {
                    self.send((3, client.0.into()), Happening::ToClient(client, message));
                }
                Action::CloseWorker(number, _) => self.kill(number, ExitKind::Unknown),
                Action::ToSupervisor(..) | Action::CloseClient(..) | Action::Stop => {}
            }
        }
        Ok(())
    }

    // Workers.

    fn start_worker(&mut self, name: u64) {
        if self.workers.values().any(|worker| worker.alive && worker.name == name) {
            return;
        }
        self.last_number += 1;
        let number = WorkerNo(self.last_number);
        let nthreads = self.rng.between(1, 3) as usize;
        let worker = SimWorker::new(number, name, nthreads);
        let gpus = if name == 0 { 1.0 } else { 0.0 };
        let resources = Amount::from_f64(gpus).filter(|amount| amount.0 > 0);
        let register = RegisterWorker {
            name: format!("worker-{name}"),
            address: format!("sim://{number}"),
            nthreads: nthreads as u32,
            resources: Resources::new(
                resources.map(|amount| ("GPU".to_string(), amount)).into_iter().collect(),
            ),
            pid: worker.pid,
            supervised: self.supervised,
            ..RegisterWorker::default()
        };
        self.workers.insert(number, worker);
        self.from_worker(number, WorkerToScheduler::Register(register));
    }

    fn kill_by_name(&mut self, name: u64) {
        let alive = |worker: &&SimWorker| worker.alive && worker.name == name;
        let number = self.workers.values().find(alive).map(|worker| worker.number);
        if let Some(number) = number {
            if self.rng.chance(15) {
                // It says that it stops, and does.
                let closing = Closing { reason: "told to".into() };
                self.from_worker(number, WorkerToScheduler::Closing(closing));
            }
            self.kill(number, ExitKind::Signalled(9));
        }
    }

    /// The process is gone. What it had sent may still arrive; then its connection is seen to
    /// close, and its supervisor reports, in any order, or never.
    fn kill(&mut self, number: WorkerNo, kind: ExitKind) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.alive) else {
            return;
        };
        worker.alive = false;
        self.report.worker_deaths += 1;
        let (name, pid) = (worker.name, worker.pid);
        let executing: Vec<(TaskId, Attempt)> = worker.threads.keys().copied().collect();
        worker.threads.clear();
        worker.values.clear();
        self.send(
            (1, number.0.into()),
            Happening::ToScheduler(Event::WorkerLeft { worker: number }),
        );
        if self.supervised && self.rng.chance(85) {
            let exited = WorkerExited {
                name: format!("worker-{name}"),
                pid,
                reason: ExitReason { kind, stderr_tail: String::new() },
                executing,
                restarting: true,
            };
            let message = SupervisorToScheduler::WorkerExited(exited);
            let event = Event::SupervisorMessage { supervisor: SUPERVISOR, message };
            let delay = self.rng.below(5_000);
            self.after_us(delay, Happening::ToScheduler(event));
        }
        let delay = 5_000 + self.rng.below(30_000);
        self.after_us(delay, Happening::WorkerStarts(name));
    }

    fn to_worker(&mut self, number: WorkerNo, message: SchedulerToWorker) -> Result<(), String> {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.alive) else {
            return Ok(());
        };
        let effects = worker.on_message(now, message);
        self.carry_out(number, effects)
    }

    /// Carries out effects, lets threads start what is ready, and checks the worker.
    fn carry_out(&mut self, number: WorkerNo, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::Send(message) => self.from_worker(number, message),
                Effect::Fetch { peer, tasks } => {
                    let lane = (4, (u64::from(number.0) << 32) | u64::from(peer.0));
                    self.send(lane, Happening::PeerAnswers { asker: number, peer, tasks });
                }
                Effect::ReportDone { task, attempt, size_bytes } => {
                    self.report_done(number, task, attempt, size_bytes, 1);
                }
                Effect::Closed => {
                    self.kill(number, ExitKind::Requested);
                    return Ok(());
                }
            }
        }
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.alive) else {
            return Ok(());
        };
        let started = worker.start_runs(now)?;
        // The shell's timer.
        let tick_at = worker.rules.next_deadline().filter(|_| worker.tick_at.is_none());
        worker.tick_at = worker.tick_at.or(tick_at);
        worker.rules.validate().map_err(|what| format!("worker {number}: {what}"))?;
        let later = worker.effects();
        for thread in started {
            self.thread_started(number, &thread);
        }
        if let Some(at) = tick_at {
            self.put(at.max(now), Happening::WorkerTick(number));
        }
        if !later.is_empty() {
            return self.carry_out(number, later);
        }
        self.check_resources(number)
    }

    /// I9: a resource is never in use twice, whatever the scheduler believes.
    fn check_resources(&self, number: WorkerNo) -> Result<(), String> {
        let Some(worker) = self.workers.get(&number) else { return Ok(()) };
        let gpu_users = worker.threads.values().filter(|thread| is_gpu(&thread.run.key)).count();
        if gpu_users > 1 {
            return Err(format!("worker {number} runs {gpu_users} tasks on its one GPU"));
        }
        Ok(())
    }

    fn thread_started(&mut self, number: WorkerNo, thread: &Thread) {
        let (task, attempt) = (thread.run.task, thread.run.attempt);
        let duration = u64::from(thread.call.duration_us);
        if thread.call.behaviour == Behaviour::Secede {
            self.after_us(duration / 2, Happening::ThreadHalf(number, task, attempt));
        } else {
            self.after_us(duration, Happening::ThreadDone(number, task, attempt));
        }
    }

    fn with_thread(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        attempt: Attempt,
        then: impl FnOnce(&mut Self, WorkerNo) -> Result<(), String>,
    ) -> Result<(), String> {
        let is_there = self
            .workers
            .get(&number)
            .is_some_and(|worker| worker.alive && worker.threads.contains_key(&(task, attempt)));
        if is_there { then(self, number) } else { Ok(()) }
    }

    fn secede(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(&number) else { return Ok(()) };
        if let Some(thread) = worker.threads.get_mut(&(task, attempt)) {
            thread.seceded = true;
        }
        worker.rules.on_seceded(task, attempt);
        let effects = worker.effects();
        let away = self.rng.below(3_000);
        self.after_us(away, Happening::ThreadBack(number, task, attempt));
        self.carry_out(number, effects)
    }

    fn rejoin(&mut self, number: WorkerNo, task: TaskId, attempt: Attempt) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(&number) else { return Ok(()) };
        if let Some(thread) = worker.threads.get_mut(&(task, attempt)) {
            thread.seceded = false;
        }
        worker.rules.on_rejoined(task, attempt);
        let effects = worker.effects();
        self.after_us(1, Happening::ThreadDone(number, task, attempt));
        self.carry_out(number, effects)
    }

    fn thread_done(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(&number) else { return Ok(()) };
        let Some(thread) = worker.threads.get(&(task, attempt)).cloned() else { return Ok(()) };
        let count = self.planted.entry(thread.call.identity).or_default();
        let is_due = |limit: u8| *count < limit;
        let ends = match thread.call.behaviour {
            Behaviour::RaiseFirst(n) if is_due(n) => Ends::Raises,
            Behaviour::RaiseAlways => Ends::Raises,
            Behaviour::KillFirst(n) if is_due(n) => Ends::Kills,
            Behaviour::KillAlways => Ends::Kills,
            Behaviour::RescheduleOnce if is_due(1) => Ends::Reschedules,
            _ => Ends::Returns,
        };
        if !matches!(ends, Ends::Returns) {
            *count = count.saturating_add(1);
        }
        if matches!(ends, Ends::Kills) {
            self.kill(number, ExitKind::Signalled(11));
            return Ok(());
        }
        worker.threads.remove(&(task, attempt));
        let duration_ns = u64::from(thread.call.duration_us) * 1_000;
        match ends {
            Ends::Raises => {
                let error = ErrorInfo { type_name: "Planted".into(), ..ErrorInfo::default() };
                worker.rules.on_erred(task, attempt, duration_ns, error);
            }
            Ends::Reschedules => worker.rules.on_rescheduled(task, attempt),
            Ends::Returns | Ends::Kills => {
                let value = thread.call.value(thread.inputs.iter().copied());
                let size_bytes = thread.call.size_bytes;
                if worker.rules.on_finished(task, attempt, size_bytes) {
                    worker.values.insert(task, value);
                    self.report_done(number, task, attempt, size_bytes, duration_ns);
                }
            }
        }
        let effects = match self.workers.get_mut(&number) {
            Some(worker) => worker.effects(),
            None => Vec::new(),
        };
        self.carry_out(number, effects)
    }

    fn report_done(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        attempt: Attempt,
        size_bytes: u64,
        duration_ns: u64,
    ) {
        let value = self.workers.get(&number).and_then(|worker| worker.values.get(&task));
        let value = value
            .filter(|_| size_bytes <= INLINE_BYTES)
            .map(|value| Bytes::copy_from_slice(&value.to_le_bytes()));
        let done = TaskDone { task, attempt, size_bytes, duration_ns, value };
        self.from_worker(number, WorkerToScheduler::Done(vec![done]));
    }

    fn peer_answers(
        &mut self,
        asker: WorkerNo,
        peer: WorkerNo,
        tasks: Vec<TaskId>,
    ) -> Result<(), String> {
        let now = self.now;
        let is_cut = self.faults && self.rng.chance(2);
        let source = self.workers.get(&peer).filter(|peer| peer.alive && !is_cut);
        let answers: Option<Vec<(TaskId, Option<u64>)>> = source
            .map(|peer| tasks.iter().map(|task| (*task, peer.values.get(task).copied())).collect());
        let Some(worker) = self.workers.get_mut(&asker).filter(|worker| worker.alive) else {
            return Ok(());
        };
        match answers {
            None => worker.rules.on_fetch_failed(now, peer),
            Some(answers) => {
                let mut items = Vec::new();
                for (task, value) in answers {
                    let outcome = match value {
                        Some(value) => {
                            worker.values.entry(task).or_insert(value);
                            FetchOutcome::Value { size_bytes: 1 << 12 }
                        }
                        None => FetchOutcome::Missing,
                    };
                    items.push((task, outcome));
                }
                worker.rules.on_fetch_done(now, peer, items);
            }
        }
        let effects = worker.effects();
        self.carry_out(asker, effects)
    }

    fn worker_tick(&mut self, number: WorkerNo) -> Result<(), String> {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.alive) else {
            return Ok(());
        };
        worker.tick_at = None;
        worker.rules.on_tick(now);
        let effects = worker.effects();
        self.carry_out(number, effects)
    }

    // Clients.

    fn to_client(&mut self, client: ClientId, message: SchedulerToClient) -> Result<(), String> {
        let Some(record) = self.clients.get_mut(&client).filter(|client| client.alive) else {
            return Ok(());
        };
        for fetch in record.on_message(message)? {
            let ToFetch { handle, task, worker } = fetch;
            let travel = self.rng.below(self.latency_us);
            self.after_us(travel, Happening::ClientFetches { client, handle, task, worker });
        }
        Ok(())
    }

    fn client_fetches(
        &mut self,
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    ) -> Result<(), String> {
        let holder = self.workers.get(&worker).filter(|worker| worker.alive);
        let value = holder.and_then(|worker| worker.values.get(&task).copied());
        let Some(record) = self.clients.get_mut(&client) else { return Ok(()) };
        let Some(future) = record.futures.get_mut(&handle) else { return Ok(()) };
        if future.known != Known::There(task, worker) || future.released {
            return Ok(());
        }
        if let Some(value) = value {
            future.known = Known::Value(value);
            return future.check_value();
        }
        future.known = Known::Pending;
        let failed = FetchFailed { handle, task, workers: vec![worker] };
        self.from_client(client, ClientToScheduler::FetchFailed(failed));
        Ok(())
    }

    fn client_acts(&mut self, client: ClientId) -> Result<(), String> {
        if !self.clients.get(&client).is_some_and(|client| client.alive) {
            return Ok(());
        }
        match self.rng.below(100) {
            0..=54 => self.submit_new(client),
            55..=69 => self.submit_past(client),
            70..=84 => self.release_some(client, 50),
            85..=91 => self.cancel_some(client),
            92..=95 => self.retry_some(client),
            96..=97 if self.faults && self.clients.len() > 1 => self.client_vanishes(client),
            _ => self.detach_some(client),
        }
        Ok(())
    }

    fn submit_new(&mut self, client: ClientId) {
        let nodes = graph(&mut self.rng, self.trouble, self.names, &mut self.last_identity);
        let name = self.past.len() as u64;
        self.past.push(PastGraph { name, nodes: nodes.clone() });
        let outside = self.rng.chance(25);
        self.submit(client, name, &nodes, outside);
    }

    fn submit_past(&mut self, client: ClientId) {
        let Some(past) = self.rng.pick(&self.past).cloned() else { return };
        self.submit(client, past.name, &past.nodes, false);
    }

    /// Sends a graph in random pieces. `outside`: its first task also uses an older future.
    fn submit(&mut self, client: ClientId, name: u64, nodes: &[Node], outside: bool) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        record.last_submission += 1;
        let submission = record.last_submission;
        let live = |(_, future): &(&Handle, &SimFuture)| !future.released;
        let older = record.futures.iter().filter(live).next_back();
        let older = older.filter(|_| outside).map(|(handle, future)| (*handle, future.clone()));
        let mut handles = Vec::new();
        let mut expected: Vec<u64> = Vec::new();
        let mut may_fail: Vec<bool> = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        let mut specs = Vec::new();
        let mut options = vec![TaskOptions::default()];
        for (position, node) in nodes.iter().enumerate() {
            let handle = record.next_handle();
            let salt =
                if outside { format!("-of-{}-{submission}", client.0) } else { String::new() };
            let gpu = if node.gpu { "gpu-" } else { "" };
            let key = Key::from_text(&format!("{gpu}g{name}-{position}{salt}"));
            let mut deps: Vec<Handle> = node.deps.iter().map(|dep| handles[*dep]).collect();
            let mut inputs: Vec<u64> = node.deps.iter().map(|dep| expected[*dep]).collect();
            let mut fails = node.deps.iter().any(|dep| may_fail[*dep]) || can_fail(node);
            let mut inputs_of: Vec<Key> = node.deps.iter().map(|dep| keys[*dep].clone()).collect();
            if let (0, Some((older_handle, older))) = (position, &older) {
                deps.push(*older_handle);
                inputs.push(older.expected);
                fails |= older.may_fail || older.cancel_asked;
                inputs_of.push(older.key.clone());
            }
            for input in inputs_of {
                self.dependents.entry(input).or_default().insert(key.clone());
            }
            let value = node.call.value(inputs);
            handles.push(handle);
            expected.push(value);
            may_fail.push(fails);
            keys.push(key.clone());
            options.push(options_of(node));
            let wanted = if node.wanted { TaskSpec::WANTED } else { 0 };
            specs.push(TaskSpec {
                handle,
                flags: wanted | TaskSpec::GRAPH,
                key: key.clone(),
                option: options.len() as u32 - 1,
                order: position as u64,
                spec_hash: node.call.spec_hash(),
                deps: deps.into_iter().collect(),
                body: node.call.encode(),
                ..TaskSpec::default()
            });
            if node.wanted {
                let future = SimFuture {
                    key,
                    expected: value,
                    may_fail: fails,
                    known: Known::Pending,
                    released: false,
                    cancel_asked: false,
                };
                record.futures.insert(handle, future);
                self.report.futures += 1;
            }
        }
        self.send_pieces(client, submission, specs, &options);
    }

    fn send_pieces(
        &mut self,
        client: ClientId,
        submission: u64,
        mut specs: Vec<TaskSpec>,
        options: &[TaskOptions],
    ) {
        loop {
            let size = 1 + self.rng.below(specs.len() as u64) as usize;
            let rest = specs.split_off(size);
            let last = rest.is_empty();
            let batch = SubmitBatch {
                submission,
                last,
                options: options.to_vec(),
                prefixes: vec!["p".into()],
                tasks: specs,
                ..SubmitBatch::default()
            };
            self.from_client(client, ClientToScheduler::Submit(batch));
            if last {
                return;
            }
            specs = rest;
        }
    }

    fn some_futures(&mut self, client: ClientId, percent: u64) -> Vec<Handle> {
        let Some(record) = self.clients.get(&client) else { return Vec::new() };
        let live = record.futures.iter().filter(|(_, future)| !future.released);
        let handles: Vec<Handle> = live.map(|(handle, _)| *handle).collect();
        handles.into_iter().filter(|_| self.rng.chance(percent)).collect()
    }

    fn release_some(&mut self, client: ClientId, percent: u64) {
        let handles = self.some_futures(client, percent);
        let Some(record) = self.clients.get_mut(&client) else { return };
        for handle in &handles {
            if let Some(future) = record.futures.get_mut(handle) {
                future.released = true;
            }
        }
        self.from_client(client, ClientToScheduler::Release(Handles { handles }));
    }

    fn cancel_some(&mut self, client: ClientId) {
        let handles = self.some_futures(client, 20);
        let Some(record) = self.clients.get_mut(&client) else { return };
        let mut open: Vec<Key> = Vec::new();
        for handle in &handles {
            open.extend(record.futures.get(handle).map(|future| future.key.clone()));
        }
        let mut touched: BTreeSet<Key> = BTreeSet::new();
        while let Some(key) = open.pop() {
            if touched.insert(key.clone()) {
                open.extend(self.dependents.get(&key).into_iter().flatten().cloned());
            }
        }
        for future in record.futures.values_mut() {
            future.cancel_asked |= touched.contains(&future.key);
        }
        let cancel = Cancel { handles, ..Cancel::default() };
        self.from_client(client, ClientToScheduler::Cancel(cancel));
    }

    fn retry_some(&mut self, client: ClientId) {
        let handles = self.some_futures(client, 50);
        self.from_client(client, ClientToScheduler::Retry(Handles { handles }));
    }

    fn detach_some(&mut self, client: ClientId) {
        let handles = self.some_futures(client, 30);
        let detached = Handles { handles: handles.clone() };
        self.from_client(client, ClientToScheduler::Detach(detached));
        let Some(record) = self.clients.get_mut(&client) else { return };
        for handle in &handles {
            if let Some(future) = record.futures.get_mut(handle) {
                future.released = true;
            }
        }
        self.from_client(client, ClientToScheduler::Release(Handles { handles }));
    }

    fn client_vanishes(&mut self, client: ClientId) {
        if let Some(record) = self.clients.get_mut(&client) {
            record.alive = false;
        }
        self.send((0, client.0.into()), Happening::ToScheduler(Event::ClientLeft { client }));
    }

    // The end.

    fn heal_and_check(&mut self) -> Result<(), String> {
        self.faults = false;
        for name in 0..self.names {
            self.after_us(1, Happening::WorkerStarts(name));
        }
        self.live()?;
        if self.settings.trace {
            self.print_unfinished();
        }
        for client in self.clients.values().filter(|client| client.alive) {
            for future in client.futures.values() {
                self.check_future(future)?;
            }
        }
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            self.release_some(client, 100);
        }
        self.live()?;
        if self.scheduler.task_count() > 0 {
            return Err(format!("{} tasks are left at the end", self.scheduler.task_count()));
        }
        for worker in self.workers.values().filter(|worker| worker.alive) {
            if !worker.values.is_empty() {
                let count = worker.values.len();
                return Err(format!("worker {} keeps {count} values", worker.number));
            }
        }
        let counters = self.scheduler.counters();
        self.report.stale_messages = counters.stale_messages;
        self.report.recomputed = counters.recomputed;
        self.report.stolen = counters.stolen;
        self.report.retracted = counters.retracted;
        self.report.run_ahead = counters.run_ahead;
        Ok(())
    }

    /// What the scheduler says of futures that did not end.
    fn print_unfinished(&mut self) {
        let pending: Vec<(ClientId, Key)> = self
            .clients
            .values()
            .flat_map(|client| client.futures.values().map(|future| (client.id, future)))
            .filter(|(_, future)| !future.released && future.known == Known::Pending)
            .map(|(client, future)| (client, future.key.clone()))
            .collect();
        for (client, key) in pending {
            self.explain(client, key, 0);
        }
    }

    /// Prints why a task waits, and why what it waits for does.
    fn explain(&mut self, client: ClientId, key: Key, depth: u32) {
        let request = Request { id: 0, question: Question::Explain(key) };
        let message = ClientToScheduler::Request(request);
        self.scheduler.handle(self.now, Event::ClientMessage { client, message });
        for action in self.scheduler.poll(self.now) {
            let Action::ToClient(_, SchedulerToClient::Reply(reply)) = action else { continue };
            println!("{:depth$}{:?}", "", reply.answer.value, depth = depth as usize);
            let missing = reply.answer.value.get("missing_dependencies").cloned();
            let Some(Value::List(missing)) = missing else { continue };
            for entry in missing {
                if let (Value::List(entry), true) = (entry, depth < 40) {
                    if let Some(Value::Key(key)) = entry.into_iter().next() {
                        self.explain(client, key, depth + 1);
                    }
                }
            }
        }
    }

    fn check_future(&self, future: &SimFuture) -> Result<(), String> {
        // A task that happens to run on many dying workers may be blamed for it.
        let is_blamed = matches!(&future.known, Known::Erred(kind) if kind == "KilledWorker");
        if is_blamed && self.report.worker_deaths > 3 {
            return Ok(());
        }
        future.check_end()
    }
}

enum Ends {
    Returns,
    Raises,
    Reschedules,
    Kills,
}

fn is_gpu(key: &Key) -> bool {
    key.to_string().starts_with("gpu-")
}

fn can_fail(node: &Node) -> bool {
    match node.call.behaviour {
        Behaviour::RaiseAlways | Behaviour::KillAlways | Behaviour::KillFirst(_) => true,
        Behaviour::RaiseFirst(n) => u32::from(n) > node.retries,
        Behaviour::Return | Behaviour::RescheduleOnce | Behaviour::Secede => false,
    }
}

fn options_of(node: &Node) -> TaskOptions {
    let gpu = Amount::from_f64(1.0).filter(|_| node.gpu);
    TaskOptions {
        // A GPU is only at worker 0: a pin elsewhere could never be met.
        workers: node
            .pinned
            .filter(|_| !node.gpu)
            .map(|name| format!("worker-{name}"))
            .into_iter()
            .collect(),
        resources: Resources::new(
            gpu.map(|amount| ("GPU".to_string(), amount)).into_iter().collect(),
        ),
        retries: node.retries,
        ..TaskOptions::default()
    }
}
