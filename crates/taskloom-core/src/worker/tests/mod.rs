//! A scripted worker: short names for events, the whole list of actions compared.

mod acquire;
mod history;
mod limits;
mod memory;
mod random;
mod rejoin;
mod transitions;

use super::*;
use taskloom_proto::ErrorInfo;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::rejoin::Named;
use taskloom_proto::worker::{
    ComputeTask, DepHolders, DepMissing, DepRef, Retracted, TaskAttempt, TaskErred,
};
use taskloom_types::{Generation, Key};

const ALICE: WorkerNo = WorkerNo(1);
const BOB: WorkerNo = WorkerNo(2);

fn task(index: u32) -> TaskId {
    TaskId { index, generation: 0 }
}

/// A scattered value.
fn scattered(index: u32) -> Named {
    let key = Key::from_text(&index.to_string());
    Named { task: task(index), key, spec_hash: u64::from(index) + 100 }
}

/// A worker under test that checks its invariants after each event.
struct Script {
    worker: Worker,
    now: Nanos,
}

/// A task to send: `run(1)`, `.attempt(2)`, `.needs(dep)`.
#[derive(Clone)]
struct Sent(ComputeTask);

fn run(index: u32) -> Sent {
    let generation = Generation::default().next();
    let priority = Priority::new(0, generation, u64::from(index));
    Sent(ComputeTask { task: task(index), attempt: 1, priority, ..ComputeTask::default() })
}

impl Sent {
    fn attempt(mut self, attempt: Attempt) -> Self {
        self.0.attempt = attempt;
        self
    }

    fn coroutine(mut self) -> Self {
        self.0.flags = TaskSpec::COROUTINE;
        self
    }

    fn order(mut self, order: u64) -> Self {
        self.0.priority = Priority::new(0, Generation::default().next(), order);
        self
    }

    fn dep(mut self, dep: DepRef) -> Self {
        self.0.deps.push(dep);
        self
    }

    /// An input that this worker holds or makes.
    fn needs(self, index: u32) -> Self {
        self.dep(DepRef { task: task(index), ..DepRef::default() })
    }

    fn needs_from(self, index: u32, size_bytes: u64, holders: &[WorkerNo]) -> Self {
        let holders = holders.iter().copied().collect();
        self.dep(DepRef { task: task(index), size_bytes, holders, value: None })
    }

    fn needs_inline(self, index: u32, value: &'static [u8]) -> Self {
        let value = Some(SmallBytes::copy_of(value));
        self.dep(DepRef { task: task(index), value, ..DepRef::default() })
    }
}

impl Script {
    fn new() -> Self {
        Self::with(MemoryLimits::default())
    }

    fn with(memory: MemoryLimits) -> Self {
        let config = Config { max_fetch_bytes: 100, memory, ..Config::default() };
        let mut worker = Worker::new(config);
        worker.on_peer(ALICE, "alice".into());
        worker.on_peer(BOB, "bob".into());
        Self { worker, now: Nanos(0) }
    }

    /// Applies one event and gives the actions that follow.
    fn on(&mut self, event: impl FnOnce(&mut Worker, Nanos)) -> Vec<Action> {
        event(&mut self.worker, self.now);
        self.worker.validate().unwrap();
        let mut actions = Vec::new();
        self.worker.drain_actions(&mut actions);
        actions
    }

    fn compute<const N: usize>(&mut self, tasks: [Sent; N]) -> Vec<Action> {
        let tasks = tasks.into_iter().map(|sent| sent.0).collect();
        self.on(|worker, now| worker.on_compute(now, tasks))
    }

    /// Starts the next ready run; its task's index.
    fn start(&mut self) -> Option<u32> {
        let started = self.worker.next_ready(self.now);
        self.worker.validate().unwrap();
        started.map(|run| run.task.index)
    }

