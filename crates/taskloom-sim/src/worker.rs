//! A worker process: the real rules, with a model of threads, values and data transfer.

use crate::agenda::Planned;
use crate::broken::{Broken, Checked};
use crate::workload::Call;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::worker::{Action, Config, Interrupt, MemoryLimits, StartedRun, Ticket, Worker};
use taskloom_proto::actor::ActorLife;
use taskloom_proto::worker::{ComputeTask, SchedulerToWorker, TaskDone, WorkerToScheduler};
use taskloom_types::{Attempt, FunctionNo, Nanos, TaskId, WorkerNo};

/// When a stopped process goes on that does not go on by itself.
pub const FROZEN: Nanos = Nanos(u64::MAX);

/// Values up to this size travel in messages.
pub const INLINE_BYTES: u64 = 1024;

/// A run in a thread.
#[derive(Debug, Clone)]
pub struct Thread {
    pub run: StartedRun,
    pub call: Call,
    pub inputs: Vec<u64>,
    pub seceded: bool,
    /// Nobody wants its outcome: its slot is free.
    pub abandoned: bool,
}

/// A worker's process, from start to death.
#[derive(Debug)]
pub struct SimWorker {
    pub number: WorkerNo,
    /// Which run of the scheduler it has a session with.
    pub epoch: u64,
    pub name: u64,
    pub pid: u32,
    pub nthreads: usize,
    /// When the shell's timer goes off.
    pub tick_at: Option<Nanos>,
    pub alive: bool,
    /// Stopped until then: nothing happens in it, and all that it is sent waits.
    pub paused_until: Nanos,
    /// What waits in it until it goes on, when nobody knows when that is.
    pub parked: Vec<Planned>,
    /// Until then the scheduler may well take it for dead.
    pub disturbed_until: Nanos,
    /// How far its clock is ahead of the world's, in ns.
    pub ahead_ns: u64,
    /// Results that it has gathered and not sent yet.
    pub outbox: Vec<TaskDone>,
    pub rules: Worker,
    /// Values in memory.
    pub values: BTreeMap<TaskId, u64>,
    pub on_disk: BTreeMap<TaskId, u64>,
    /// Values of earlier sessions, by the number they were offered under.
    pub kept: BTreeMap<u64, u64>,
    pub threads: BTreeMap<(TaskId, Attempt), Thread>,
    /// What was saved of actors that were made here.
    pub saved: BTreeMap<TaskId, (Attempt, Bytes)>,
    functions: BTreeSet<FunctionNo>,
    peers: BTreeSet<WorkerNo>,
}

/// What the world has to do for the worker.
pub enum Effect {
    Send(WorkerToScheduler),
    Fetch {
        peer: WorkerNo,
        tasks: Vec<TaskId>,
    },
    ReportDone {
        task: TaskId,
        attempt: Attempt,
        size_bytes: u64,
    },
    Called {
        request: u64,
    },
    Write {
        task: TaskId,
        ticket: Ticket,
    },
    Read {
        task: TaskId,
        ticket: Ticket,
    },
    /// An exception is raised in the run, if it is still there.
    Interrupt {
        task: TaskId,
        attempt: Attempt,
        why: Interrupt,
    },
    /// The last state of an actor is wanted.
    HandOver(ActorLife),
    Closed,
}

impl SimWorker {
    pub fn new(
        number: WorkerNo,
        name: u64,
        nthreads: usize,
        memory: MemoryLimits,
        #[cfg(feature = "planted")] planted: Option<taskloom_core::planted::Fault>,
    ) -> Self {
        Self {
            number,
            epoch: 0,
            name,
            pid: number.0,
            nthreads,
            tick_at: None,
            alive: true,
            paused_until: Nanos(0),
            parked: Vec::new(),
            disturbed_until: Nanos(0),
            ahead_ns: 0,
            outbox: Vec::new(),
            rules: Worker::new(Config {
                max_peers: 2,
                #[cfg(feature = "planted")]
                planted,
                ..Config::with_memory(memory)
            }),
            values: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            kept: BTreeMap::new(),
            threads: BTreeMap::new(),
            saved: BTreeMap::new(),
            functions: BTreeSet::new(),
            peers: BTreeSet::new(),
        }
    }

