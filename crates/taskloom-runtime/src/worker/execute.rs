//! The executor threads' side: take a run, end it, leave the slot and come back.

use super::WorkerShell;
use super::jobs::Job;
use super::state::{Execution, Outcome, Phase, State};
use super::values::{LocalObject, Value};
use parking_lot::MutexGuard;
use std::time::Duration;
use taskloom_types::{Attempt, Nanos, TaskId};

/// An executor thread's place: what it runs.
#[derive(Debug, Default)]
pub struct Seat {
    run: Option<SeatedRun>,
}

#[derive(Debug, Clone, Copy)]
struct SeatedRun {
    task: TaskId,
    attempt: Attempt,
    started: Nanos,
}

impl Seat {
    /// The run that this thread is in.
    #[must_use]
    pub fn current(&self) -> Option<(TaskId, Attempt)> {
        self.run.map(|run| (run.task, run.attempt))
    }
}

/// What an executor thread does next.
#[derive(Debug)]
pub enum Next<O> {
    Run(Box<Execution<O>>),
    /// [`WorkerShell::wait_for_work`], then ask again.
    Wait,
    /// The thread ends: the worker closes, or there are more threads than slots.
    End,
}

/// What came of leaving a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seceded {
    /// There was none to leave.
    HadNoSlot,
    Done,
    /// No other thread is there to use it: start an executor thread (it is counted already), or
    /// say [`WorkerShell::executor_failed_to_start`].
    StartThread,
}

/// A run that is expected to take longer than this does not keep earlier results waiting, in us.
const LONG_RUN_US: u32 = 1000;
/// How soon the IO thread looks after results that wait behind a run.
const TICK: Duration = Duration::from_millis(1);

impl<O: LocalObject> WorkerShell<O> {
    /// A new executor thread announces itself, unless [`WorkerShell::secede`] counted it.
    pub fn add_executor(&self) {
        self.state.lock().slots.add_thread();
    }

    /// An announced thread could not be started.
    pub fn executor_failed_to_start(&self) {
        self.state.lock().slots.remove_thread();
    }

    /// Ends the seat's run, if any, and takes the next. Never blocks for long. What waits to be
    /// dropped goes to `garbage`: drop it where objects may be dropped.
    pub fn next(
        &self,
        seat: &mut Seat,
        outcome: Option<Outcome<O>>,
        garbage: &mut Vec<Value<O>>,
    ) -> Next<O> {
        let now = self.now();
        let mut state = self.state.lock();
        if let (Some(outcome), Some(run)) = (outcome, seat.run.take()) {
            self.leave(&mut state, run);
            self.logs.move_to(now, &mut state.outbox);
            state.finish(now, run.task, run.attempt, run.started, outcome);
        }
        let next = self.take(&mut state, seat, now);
        let flush = match &next {
            Next::Run(execution) => {
                let expected = execution.run.expected_us;
                state.outbox.is_due(now) || expected == 0 || expected > LONG_RUN_US
            }
            Next::Wait | Next::End => true,
        };
        let flush = flush && !state.outbox.is_empty();
        if !flush {
            self.arm_tick(&mut state);
        }
        if !state.garbage.is_empty() {
            garbage.append(&mut state.garbage);
        }
        let urgent = self.release(state, now);
        if flush || urgent {
            self.flush();
        }
        next
    }

    fn take(&self, state: &mut State<O>, seat: &mut Seat, now: Nanos) -> Next<O> {
        if !state.is_running() || state.slots.has_surplus_thread() {
            state.slots.remove_thread();
            return Next::End;
        }
        while state.slots.free() > 0 {
            let Some(run) = state.core.next_ready(now) else { break };
            let Some(execution) = state.equip(now, run) else { continue };
            let (task, attempt) = (execution.run.task, execution.run.attempt);
            seat.run = Some(SeatedRun { task, attempt, started: now });
            state.enter_slot(task, attempt);
            state.slots.take();
            return Next::Run(Box::new(execution));
        }
        Next::Wait
    }

    /// A run is over: its slot is free.
    fn leave(&self, state: &mut State<O>, run: SeatedRun) {
        if state.leave_slot(run.task, run.attempt) {
            state.slots.give_back();
            self.wake_rejoining(state);
        } else {
            state.slots.end_seceded();
        }
    }

    fn wake_rejoining(&self, state: &State<O>) {
        if state.slots.has_rejoining() && state.slots.can_rejoin() {
            self.slot_is_free.notify_one();
        }
    }

    /// Wakes as many executor threads as have something to do.
    pub(super) fn wake_executors(&self, state: &State<O>) {
        let useful = state.core.ready_count().min(state.slots.free());
        for _ in 0..useful.min(state.slots.sleeping()) {
            self.work_is_here.notify_one();
        }
        if state.slots.has_surplus_thread() && state.slots.sleeping() > 0 {
            self.work_is_here.notify_one();
        }
        if state.phase == Phase::Closing {
            self.closed.notify_all();
        }
    }