    fn start_all(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.start()).collect()
    }

    fn drained(&mut self) -> Vec<Action> {
        self.on(|_, _| ())
    }

    fn finish(&mut self, index: u32, attempt: Attempt) -> bool {
        let kept = self.worker.on_finished(task(index), attempt, 10, 0);
        self.worker.validate().unwrap();
        kept
    }

    fn free(&mut self, tasks: &[u32]) -> Vec<Action> {
        let tasks: Vec<TaskId> = tasks.iter().map(|t| task(*t)).collect();
        self.on(|worker, _| worker.on_free(&tasks))
    }

    fn fetched(&mut self, peer: WorkerNo, items: &[(u32, FetchOutcome)]) -> Vec<Action> {
        let items = items.iter().map(|(t, outcome)| (task(*t), outcome.clone())).collect();
        self.on(|worker, now| worker.on_fetch_done(now, peer, items))
    }

    fn unreachable(&mut self, peer: WorkerNo) -> Vec<Action> {
        self.on(|worker, now| worker.on_fetch_failed(now, peer))
    }

    fn gone(&mut self, peer: WorkerNo, is_silent: bool) -> Vec<Action> {
        self.on(|worker, now| worker.on_peer_gone(now, peer, is_silent))
    }

    fn holders(&mut self, dep: u32, holders: &[WorkerNo]) -> Vec<Action> {
        let holders = holders.iter().copied().collect();
        let news = DepHolders { dep: task(dep), holders, value: None };
        self.on(|worker, now| worker.on_holders(now, news))
    }

    fn retract(&mut self, index: u32, attempt: Attempt) -> Vec<Action> {
        self.on(|worker, _| worker.on_retract(task(index), attempt))
    }

    /// A worker that knows nothing any more, as at its start.
    fn assert_empty(&self) {
        assert!(self.worker.tasks.is_empty(), "{:?}", self.worker.tasks);
        assert_eq!(self.worker.managed_bytes(), 0);
    }
}

const VALUE: FetchOutcome = FetchOutcome::Value { size_bytes: 10 };
const MISSING: FetchOutcome = FetchOutcome::Missing;

fn fetch(peer: WorkerNo, tasks: &[u32]) -> Action {
    let address = if peer == ALICE { "alice" } else { "bob" }.to_string();
    Action::Fetch { peer, address, tasks: tasks.iter().map(|t| task(*t)).collect() }
}

fn report_done(index: u32, attempt: Attempt) -> Action {
    Action::ReportDone { task: task(index), attempt, size_bytes: 10 }
}

fn report_fetched(tasks: &[u32]) -> Action {
    Action::Send(WorkerToScheduler::Fetched(tasks.iter().map(|t| task(*t)).collect()))
}

fn missing(dep: u32, asked: &[WorkerNo]) -> Action {
    let asked = asked.iter().copied().collect();
    Action::Send(WorkerToScheduler::DepMissing(DepMissing {
        dep: task(dep),
        asked,
        is_silence: false,
    }))
}

fn retracted(index: u32, attempt: Attempt, given_back: bool) -> Action {
    let answer = Retracted { task: task(index), attempt, given_back };
    Action::Send(WorkerToScheduler::Retracted(answer))
}

fn erred(index: u32, attempt: Attempt, error: ErrorInfo) -> Action {
    let erred = TaskErred { task: task(index), attempt, duration_ns: 0, error };
    Action::Send(WorkerToScheduler::Erred(erred))
}

fn attempt_of(index: u32, attempt: Attempt) -> TaskAttempt {
    TaskAttempt { task: task(index), attempt }
}

fn abandoned(index: u32, attempt: Attempt) -> Action {
    Action::Abandoned { task: task(index), attempt }
}

fn drop_value(index: u32) -> Action {
    Action::DropValue(task(index))
}

fn boom() -> ErrorInfo {
    ErrorInfo { type_name: "ValueError".into(), message: "boom".into(), ..ErrorInfo::default() }
}
