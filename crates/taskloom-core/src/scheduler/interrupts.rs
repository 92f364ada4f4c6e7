//! Runs that are to be interrupted since their task was cancelled, and runs that do not end: the
//! process of such a one is replaced, and nobody else who was in it is blamed.

use super::Scheduler;
use super::planted::Fault;
use super::supervisors::Errand;
use super::task::State;
use super::transitions::{Interrupting, Step};
use super::worker_table::WorkerSlot;
use taskloom_proto::ErrorInfo;
use taskloom_proto::policy::{InterruptRun, RunLimits, StuckRun};
use taskloom_proto::worker::{SchedulerToWorker, TaskAttempt};
use taskloom_types::WorkerNo;

/// The types of the error that stands for a run beyond its hard limit, as a worker would report.
const TIMEOUT_TYPES: [&str; 6] = [
    "taskloom.errors.TaskTimeout",
    "taskloom.errors.TaskloomError",
    "builtins.TimeoutError",
    "builtins.OSError",
    "builtins.Exception",
    "builtins.BaseException",
];

impl Scheduler {
    /// A task is being cancelled. If it runs, and nobody else turns out to want it, its run is
    /// interrupted: the step is drawn after those that free it.
    pub(super) fn plan_interrupt(&mut self, index: u32, how: Interrupting) {
        let task = &self.tasks[index];
        let grace_ns = match how {
            Interrupting::No => return,
            Interrupting::Soft => {
                self.policies.get(task.policy).and_then(|policy| policy.cancel_grace_ns)
            }
            Interrupting::Hard => {
                let own = self.policies.get(task.policy).and_then(|policy| policy.cancel_grace_ns);
                Some(own.unwrap_or(self.config.cancel_grace_ns))
            }
        };
        if task.state != State::Processing {
            return;
        }
        let Some(worker) = self.workers.get(task.worker).map(|worker| worker.number) else {
            return;
        };
        let run = InterruptRun { task: self.tasks.id(index), attempt: task.attempt, grace_ns };
        self.steps.push(Step::Interrupt(worker, run));
    }

    pub(super) fn interrupt(&mut self, worker: WorkerNo, run: InterruptRun) {
        let still_wanted = self.tasks.get(run.task).is_some_and(|index| {
            let task = &self.tasks[index];
            task.state == State::Processing && task.attempt == run.attempt
        });
        if still_wanted {
            return;
        }
        if let Some(slot) = self.workers.slot(worker) {
            let message = SchedulerToWorker::Interrupt(run);
            self.outbox.send_worker(&mut self.workers[slot], message);
        }
    }

    /// A run is beyond its last limit. Its task fails or is tried again; the process is replaced
    /// where there is somebody to do so. Elsewhere the thread is lost to the run, and its slot
    /// is not.
    pub(super) fn on_stuck(&mut self, slot: WorkerSlot, stuck: &StuckRun) {
        let run = TaskAttempt { task: stuck.task, attempt: stuck.attempt };
        // First, so that the task does not go to the same worker again.
        self.replace_process(slot);
        if self.has(Fault::StuckIgnored) {
            return;
        }
        let is_cancelled = self.tasks.get(run.task).is_none();
        if is_cancelled {
            return;
        }
        if let Some(index) = self.current_run(slot, &run) {
            let error = self.hard_timeout_error(index, slot, stuck);
            self.end_attempt(index, error, true);
        }
    }

    /// Has a worker's supervisor end its process and start another. What the worker has runs
    /// again elsewhere, and is not to blame.
    fn replace_process(&mut self, slot: WorkerSlot) {
        let worker = &mut self.workers[slot];
        if !worker.info.supervised || self.supervisors.is_empty() || worker.end_expected {
            return;
        }
        worker.end_expected = true;
        self.stop_using(slot);
        self.ask_for_new_process(slot);
    }

    /// Has the process of a worker that is of no use any more replaced.
    pub(super) fn ask_for_new_process(&mut self, slot: WorkerSlot) {
        self.counters.processes_replaced += 1;
        self.ask_supervisors(slot, Errand::Replace);
    }

    fn hard_timeout_error(&self, index: u32, slot: WorkerSlot, stuck: &StuckRun) -> ErrorInfo {
        let task = &self.tasks[index];
        let worker = &self.workers[slot];
        let limit_ns = self.policies.get(task.policy).map_or(0, |policy| policy.hard_timeout_ns);
        let what_now = if worker.end_expected {
            "its process is being replaced"
        } else {
            "its thread is given up, since no supervisor could replace the process"
        };
        let message = format!(
            "task {} ran for {} s on worker {} at {}, which is more than its hard_timeout of {} s; \
             {what_now}",
            task.key,
            seconds(stuck.running_ns),
            worker.info.name,
            worker.info.address,
            seconds(limit_ns),
        );
        ErrorInfo {
            type_name: "TaskTimeout".into(),
            message,
            origin: Some(task.key.clone()),
            worker: worker.info.address.clone(),
            types: TIMEOUT_TYPES.map(String::from).to_vec(),
            ..ErrorInfo::default()
        }
    }

    /// What a worker is to watch of a task's run.
    pub(super) fn limits_of(&self, index: u32) -> Option<Box<RunLimits>> {
        self.policies.get(self.tasks[index].policy)?.limits()
    }
}

/// For people: to the millisecond.
fn seconds(ns: u64) -> f64 {
    (ns / 1_000_000) as f64 / 1e3
}