    pub fn is_frozen(&self) -> bool {
        self.paused_until == FROZEN
    }

    /// Its own clock, for its rules.
    pub fn clock(&self, now: Nanos) -> Nanos {
        now.after(self.ahead_ns)
    }

    pub fn address(&self) -> String {
        format!("sim://{}", self.number)
    }

    /// Begins a new session under a new number.
    ///
    /// # Errors
    /// A run of the old session still counts.
    pub fn begin_session(&mut self, number: WorkerNo) -> Result<(), String> {
        self.number = number;
        self.tick_at = None;
        // Results that were not sent belong to the old session.
        self.outbox.clear();
        self.saved.clear();
        self.functions.clear();
        self.peers.clear();
        self.rules.begin_session();
        for (task, attempt) in std::mem::take(&mut self.threads).into_keys() {
            if self.rules.on_finished(task, attempt, 1, 0) {
                return Err(format!("a run of {task} from an old session counts in a new one"));
            }
        }
        Ok(())
    }

    /// Applies a message. `Closed` means that the scheduler wants the process to end.
    ///
    /// # Errors
    /// The message breaks a promise to the worker.
    pub fn on_message(&mut self, now: Nanos, message: SchedulerToWorker) -> Checked<Vec<Effect>> {
        let now = self.clock(now);
        match message {
            SchedulerToWorker::Compute(tasks) => {
                tasks.iter().try_for_each(|task| self.check_compute(task))?;
                self.rules.on_compute(now, tasks);
            }
            SchedulerToWorker::Free(tasks) => self.rules.on_free(&tasks),
            SchedulerToWorker::Discard(tasks) => self.rules.on_discard(tasks),
            SchedulerToWorker::Retract(run) => self.rules.on_retract(run.task, run.attempt),
            SchedulerToWorker::Interrupt(run) => self.rules.on_interrupt(now, &run),
            SchedulerToWorker::Holders(news) => {
                self.check_introduced(&news.holders)?;
                self.rules.on_holders(now, news);
            }
            SchedulerToWorker::Acquire(wanted) => {
                wanted.iter().try_for_each(|dep| self.check_introduced(&dep.holders))?;
                self.rules.on_acquire(now, wanted);
            }
            SchedulerToWorker::Peer(peer) => {
                self.peers.insert(peer.worker);
                self.rules.on_peer(peer.worker, peer.address);
            }
            SchedulerToWorker::PeersGone(gone) => {
                for gone in gone {
                    self.peers.remove(&gone.worker);
                    self.rules.on_peer_gone(now, gone.worker, !gone.cut.is_empty());
                }
            }
            SchedulerToWorker::Function(function) => {
                if !self.functions.insert(function.number) {
                    let what = format!("worker {} is sent a function twice", self.number);
                    return Err(Broken::new("I6", what));
                }
            }
            SchedulerToWorker::ForgetFunctions(functions) => {
                if !functions.iter().all(|function| self.functions.remove(function)) {
                    let what = format!("worker {} is to forget the unknown", self.number);
                    return Err(Broken::new("I6", what));
                }
            }
            SchedulerToWorker::Run(call) => {
                return Ok(vec![Effect::Called { request: call.request }]);
            }
            SchedulerToWorker::HandOverActor(order) => {
                return Ok(vec![Effect::HandOver(order.actor)]);
            }
            SchedulerToWorker::Close(_) => return Ok(vec![Effect::Closed]),
            SchedulerToWorker::Adopt(adopted) => self.rules.on_adopt(adopted),
            SchedulerToWorker::Decline(numbers) => self.rules.on_decline(&numbers),
            SchedulerToWorker::Registered(_) | SchedulerToWorker::SnapshotKept(_) => {}
        }
        Ok(self.effects())
    }

    /// A task comes after its functions, and after the addresses of those who hold its inputs.
    fn check_compute(&self, task: &ComputeTask) -> Checked {
        if !task.functions.iter().all(|function| self.functions.contains(function)) {
            let what = format!("worker {} gets {} before its function", self.number, task.key);
            return Err(Broken::new("I6", what));
        }
        task.deps.iter().try_for_each(|dep| self.check_introduced(&dep.holders))
    }

