//! Runs: assigned, ready, executing, over.

use super::data::Remaking;
use super::fetch::Stage;
use super::planted::Fault;
use super::{Action, LocalTask, ReadyQueue, Running, Worker};
use smallvec::SmallVec;
use std::cmp::Reverse;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::policy::RunLimits;
use taskloom_proto::worker::{
    ComputeTask, DepRef, Retracted, TaskAttempt, TaskErred, WorkerToScheduler,
};
use taskloom_proto::{Body, ErrorInfo};
use taskloom_types::{Attempt, FunctionNo, Key, Nanos, Priority, TaskId};

/// An assigned try at a task.
#[derive(Debug)]
pub(super) struct Run {
    /// Names this run among all that this worker ever had; a waiter's entry is checked by it.
    pub(super) serial: u64,
    pub(super) attempt: Attempt,
    pub(super) state: RunState,
    /// Taken when the run starts.
    pub(super) call: Option<Box<Call>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    /// For this many inputs.
    Waiting(u32),
    /// For its turn to have inputs read from disk.
    OnDisk,
    /// For this many inputs to be read from disk.
    Loading(u32),
    Ready,
    Executing,
    /// Executing outside a slot.
    Seceded,
}

/// What a run needs to start.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) flags: u8,
    pub(super) priority: Priority,
    pub(super) key: Key,
    pub(super) expected_us: u32,
    pub(super) functions: SmallVec<[FunctionNo; 2]>,
    pub(super) deps: SmallVec<[TaskId; 4]>,
    pub(super) body: Body,
    pub(super) limits: Option<Box<RunLimits>>,
}

/// A run that has been given to an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedRun {
    pub task: TaskId,
    pub attempt: Attempt,
    pub key: Key,
    pub flags: u8,
    pub priority: Priority,
    /// 0 means unknown.
    pub expected_us: u32,
    pub functions: SmallVec<[FunctionNo; 2]>,
    /// Inputs by position; the value of each is here.
    pub deps: SmallVec<[TaskId; 4]>,
    pub body: Body,
}

impl Run {
    pub(super) fn has_started(&self) -> bool {
        matches!(self.state, RunState::Executing | RunState::Seceded)
    }
}

impl ReadyQueue {
    fn push(&mut self, call: &Call, serial: u64, task: TaskId) {
        self.heap.push(Reverse((call.priority, serial, task)));
        self.live += 1;
    }
}

type LateDeps = (TaskId, u64, Priority, SmallVec<[DepRef; 2]>);

impl Worker {
    /// Takes assigned tasks. Inputs are looked at after all tasks of the message are known, so
    /// that an input may be made by a task that comes later in it.
    pub fn on_compute(&mut self, now: Nanos, tasks: Vec<ComputeTask>) {
        let mut late: Vec<LateDeps> = Vec::new();
        for task in tasks {
            if self.admit(task.task, task.attempt, task.flags) {
                self.add_run(task, &mut late);
            }
        }
        for (task, serial, priority, deps) in late {
            self.bind_deps(task, serial, priority, deps);
        }
        if self.memory.is_paused() {
            // The scheduler did not know yet.
            self.give_back_queue();
        }
        self.start_fetches(now);
    }

    /// Whether a new run of the task is to be made. An older run of it gives way; a value that
    /// is already here (fetched while the scheduler decided) is the run's result, unless it
    /// names what may be gone.
    fn admit(&mut self, task: TaskId, attempt: Attempt, flags: u8) -> bool {
        let Some(local) = self.tasks.get(&task) else { return true };
        let stage = local.fetch.as_ref().map(|fetch| fetch.stage);
        let is_in_flight = matches!(stage, Some(Stage::InFlight(_)));
        if (is_in_flight && self.has(Fault::ComputeLostToFetch))
            || (stage == Some(Stage::Missing) && self.has(Fault::KnownInputNotRun))
        {
            return false;
        }
        if let Some(run) = &local.run {
            if run.attempt >= attempt {
                self.counters.stale_runs += 1;
                return false;
            }
            self.take_back_run(task);
        }
        let Some(local) = self.tasks.get_mut(&task) else { return true };
        let Some(data) = &mut local.data else { return true };
        if flags & (TaskSpec::LOCAL | TaskSpec::KEEPS_INPUTS) != 0 && local.users == 0 {
            self.drop_value(task);
            return true;
        }
        data.reported = true;
        let size_bytes = data.size_bytes;
        self.actions.push(Action::ReportDone { task, attempt, size_bytes });
        false
    }

