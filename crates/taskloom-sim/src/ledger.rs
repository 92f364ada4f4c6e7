//! What really happened, kept apart from what scheduler and workers believe: how often tasks ran,
//! raised and killed, and who was where when a worker died.

use crate::broken::{Broken, Checked};
use crate::client::SimFuture;
use crate::worker::Thread;
use crate::workload::Trouble;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::scheduler::{Action, Config, Event, Scheduler};
use taskloom_proto::client::TaskSpec;
use taskloom_proto::supervisor::SchedulerToSupervisor;
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};
use taskloom_types::{Attempt, Key, TaskId, WorkerNo};

/// A run may end unseen when its task is taken away from it at that moment.
const UNSEEN: u32 = 3;

#[derive(Debug, Default)]
pub struct Ledger {
    allowed_failures: u32,
    /// Every task runs exactly once.
    is_calm: bool,
    /// No worker is given up while it goes on, so that no outcome of a run goes unseen.
    is_strict: bool,
    /// Workers that ended without having been told to.
    pub violent_deaths: u64,
    /// Workers that were retired, and whether some of their data had nowhere to go.
    pub retirements: u64,
    pub is_data_stranded: bool,
    /// A client had failed tasks tried again.
    pub retried: bool,
    /// Whether there are results that only their workers have.
    has_local: bool,
    starts: BTreeMap<Key, u32>,
    raises: BTreeMap<TaskId, u32>,
    kills: BTreeMap<TaskId, u32>,
    retries: BTreeMap<Key, u32>,
    /// Runs that the scheduler believes workers to have.
    assigned: BTreeMap<WorkerNo, BTreeMap<(TaskId, Attempt), Key>>,
    /// How often a worker died that had the task, per key.
    deaths: BTreeMap<Key, u32>,
    names: BTreeMap<String, WorkerNo>,
    /// Workers whose end nobody is to blame for.
    is_end_expected: BTreeSet<WorkerNo>,
    /// Transitions so far, when what comes is of a session that is over.
    frozen_at: Option<u64>,
}

impl Ledger {
    pub fn new(config: &Config, trouble: Trouble) -> Self {
        let is_disturbed = trouble.pauses
            || trouble.network
            || trouble.clocks
            || trouble.restart
            || trouble.retire
            || trouble.timeouts;
        Self {
            allowed_failures: config.allowed_failures.into(),
            is_calm: trouble.calm,
            is_strict: !is_disturbed,
            ..Self::default()
        }
    }

    /// How often a task may fail and be tried again.
    pub fn allow_retries(&mut self, key: &Key, retries: u32) {
        let known = self.retries.entry(key.clone()).or_default();
        *known = (*known).max(retries);
    }

    /// Something reaches the scheduler.
    pub fn on_event(&mut self, event: &Event, scheduler: &Scheduler) {
        self.frozen_at = None;
        match event {
            Event::WorkerMessage { worker, message: WorkerToScheduler::Register(info) } => {
                self.names.insert(info.name.clone(), *worker);
            }
            Event::WorkerMessage { worker, message } => {
                if scheduler.has_worker(*worker) {
                    self.on_word(*worker, message);
                } else {
                    self.frozen_at = Some(scheduler.counters().transitions);
                }
            }
            Event::WorkerLeft { worker } => self.on_death(*worker),
            _ => {}
        }
    }

    /// # Errors
    /// A message of a session that is over changed something.
    pub fn after_event(&mut self, scheduler: &Scheduler) -> Checked {
        let now = scheduler.counters().transitions;
        if self.frozen_at.take().is_some_and(|before| before != now) {
            return Err(Broken::new("I12", "a session that is over changed the state of a task"));
        }
        Ok(())
    }

    fn on_word(&mut self, worker: WorkerNo, message: &WorkerToScheduler) {
        let Some(assigned) = self.assigned.get_mut(&worker) else { return };
        match message {
            WorkerToScheduler::Done(done) => done.iter().for_each(|run| {
                assigned.remove(&(run.task, run.attempt));
            }),
            WorkerToScheduler::Erred(run) => {
                assigned.remove(&(run.task, run.attempt));
            }
            WorkerToScheduler::Rescheduled(run) => {
                assigned.remove(&(run.task, run.attempt));
            }
            WorkerToScheduler::Retracted(run) if run.given_back => {
                assigned.remove(&(run.task, run.attempt));
            }
            WorkerToScheduler::Closing(_) => {
                self.is_end_expected.insert(worker);
            }
            _ => {}
        }
    }

