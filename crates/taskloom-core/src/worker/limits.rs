//! Limits of a run's time, and interrupts. The clock of a limit starts with the run, so time in
//! queues does not count; time outside a slot (`secede`) does.

use super::{Action, Map, Worker};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use taskloom_proto::policy::{InterruptRun, RunLimits, StuckRun};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Attempt, Nanos, TaskId};

/// Why a run is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Its task was cancelled.
    Cancelled,
    /// It took longer than this, in ns.
    TimedOut(u64),
}

/// What happens at a point in a run's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The run is interrupted: it took longer than this.
    Interrupt(u64),
    /// The scheduler is told that it does not end.
    Stuck,
}

type Run = (TaskId, Attempt);

/// The limits of the runs that have any.
#[derive(Debug, Default)]
pub(super) struct Limits {
    points: BTreeSet<(Nanos, Run, Due)>,
    /// The points of each run, to find them again.
    of_run: Map<Run, SmallVec<[(Nanos, Due); 2]>>,
}

impl Limits {
    fn add(&mut self, run: Run, at: Nanos, due: Due) {
        if self.points.insert((at, run, due)) {
            self.of_run.entry(run).or_default().push((at, due));
        }
    }

    /// The run has ended. One that nobody wants any more keeps its limits: it uses the machine.
    pub(super) fn forget(&mut self, run: Run) {
        if self.of_run.is_empty() {
            return;
        }
        for (at, due) in self.of_run.remove(&run).into_iter().flatten() {
            self.points.remove(&(at, run, due));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        self.points.first().map(|(at, ..)| *at)
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.of_run.keys().copied()
    }

    fn pop_due(&mut self, now: Nanos) -> Option<(Run, Due)> {
        let (at, run, due) = self.points.first().copied().filter(|(at, ..)| *at <= now)?;
        self.points.remove(&(at, run, due));
        if let Some(points) = self.of_run.get_mut(&run) {
            points.retain(|point| *point != (at, due));
            if points.is_empty() {
                self.of_run.remove(&run);
            }
        }
        Some((run, due))
    }
}

impl Worker {
    /// A run starts whose time is limited.
    pub(super) fn watch(&mut self, run: Run, now: Nanos, limits: &RunLimits) {
        if limits.timeout_ns > 0 {
            let due = Due::Interrupt(limits.timeout_ns);
            self.limits.add(run, now.after(limits.timeout_ns), due);
        }
        if limits.hard_timeout_ns > 0 {
            self.limits.add(run, now.after(limits.hard_timeout_ns), Due::Stuck);
        }
    }

    /// A run was cancelled. Its `Free` came before this; a run that has ended is past all that.
    pub fn on_interrupt(&mut self, now: Nanos, interrupt: &InterruptRun) {
        let run = (interrupt.task, interrupt.attempt);
        if self.running.get(&run).is_none_or(|running| !running.abandoned) {
            return;
        }
        let (task, attempt) = run;
        self.actions.push(Action::Interrupt { task, attempt, why: Interrupt::Cancelled });
        if let Some(grace_ns) = interrupt.grace_ns {
            self.limits.add(run, now.after(grace_ns), Due::Stuck);
        }
    }

    /// Points in the time of runs that have come.
    pub(super) fn pass_limits(&mut self, now: Nanos) {
        while let Some((run, due)) = self.limits.pop_due(now) {
            let Some(running) = self.running.get(&run) else { continue };
            let (task, attempt) = run;
            match due {
                Due::Interrupt(limit_ns) => {
                    let why = Interrupt::TimedOut(limit_ns);
                    self.actions.push(Action::Interrupt { task, attempt, why });
                }
                Due::Stuck => {
                    if !running.abandoned {
                        // Where no process can be replaced, this may at least end the thread.
                        let why = Interrupt::TimedOut(now.since(running.started));
                        self.actions.push(Action::Interrupt { task, attempt, why });
                    }
                    let running_ns = now.since(running.started);
                    let stuck = StuckRun { task, attempt, running_ns };
                    self.send(WorkerToScheduler::Stuck(stuck));
                }
            }
        }
    }
}