    fn add_run(&mut self, compute: ComputeTask, late: &mut Vec<LateDeps>) {
        self.last_serial += 1;
        let (serial, task) = (self.last_serial, compute.task);
        // What names other results or things of its worker means nothing in another session.
        const BOUND: u8 = TaskSpec::ACTOR | TaskSpec::LOCAL | TaskSpec::KEEPS_INPUTS;
        let is_bound = compute.flags & BOUND != 0;
        let (key, spec_hash) = (compute.key.clone(), compute.spec_hash);
        let name = (!is_bound).then_some(super::rejoin::Name { key, spec_hash });
        let call = Box::new(Call {
            flags: compute.flags,
            priority: compute.priority,
            key: compute.key,
            expected_us: compute.expected_us,
            functions: compute.functions,
            deps: SmallVec::new(),
            body: compute.body,
            limits: compute.limits,
        });
        let state = if compute.deps.is_empty() {
            self.queue_of(call.flags).push(&call, serial, task);
            RunState::Ready
        } else {
            late.push((task, serial, call.priority, compute.deps));
            // One more than inputs, until all are looked at: an input of the same message may
            // come while later ones are not counted yet.
            RunState::Waiting(1)
        };
        let run = Run { serial, attempt: compute.attempt, state, call: Some(call) };
        let local = self.tasks.entry(task).or_default();
        local.run = Some(run);
        local.name = name;
    }

    pub(super) fn queue_of(&mut self, flags: u8) -> &mut ReadyQueue {
        if flags & TaskSpec::COROUTINE == 0 { &mut self.ready } else { &mut self.ready_coroutines }
    }

