//! What the worker's one lock guards, and how actions of the rules are carried out on it.

use super::WorkerConfig;
use super::actors::{Actors, Ended};
use super::disk;
use super::exports::Exports;
use super::jobs::{Encode, Job, JobQueue};
use super::outbox::Outbox;
use super::slots::Slots;
use super::spill::SpilledValue;
use super::values::{LocalObject, Servable, Value};
use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskloom_core::worker::{Action, Config, SpillFailure, StartedRun, Ticket, Worker};
use taskloom_proto::actor::ActorLife;
use taskloom_proto::worker::{TaskDone, WorkerFunction};
use taskloom_proto::{ErrorInfo, SmallBytes};
use taskloom_types::{Attempt, FunctionNo, Nanos, TaskId, WorkerNo};

pub(super) type Map<K, V> = HashMap<K, V, RandomState>;

/// The life of a worker, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not yet accepted by the scheduler.
    Starting,
    Running(WorkerNo),
    /// Starts no task any more.
    Closing,
    /// Has no connection any more.
    Closed(End),
}

/// Why a worker is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// For people.
    pub reason: String,
    /// Whether it was said to be, by the scheduler or by this side; otherwise the connection
    /// was lost.
    pub in_order: bool,
}

/// A run with its inputs.
#[derive(Debug)]
pub struct Execution<O> {
    pub run: StartedRun,
    pub inputs: SmallVec<[Value<O>; 2]>,
    pub started: Nanos,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<O> {
    Value {
        value: Value<O>,
        /// As estimated.
        size_bytes: u64,
    },
    /// An object that lives here from now on.
    Actor {
        object: O,
        /// The encoded proxy: the task's value.
        proxy: SmallBytes,
    },
    Error(ErrorInfo),
    /// It raised `Reschedule`.
    Rescheduled,
    /// It goes on outside its thread: [`super::WorkerShell::finish_detached`] will end it.
    Detached,
}

pub(super) struct State<O> {
    pub(super) core: Worker,
    pub(super) values: Map<TaskId, Value<O>>,
    /// Values of earlier sessions, by the number that they were offered under.
    pub(super) kept: Map<u64, Value<O>>,
    /// Sessions so far.
    pub(super) session: Arc<AtomicU64>,
    pub(super) functions: Map<FunctionNo, WorkerFunction>,
    /// Functions whose cached callables are to be forgotten.
    pub(super) forgotten: Vec<FunctionNo>,
    pub(super) outbox: Outbox,
    pub(super) slots: Slots,
    /// What only a thread that knows the language may drop.
    pub(super) garbage: Vec<Value<O>>,
    pub(super) phase: Phase,
    /// What the scheduler has called this worker, last.
    pub(super) accepted_as: Option<WorkerNo>,
    pub(super) actors: Arc<Actors<O>>,
    pub(super) exports: Exports,
    /// Whether a flush by the IO thread is on its way.
    pub(super) tick_armed: bool,
    /// Runs that hold a slot; as many as slots at most.
    in_slots: Vec<(TaskId, Attempt)>,
    actions: Vec<Action>,
    effects: Effects<O>,
}

/// What remains to be done without the lock.
pub(super) struct Effects<O> {
    pub(super) fetches: Vec<Fetch>,
    /// Actors whose callers hear of their end when these are dropped. Their objects are among the
    /// garbage too.
    pub(super) ended: Vec<Ended>,
    /// Jobs for the service thread.
    pub(super) jobs: Vec<Job>,
    /// Values on their way to disk that are to be encoded first.
    pub(super) encodes: Vec<Encode<O>>,
    pub(super) disk: Vec<disk::Job<O>>,
    /// Free memory is to be given back to the system.
    pub(super) trim: bool,
    /// Values that are no objects: to unmap large ones takes a while.
    pub(super) of_no_use: Vec<Value<O>>,
}

impl<O> Default for Effects<O> {
    fn default() -> Self {
        Self {
            fetches: Vec::new(),
            ended: Vec::new(),
            jobs: Vec::new(),
            encodes: Vec::new(),
            disk: Vec::new(),
            trim: false,
            of_no_use: Vec::new(),
        }
    }
}

/// A request to a peer, to be made without the lock.
pub(super) struct Fetch {
    pub(super) peer: WorkerNo,
    pub(super) address: String,
    pub(super) tasks: Vec<TaskId>,
    /// The session in which these numbers mean something.
    pub(super) session: u64,
}

impl<O: LocalObject> State<O> {
    pub(super) fn new(
        config: &WorkerConfig,
        actors: Arc<Actors<O>>,
        session: Arc<AtomicU64>,
    ) -> Self {
        let memory = config.memory.limits(config.memory_limit);
        Self {
            core: Worker::new(Config::with_memory(memory)),
            values: Map::default(),
            kept: Map::default(),
            session,
            functions: Map::default(),
            forgotten: Vec::new(),
            outbox: Outbox::default(),
            slots: Slots::new(config.nthreads.max(1)),
            garbage: Vec::new(),
            phase: Phase::Starting,
            accepted_as: None,
            actors,
            exports: Exports::new(config.memory_limit),
            tick_armed: false,
            in_slots: Vec::new(),
            actions: Vec::new(),
            effects: Effects::default(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running(_))
    }

    /// Carries out what the rules asked for. Call before the lock is released.
    pub(super) fn settle(&mut self, now: Nanos) -> Effects<O> {
        while self.core.has_actions() {
            let mut actions = std::mem::take(&mut self.actions);
            self.core.drain_actions(&mut actions);
            for action in actions.drain(..) {
                self.carry_out(now, action);
            }
            self.actions = actions;
            self.give_back_room();
        }
        std::mem::take(&mut self.effects)
    }

    /// A burst of tasks does not keep its memory for ever.
    fn give_back_room(&mut self) {
        /// Smaller tables are not worth the work.
        const SMALL: usize = 4096;
        if self.values.capacity() > SMALL && self.values.len() < self.values.capacity() / 8 {
            self.values.shrink_to(SMALL.max(self.values.len() * 2));
        }
        if self.actions.capacity() > SMALL {
            self.actions = Vec::new();
        }
    }

    fn carry_out(&mut self, now: Nanos, action: Action) {
        match action {
            Action::Send(message) => self.outbox.push(message),
            Action::ReportDone { task, attempt, size_bytes } => {
                let value = self.values.get(&task).and_then(Value::inline);
                let done = TaskDone { task, attempt, size_bytes, duration_ns: 0, value };
                self.outbox.push_done(now, done);
            }
            Action::StoreInline { task, value } => {
                self.store(task, Value::received(vec![value.to_bytes()]));
            }
            Action::DropValue(task) => {
                if let Some(value) = self.values.remove(&task) {
                    self.discard(value);
                }
                if let Some((object, ended)) = self.actors.end(task) {
                    self.garbage.push(Value::Object { object, encoded: None });
                    self.effects.ended.push(ended);
                }
            }
            Action::KeepValue { task, number } => self.keep_value(task, number),
            Action::TakeKept { number, task } => self.take_kept(number, task),
            Action::DropKept(number) => self.drop_kept(number),
            Action::Abandoned { task, attempt } => self.abandon(task, attempt),
            Action::Interrupt { task, attempt, why } => {
                self.effects.jobs.push(Job::Interrupt(task, attempt, why));
            }
            Action::Spill { task, ticket } => self.spill(now, task, ticket),
            Action::Unspill { task, ticket } => self.unspill(now, task, ticket),
            Action::Evict(task) => self.evict(now, task),
            Action::TrimMemory => self.effects.trim = true,
            Action::Fetch { peer, address, tasks } => {
                let session = self.session.load(Ordering::Acquire);
                self.effects.fetches.push(Fetch { peer, address, tasks, session });
            }
        }
    }

    fn spill(&mut self, now: Nanos, task: TaskId, ticket: Ticket) {
        match self.values.get(&task).map(Value::servable) {
            Some(Servable::Encoded(segments)) => {
                self.effects.disk.push(disk::Job::Write { task, ticket, segments });
            }
            Some(value @ (Servable::Object(_) | Servable::Received(_))) => {
                self.effects.encodes.push(Encode { task, ticket, value });
            }
            // Nothing is here that could be written.
            Some(Servable::Failed(_) | Servable::OnDisk(_)) | None => {
                self.core.on_spill_failed(now, task, ticket, SpillFailure::Unpicklable);
            }
        }
    }

    fn unspill(&mut self, now: Nanos, task: TaskId, ticket: Ticket) {
        match self.values.get(&task) {
            Some(Value::Spilled(file)) => {
                let file = file.clone();
                self.effects.disk.push(disk::Job::Read { task, ticket, file });
            }
            _ => self.core.on_load_failed(now, task, ticket),
        }
    }

    /// What is in memory of a value goes; its file stays.
    fn evict(&mut self, now: Nanos, task: TaskId) {
        match self.values.get(&task).and_then(Value::take_file) {
            Some(file) => {
                let before = self.values.insert(task, Value::Spilled(file));
                before.into_iter().for_each(|value| self.let_go(value));
                // Even while executors are busy: memory is short.
                self.effects.jobs.push(Job::CollectGarbage);
            }
            None => self.core.on_unreadable(now, task),
        }
    }

    /// A run that nobody wants any more must not hold up others: its slot is free at once.
    fn abandon(&mut self, task: TaskId, attempt: Attempt) {
        if !self.leave_slot(task, attempt) {
            self.effects.jobs.push(Job::CancelCoroutine(task, attempt));
            return;
        }
        if self.slots.secede() && self.is_running() {
            self.slots.add_thread();
            self.effects.jobs.push(Job::StartExecutor);
        }
    }

    pub(super) fn enter_slot(&mut self, task: TaskId, attempt: Attempt) {
        self.in_slots.push((task, attempt));
    }

    /// Takes a run off the list of those that hold a slot; false if it held none.
    pub(super) fn leave_slot(&mut self, task: TaskId, attempt: Attempt) -> bool {
        let at = self.in_slots.iter().position(|run| *run == (task, attempt));
        at.map(|at| self.in_slots.swap_remove(at)).is_some()
    }

    pub(super) fn is_in_slot(&self, task: TaskId, attempt: Attempt) -> bool {
        self.in_slots.contains(&(task, attempt))
    }

    pub(super) fn store(&mut self, task: TaskId, value: Value<O>) {
        if let Some(before) = self.values.insert(task, value) {
            self.discard(before);
        }
    }

    pub(super) fn discard(&mut self, value: Value<O>) {
        if let Some(file) = value.take_file() {
            self.remove_file(file);
        }
        self.let_go(value);
    }

    /// To remove a large file takes a while.
    pub(super) fn remove_file(&mut self, file: Arc<SpilledValue>) {
        self.effects.disk.push(disk::Job::Remove(file));
    }

    /// Frees the memory of a value, each kind where it may be freed.
    fn let_go(&mut self, value: Value<O>) {
        if value.holds_object() {
            self.garbage.push(value);
        } else if matches!(value, Value::Received(_)) {
            self.effects.of_no_use.push(value);
        }
    }

    /// Ends a run.
    pub(super) fn finish(
        &mut self,
        now: Nanos,
        task: TaskId,
        attempt: Attempt,
        started: Nanos,
        outcome: Outcome<O>,
    ) {
        let duration_ns = now.since(started);
        match outcome {
            Outcome::Value { value, size_bytes } => {
                if self.core.on_finished(task, attempt, size_bytes, duration_ns) {
                    let inline = value.inline();
                    self.store(task, value);
                    let done = TaskDone { task, attempt, size_bytes, duration_ns, value: inline };
                    self.outbox.push_done(now, done);
                } else {
                    self.discard(value);
                }
            }
            Outcome::Actor { object, proxy } => {
                let size_bytes = proxy.len() as u64;
                if self.core.on_finished(task, attempt, size_bytes, duration_ns) {
                    self.actors.insert(ActorLife { task, attempt }, object);
                    self.store(task, Value::Scalar(proxy.clone()));
                    let value = Some(proxy);
                    let done = TaskDone { task, attempt, size_bytes, duration_ns, value };
                    self.outbox.push_done(now, done);
                } else {
                    self.garbage.push(Value::Object { object, encoded: None });
                }
            }
            Outcome::Error(error) => self.core.on_erred(task, attempt, duration_ns, error),
            Outcome::Rescheduled => self.core.on_rescheduled(task, attempt),
            Outcome::Detached => self.core.on_seceded(task, attempt),
        }
    }

    /// Puts a started run and its inputs together.
    pub(super) fn equip(&mut self, now: Nanos, run: StartedRun) -> Option<Execution<O>> {
        let inputs: SmallVec<[Value<O>; 2]> =
            run.deps.iter().map_while(|dep| self.values.get(dep).cloned()).collect();
        if inputs.len() == run.deps.len() {
            return Some(Execution { run, inputs, started: now });
        }
        let error = ErrorInfo {
            type_name: "RuntimeError".into(),
            message: "an input of the task is not on its worker although it should be".into(),
            ..ErrorInfo::default()
        };
        self.core.on_erred(run.task, run.attempt, 0, error);
        None
    }

    /// Takes a value that was fetched, unless one is here.
    pub(super) fn store_fetched(&mut self, task: TaskId, segments: Vec<Bytes>) -> u64 {
        let size_bytes = segments.iter().map(|segment| segment.len() as u64).sum();
        if !self.values.contains_key(&task) {
            self.values.insert(task, Value::received(segments));
        }
        size_bytes
    }

    /// Sees to garbage when no executor will come by soon.
    pub(super) fn hand_over_garbage(&self, jobs: &JobQueue<Job>) {
        if !self.garbage.is_empty() && self.slots.running() == 0 {
            jobs.push(Job::CollectGarbage);
        }
    }
}