    /// Settles, wakes who has to do something, and releases the lock. Whether settling left
    /// something in the outbox that must not wait, such as an error.
    pub(super) fn release(&self, mut state: MutexGuard<'_, State<O>>, now: Nanos) -> bool {
        let mut effects = state.settle(now);
        let urgent = state.outbox.is_urgent();
        self.wake_rejoining(&state);
        self.wake_executors(&state);
        self.wake_for_coroutines(&state);
        let deadline = state.core.next_deadline();
        drop(state);
        self.move_values(&mut effects);
        self.run_fetches(effects.fetches);
        effects.jobs.into_iter().for_each(|job| self.jobs.push(job));
        if !effects.ended.is_empty() {
            self.jobs.push(Job::CollectGarbage);
        }
        self.arm_deadline(now, deadline);
        urgent
    }

    /// Blocks until there may be something to do. The caller must have released whatever tasks
    /// need to go on.
    pub fn wait_for_work(&self) {
        let mut state = self.state.lock();
        loop {
            let can_run = state.core.ready_count() > 0 && state.slots.free() > 0;
            if can_run || !state.is_running() || state.slots.has_surplus_thread() {
                return;
            }
            state.slots.sleep();
            self.work_is_here.wait(&mut state);
            state.slots.wake();
        }
    }

    /// The seat's run leaves its slot; what the caller has to do then.
    pub fn secede(&self, seat: &Seat) -> Seceded {
        let Some(run) = seat.run else { return Seceded::HadNoSlot };
        let now = self.now();
        let mut state = self.state.lock();
        if !state.leave_slot(run.task, run.attempt) {
            return Seceded::HadNoSlot;
        }
        state.core.on_seceded(run.task, run.attempt);
        let start_thread = state.slots.secede() && state.is_running();
        if start_thread {
            state.slots.add_thread();
        }
        self.release(state, now);
        self.flush();
        if start_thread { Seceded::StartThread } else { Seceded::Done }
    }

    /// The seat's run waits for a slot. Blocks; new tasks stand behind it. False: it has one.
    pub fn rejoin(&self, seat: &Seat) -> bool {
        let Some(run) = seat.run else { return false };
        let mut state = self.state.lock();
        if state.is_in_slot(run.task, run.attempt) {
            return false;
        }
        state.slots.begin_rejoin();
        while !state.slots.can_rejoin() && state.is_running() {
            self.slot_is_free.wait(&mut state);
        }
        state.slots.end_rejoin();
        state.enter_slot(run.task, run.attempt);
        state.core.on_rejoined(run.task, run.attempt);
        let now = self.now();
        self.release(state, now);
        self.flush();
        true
    }

    /// The next coroutine run; it needs no slot.
    pub fn next_coroutine(&self) -> Option<Box<Execution<O>>> {
        let now = self.now();
        let mut state = self.state.lock();
        if !state.is_running() {
            return None;
        }
        let mut execution = None;
        while execution.is_none() {
            let Some(run) = state.core.next_ready_coroutine(now) else { break };
            execution = state.equip(now, run);
        }
        self.release(state, now);
        execution.map(Box::new)
    }

    /// Ends a run that no executor thread is in.
    pub fn finish_detached(
        &self,
        run: (TaskId, Attempt),
        started: Nanos,
        outcome: Outcome<O>,
    ) -> Vec<Value<O>> {
        let now = self.now();
        let mut state = self.state.lock();
        self.logs.move_to(now, &mut state.outbox);
        state.finish(now, run.0, run.1, started, outcome);
        let garbage = std::mem::take(&mut state.garbage);
        self.release(state, now);
        self.flush();
        garbage
    }

    /// Makes sure that results do not wait long behind the run that starts now.
    fn arm_tick(&self, state: &mut State<O>) {
        if state.outbox.is_empty() || state.tick_armed {
            return;
        }
        state.tick_armed = true;
        let me = self.me.clone();
        let _ = self.io.after(TICK, move || {
            if let Some(me) = me.upgrade() {
                me.on_flush_tick();
            }
        });
    }

    fn on_flush_tick(&self) {
        let now = self.now();
        let mut state = self.state.lock();
        state.tick_armed = false;
        let due = state.outbox.is_due(now);
        if !due {
            self.arm_tick(&mut state);
        }
        drop(state);
        if due {
            self.flush();
        }
    }

    /// Stops taking tasks, and waits until those that run have ended, at most `limit`.
    /// True: nothing runs any more.
    pub fn drain(&self, limit: Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        let mut state = self.state.lock();
        if state.is_running() {
            state.phase = Phase::Closing;
        }
        self.wake_all();
        while state.core.executing().next().is_some() {
            let timed_out = self.closed.wait_until(&mut state, deadline).timed_out();
            if timed_out || matches!(state.phase, Phase::Closed(_)) {
                break;
            }
        }
        let idle = state.core.executing().next().is_none();
        drop(state);
        self.flush();
        idle
    }
}