    fn check_introduced(&self, holders: &[WorkerNo]) -> Checked {
        if !holders.iter().all(|holder| self.peers.contains(holder)) {
            let what = format!("worker {} is sent to one it does not know", self.number);
            return Err(Broken::new("I6", what));
        }
        Ok(())
    }

    /// Carries out what concerns values; the rest is for the world.
    pub fn effects(&mut self) -> Vec<Effect> {
        let mut actions = Vec::new();
        self.rules.drain_actions(&mut actions);
        let mut effects = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => effects.push(Effect::Send(message)),
                Action::ReportDone { task, attempt, size_bytes } => {
                    effects.push(Effect::ReportDone { task, attempt, size_bytes });
                }
                Action::StoreInline { task, value } => {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(&value[..8]);
                    self.keep(task, u64::from_le_bytes(raw));
                }
                Action::DropValue(task) => {
                    self.values.remove(&task);
                    self.on_disk.remove(&task);
                }
                Action::Spill { task, ticket } => effects.push(Effect::Write { task, ticket }),
                Action::Unspill { task, ticket } => effects.push(Effect::Read { task, ticket }),
                Action::Evict(task) => {
                    self.values.remove(&task);
                }
                Action::TrimMemory => {}
                Action::KeepValue { task, number } => {
                    self.on_disk.remove(&task);
                    if let Some(value) = self.values.remove(&task) {
                        self.kept.insert(number, value);
                    }
                }
                Action::TakeKept { number, task } => {
                    if let Some(value) = self.kept.remove(&number) {
                        self.values.insert(task, value);
                    }
                }
                Action::DropKept(number) => {
                    self.kept.remove(&number);
                }
                Action::Abandoned { task, attempt } => {
                    if let Some(thread) = self.threads.get_mut(&(task, attempt)) {
                        thread.abandoned = true;
                    }
                }
                Action::Interrupt { task, attempt, why } => {
                    effects.push(Effect::Interrupt { task, attempt, why });
                }
                Action::Fetch { peer, tasks, .. } => effects.push(Effect::Fetch { peer, tasks }),
            }
        }
        effects
    }

    /// Starts what may start. Returns the runs, to be ended when their time is over.
    ///
    /// # Errors
    /// A run was started whose inputs are not here, or on a worker that may not run it.
    pub fn start_runs(&mut self, now: Nanos) -> Checked<Vec<Thread>> {
        let now = self.clock(now);
        let mut started = Vec::new();
        let takes_slot = |thread: &&Thread| !thread.seceded && !thread.abandoned;
        while self.threads.values().filter(takes_slot).count() < self.nthreads {
            let Some(run) = self.rules.next_ready(now) else { break };
            let input = |dep: &TaskId| {
                let value = self.values.get(dep).copied();
                let what = || format!("{} started without its input {dep}", run.key);
                value.ok_or_else(|| Broken::new("I6", what()))
            };
            let inputs = run.deps.iter().map(input).collect::<Checked<_>>()?;
            let call = Call::decode(&run.body);
            if call.pinned.is_some_and(|name| u64::from(name) != self.name) {
                let what = format!("{} runs on worker-{}, which it may not", run.key, self.name);
                return Err(Broken::new("I9", what));
            }
            let thread = Thread { call, run, inputs, seceded: false, abandoned: false };
            self.threads.insert((thread.run.task, thread.run.attempt), thread.clone());
            started.push(thread);
        }
        Ok(started)
    }

    /// # Errors
    /// More of its GPU is in use than there is, whatever the scheduler believes (I9).
    pub fn check_resources(&self) -> Checked {
        let used: u32 =
            self.threads.values().map(|thread| u32::from(thread.call.gpu_percent)).sum();
        let has = if self.name == 0 { 100 } else { 0 };
        if used > has {
            let what = format!("worker {} uses {used} % of its GPU", self.number);
            return Err(Broken::new("I9", what));
        }
        Ok(())
    }
}