    /// The scheduler says something.
    pub fn on_action(&mut self, action: &Action) {
        match action {
            Action::ToWorker(worker, SchedulerToWorker::Compute(tasks)) => {
                let assigned = self.assigned.entry(*worker).or_default();
                for task in tasks {
                    assigned.insert((task.task, task.attempt), task.key.clone());
                }
            }
            Action::ToWorker(worker, SchedulerToWorker::Free(tasks)) => {
                if let Some(assigned) = self.assigned.get_mut(worker) {
                    assigned.retain(|(task, _), _| !tasks.contains(task));
                }
            }
            Action::ToWorker(worker, SchedulerToWorker::Close(_)) => {
                self.is_end_expected.insert(*worker);
            }
            Action::ToSupervisor(
                _,
                SchedulerToSupervisor::RestartWorker(worker)
                | SchedulerToSupervisor::StopWorker(worker),
            ) => {
                let number = self.names.get(&worker.name);
                self.is_end_expected.extend(number.copied());
            }
            Action::CloseWorker(worker, _) | Action::CutWorker(worker, _) => self.on_death(*worker),
            _ => {}
        }
    }

    /// The scheduler knows that a worker is gone.
    fn on_death(&mut self, worker: WorkerNo) {
        let assigned = self.assigned.remove(&worker).unwrap_or_default();
        if self.is_end_expected.contains(&worker) {
            return;
        }
        for key in assigned.into_values() {
            *self.deaths.entry(key).or_default() += 1;
        }
    }

    /// # Errors
    /// A task runs a second time although nothing has gone wrong.
    pub fn on_start(&mut self, thread: &Thread) -> Checked {
        self.has_local |= thread.run.flags & TaskSpec::LOCAL != 0;
        // What only one worker has goes with it, also when it is retired.
        let is_local_lost = self.has_local && self.retirements > 0;
        if !self.is_calm || is_local_lost || self.may_have_lost_data() {
            return Ok(());
        }
        let starts = self.starts.entry(thread.run.key.clone()).or_default();
        *starts += 1;
        if *starts > 1 {
            let what = format!("{} runs again, and nothing has gone wrong", thread.run.key);
            return Err(Broken::new("I5", what));
        }
        Ok(())
    }

    /// # Errors
    /// The task has killed more workers than it may.
    pub fn on_kill(&mut self, thread: &Thread) -> Checked {
        let kills = self.kills.entry(thread.run.task).or_default();
        *kills += u32::from(!thread.abandoned);
        if self.is_strict && !self.retried && *kills > self.allowed_failures + 1 + UNSEEN {
            let what = format!("{} has killed {kills} workers", thread.run.key);
            return Err(Broken::new("I19", what));
        }
        Ok(())
    }

    /// # Errors
    /// The task has failed more often than it may.
    pub fn on_raise(&mut self, thread: &Thread) -> Checked {
        let raises = self.raises.entry(thread.run.task).or_default();
        *raises += u32::from(!thread.abandoned);
        let retries = self.retries.get(&thread.run.key).copied().unwrap_or(0);
        if self.is_strict && !self.retried && *raises > retries + 1 + UNSEEN {
            let what = format!("{} has failed {raises} times", thread.run.key);
            return Err(Broken::new("I19", what));
        }
        Ok(())
    }

    /// # Errors
    /// The task that the future ended by is said to have killed more workers than have died while
    /// they had it.
    pub fn check_blame(&self, future: &SimFuture) -> Checked {
        let culprit = future.culprit.as_ref().unwrap_or(&future.key);
        let deaths = self.deaths.get(culprit).copied().unwrap_or(0);
        if deaths > self.allowed_failures {
            return Ok(());
        }
        let what = format!("{culprit} is blamed, and only {deaths} workers that had it died");
        Err(Broken::new("I19", what))
    }

    /// Whether data that cannot be made again may be gone.
    pub fn may_have_lost_data(&self) -> bool {
        self.violent_deaths > 0 || self.is_data_stranded || self.retirements > 1
    }
}