    /// Counts a new run's missing inputs and wants them.
    fn bind_deps(
        &mut self,
        task: TaskId,
        serial: u64,
        priority: Priority,
        deps: SmallVec<[DepRef; 2]>,
    ) {
        let run = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut());
        // A task sent twice in one message has a newer run by now.
        let Some(run) = run.filter(|r| r.serial == serial) else { return };
        if let Some(call) = &mut run.call {
            call.deps = deps.iter().map(|dep| dep.task).collect();
        }
        for dep in &deps {
            self.tasks.entry(dep.task).or_default().users += 1;
        }
        for dep in deps {
            let local = self.tasks.entry(dep.task).or_default();
            if local.data.is_some() {
                continue;
            }
            if let Some(value) = dep.value {
                self.keep_inline(dep.task, value);
                continue;
            }
            local.waiters.push((task, serial));
            self.count_missing(task, 1);
            self.want(dep.task, dep.holders, dep.size_bytes, priority);
        }
        self.count_missing(task, -1);
    }

    /// Changes how many inputs a waiting run lacks; without any it is ready.
    fn count_missing(&mut self, task: TaskId, change: i32) {
        let Some(run) = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut()) else { return };
        match &mut run.state {
            RunState::Waiting(missing) => {
                *missing = missing.saturating_add_signed(change);
                if *missing == 0 {
                    self.inputs_are_here(task);
                }
            }
            RunState::Loading(missing) => {
                *missing = missing.saturating_add_signed(change);
                if *missing == 0 {
                    self.make_ready(task);
                }
            }
            RunState::OnDisk | RunState::Ready | RunState::Executing | RunState::Seceded => {}
        }
    }

    /// `waiting -> ready`, or `loading -> ready`.
    pub(super) fn make_ready(&mut self, task: TaskId) {
        let Some(run) = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut()) else { return };
        let Some(call) = &run.call else { return };
        run.state = RunState::Ready;
        let coroutine = call.flags & TaskSpec::COROUTINE != 0;
        let queue = if coroutine { &mut self.ready_coroutines } else { &mut self.ready };
        queue.push(call, run.serial, task);
    }

    /// An input has come: those who waited for nothing else become ready.
    pub(super) fn wake_waiters(&mut self, dep: TaskId) {
        let Some(local) = self.tasks.get_mut(&dep) else { return };
        for (task, serial) in std::mem::take(&mut local.waiters) {
            let run = self.tasks.get(&task).and_then(|t| t.run.as_ref());
            if run.is_some_and(|r| r.serial == serial) {
                self.count_missing(task, -1);
            }
        }
    }

    /// Starts the best ready run. The shell reads the values of its inputs before it drains the
    /// actions, which may drop those that only this run needed.
    pub fn next_ready(&mut self, now: Nanos) -> Option<StartedRun> {
        loop {
            let (task, serial) = Self::pop(&self.tasks, &mut self.ready)?;
            if !self.puts_off(task) {
                return self.start(now, task, serial);
            }
        }
    }

    /// As [`Worker::next_ready`], for runs that go to the event loop.
    pub fn next_ready_coroutine(&mut self, now: Nanos) -> Option<StartedRun> {
        loop {
            let (task, serial) = Self::pop(&self.tasks, &mut self.ready_coroutines)?;
            if !self.puts_off(task) {
                return self.start(now, task, serial);
            }
        }
    }

    /// What the next run is expected to take, in us: 0 when unknown, `None` when there is none.
    pub fn next_expected_us(&mut self) -> Option<u32> {
        while let Some(Reverse((_, serial, task))) = self.ready.heap.peek() {
            let run = self.tasks.get(task).and_then(|t| t.run.as_ref());
            if let Some(run) = run.filter(|r| r.serial == *serial && r.state == RunState::Ready) {
                return run.call.as_ref().map(|call| call.expected_us);
            }
            self.ready.heap.pop();
        }
        None
    }

    fn pop(tasks: &super::Map<TaskId, LocalTask>, queue: &mut ReadyQueue) -> Option<(TaskId, u64)> {
        while let Some(Reverse((_, serial, task))) = queue.heap.pop() {
            let run = tasks.get(&task).and_then(|t| t.run.as_ref());
            if run.is_some_and(|r| r.serial == serial && r.state == RunState::Ready) {
                return Some((task, serial));
            }
        }
        None
    }

    fn start(&mut self, now: Nanos, task: TaskId, serial: u64) -> Option<StartedRun> {
        let run = self.tasks.get_mut(&task)?.run.as_mut().filter(|r| r.serial == serial)?;
        let call = *run.call.take()?;
        run.state = RunState::Executing;
        let attempt = run.attempt;
        self.queue_of(call.flags).live -= 1;
        let has_resources = call.flags & TaskSpec::RESOURCES != 0;
        let running = Running { started: now, abandoned: false, has_resources };
        self.running.insert((task, attempt), running);
        self.memory.clock = self.memory.clock.wrapping_add(1).max(1);
        self.release_load(serial, &call.deps);
        for dep in &call.deps {
            self.stop_using(*dep);
        }
        if let Some(limits) = &call.limits {
            self.watch((task, attempt), now, limits);
        }
        let Call { flags, priority, key, expected_us, functions, deps, body, .. } = call;
        Some(StartedRun { task, attempt, key, flags, priority, expected_us, functions, deps, body })
    }

    /// Takes a run out of its task: one that has not started is as if it never came, one that
    /// has is abandoned to its thread.
    pub(super) fn take_back_run(&mut self, task: TaskId) {
        let Some(run) = self.tasks.get_mut(&task).and_then(|t| t.run.take()) else { return };
        if run.has_started() && self.has(Fault::FreedRunForgotten) {
            return;
        }
        if run.has_started() {
            let attempt = run.attempt;
            if let Some(running) = self.running.get_mut(&(task, attempt)) {
                running.abandoned = true;
                self.actions.push(Action::Abandoned { task, attempt });
            }
            return;
        }
        let Some(call) = run.call else { return };
        if call.flags & TaskSpec::RESOURCES != 0 {
            let ended = TaskAttempt { task, attempt: run.attempt };
            self.send(WorkerToScheduler::RunEnded(ended));
        }
        if run.state == RunState::Ready {
            self.queue_of(call.flags).live -= 1;
        }
        self.release_load(run.serial, &call.deps);
        for dep in call.deps {
            self.stop_using(dep);
        }
    }

    /// A run's input was here before the run could start: that is its result.
    pub(super) fn finish_unstarted(&mut self, task: TaskId, size_bytes: u64) -> bool {
        let run = self.tasks.get(&task).and_then(|t| t.run.as_ref());
        let Some(attempt) = run.filter(|r| !r.has_started()).map(|r| r.attempt) else {
            return false;
        };
        self.take_back_run(task);
        self.actions.push(Action::ReportDone { task, attempt, size_bytes });
        true
    }

    /// Ends a run that a thread was in. `None`: nobody wants the outcome.
    fn end(&mut self, task: TaskId, attempt: Attempt) -> Option<()> {
        let ended = self.running.remove(&(task, attempt));
        self.limits.forget((task, attempt));
        if ended.is_none_or(|run| run.abandoned) {
            self.counters.discarded_outcomes += 1;
            if self.has(Fault::OldErrorEndsNewRun)
                && let Some(local) = self.tasks.get_mut(&task)
            {
                local.run = None;
            }
            if ended.is_some_and(|run| run.has_resources) {
                self.send(WorkerToScheduler::RunEnded(TaskAttempt { task, attempt }));
            }
            return None;
        }
        let local = self.tasks.get_mut(&task)?;
        local.run.take_if(|run| run.attempt == attempt)?;
        Some(())
    }

    /// A run returned a value. True: the shell keeps the value and reports it; false: it is of
    /// no use (the run was freed meanwhile).
    pub fn on_finished(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        size_bytes: u64,
        duration_ns: u64,
    ) -> bool {
        if self.end(task, attempt).is_none() {
            return false;
        }
        self.value_is_here(task, size_bytes, true);
        self.note_remaking(task, Remaking::of_run(duration_ns));
        self.heed_alarm();
        true
    }

    /// A run raised.
    pub fn on_erred(&mut self, task: TaskId, attempt: Attempt, duration_ns: u64, error: ErrorInfo) {
        if self.end(task, attempt).is_some() {
            self.send(WorkerToScheduler::Erred(TaskErred { task, attempt, duration_ns, error }));
            // The scheduler frees the dependents, or says where the value will come from.
            self.orphan_waiters(task, false);
        }
    }

    /// A run raised `Reschedule`.
    pub fn on_rescheduled(&mut self, task: TaskId, attempt: Attempt) {
        if self.end(task, attempt).is_some() {
            self.send(WorkerToScheduler::Rescheduled(TaskAttempt { task, attempt }));
            self.orphan_waiters(task, true);
        }
    }

    /// A run left its slot. Of an abandoned run the scheduler hears nothing.
    pub fn on_seceded(&mut self, task: TaskId, attempt: Attempt) {
        if self.change_running(task, attempt, RunState::Executing, RunState::Seceded) {
            self.send(WorkerToScheduler::Seceded(TaskAttempt { task, attempt }));
        }
    }

    /// A run is back in a slot.
    pub fn on_rejoined(&mut self, task: TaskId, attempt: Attempt) {
        if self.change_running(task, attempt, RunState::Seceded, RunState::Executing) {
            self.send(WorkerToScheduler::Rejoined(TaskAttempt { task, attempt }));
        }
    }

    fn change_running(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        from: RunState,
        to: RunState,
    ) -> bool {
        let run = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut());
        let Some(run) = run.filter(|r| r.attempt == attempt && r.state == from) else {
            return false;
        };
        run.state = to;
        true
    }

    /// The scheduler wants an unstarted run back. Not one that others here wait for: they were
    /// sent ahead because their input would be made here.
    pub fn on_retract(&mut self, task: TaskId, attempt: Attempt) {
        let local = self.tasks.get(&task);
        let given_back = local.is_some_and(|t| {
            let run = t.run.as_ref().filter(|r| r.attempt == attempt && !r.has_started());
            run.is_some() && t.users == 0
        });
        if given_back {
            self.take_back_run(task);
            self.forget_if_idle(task);
        }
        self.send(WorkerToScheduler::Retracted(Retracted { task, attempt, given_back }));
    }
}
