//! A worker process: the real rules, with a model of threads, values and data transfer.

use crate::workload::Call;
use std::collections::BTreeMap;
use taskloom_core::worker::{Action, Config, StartedRun, Worker};
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};
use taskloom_types::{Attempt, Nanos, TaskId, WorkerNo};

/// Values up to this size travel in messages.
pub const INLINE_BYTES: u64 = 1024;

/// A run in a thread.
#[derive(Debug, Clone)]
pub struct Thread {
    pub run: StartedRun,
    pub call: Call,
    pub inputs: Vec<u64>,
    pub seceded: bool,
}

/// A worker's process, from start to death.
#[derive(Debug)]
pub struct SimWorker {
    pub number: WorkerNo,
    pub name: u64,
    pub pid: u32,
    pub nthreads: usize,
    /// When the shell's timer goes off.
    pub tick_at: Option<Nanos>,
    pub alive: bool,
    pub rules: Worker,
    pub values: BTreeMap<TaskId, u64>,
    pub threads: BTreeMap<(TaskId, Attempt), Thread>,
}

/// What the world has to do for the worker.
pub enum Effect {
    Send(WorkerToScheduler),
    Fetch { peer: WorkerNo, tasks: Vec<TaskId> },
    ReportDone { task: TaskId, attempt: Attempt, size_bytes: u64 },
    Closed,
}

impl SimWorker {
    pub fn new(number: WorkerNo, name: u64, nthreads: usize) -> Self {
        Self {
            number,
            name,
            pid: number.0,
            nthreads,
            tick_at: None,
            alive: true,
            rules: Worker::new(Config { max_peers: 2, max_fetch_bytes: 1 << 22 }),
            values: BTreeMap::new(),
            threads: BTreeMap::new(),
        }
    }

    /// Applies a message. `Closed` means that the scheduler wants the process to end.
    pub fn on_message(&mut self, now: Nanos, message: SchedulerToWorker) -> Vec<Effect> {
        match message {
            SchedulerToWorker::Compute(tasks) => self.rules.on_compute(now, tasks),
            SchedulerToWorker::Free(tasks) => self.rules.on_free(&tasks),
            SchedulerToWorker::Retract(run) => self.rules.on_retract(run.task, run.attempt),
            SchedulerToWorker::Holders(news) => self.rules.on_holders(now, news),
            SchedulerToWorker::Peer(peer) => self.rules.on_peer(peer.worker, peer.address),
            SchedulerToWorker::Close(_) => return vec![Effect::Closed],
            SchedulerToWorker::Registered(_)
            | SchedulerToWorker::Function(_)
            | SchedulerToWorker::ForgetFunctions(_)
            | SchedulerToWorker::Run(_) => {}
        }
        self.effects()
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
                    self.values.insert(task, u64::from_le_bytes(raw));
                }
                Action::DropValue(task) => {
                    self.values.remove(&task);
                }
                Action::Abandoned { .. } => {}
                Action::Fetch { peer, tasks, .. } => effects.push(Effect::Fetch { peer, tasks }),
            }
        }
        effects
    }

    /// Starts what may start. Returns the runs, to be ended when their time is over.
    ///
    /// # Errors
    /// A run was started whose inputs are not here.
    pub fn start_runs(&mut self, now: Nanos) -> Result<Vec<Thread>, String> {
        let mut started = Vec::new();
        while self.threads.values().filter(|thread| !thread.seceded).count() < self.nthreads {
            let Some(run) = self.rules.next_ready(now) else { break };
            let input = |dep: &TaskId| {
                let value = self.values.get(dep).copied();
                value.ok_or(format!("{} started without its input {dep}", run.key))
            };
            let inputs = run.deps.iter().map(input).collect::<Result<_, _>>()?;
            let thread = Thread { call: Call::decode(&run.body), run, inputs, seceded: false };
            self.threads.insert((thread.run.task, thread.run.attempt), thread.clone());
            started.push(thread);
        }
        Ok(started)
    }
}
