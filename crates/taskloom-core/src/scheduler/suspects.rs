//! Who is to blame when a worker dies: only tasks that were executing. They are tried again alone
//! on a worker each, so that a task which kills workers takes no other with it; few at a time, so
//! that it does not take all workers, and not one at a time where many workers died together.

use super::planted::Fault;
use super::task::{State, mark};
use super::transitions::Step;
use super::worker_table::{Executing, WorkerSlot};
use super::{Action, Scheduler};
use std::collections::VecDeque;
use std::sync::Arc;
use taskloom_proto::supervisor::{SupervisorToScheduler, WorkerExited};
use taskloom_proto::{ErrorInfo, ExitKind, ExitReason};
use taskloom_types::{Attempt, ConnId, Nanos, TaskId};

/// A dead worker's tasks that wait for the supervisor's word.
#[derive(Debug)]
struct Limbo {
    name: String,
    address: String,
    pid: u32,
    until: Nanos,
    /// If no word comes, all of them are suspects: a wrong suspicion costs little, since it ends
    /// with the next success.
    tasks: Executing,
}

/// A worker that is closed to all but suspects.
#[derive(Debug, Clone, Copy)]
struct Reservation {
    slot: WorkerSlot,
    /// Whether a suspect runs there.
    is_running: bool,
}

/// Tasks under suspicion, and what is known of deaths.
#[derive(Debug, Default)]
pub struct Suspects {
    queue: VecDeque<TaskId>,
    /// Workers that run a suspect alone, or that are being emptied for one.
    reserved: Vec<Reservation>,
    limbo: Vec<Limbo>,
    /// Reports that came before the connection was seen to close.
    reports: Vec<(Nanos, WorkerExited)>,
}

impl Suspects {
    pub fn add(&mut self, task: TaskId) {
        self.queue.push_back(task);
    }

    /// The task is queued as a suspect no more. Returns whether it was.
    pub fn forget(&mut self, task: TaskId) -> bool {
        let before = self.queue.len();
        if before > 0 {
            self.queue.retain(|other| *other != task);
        }
        self.queue.len() < before
    }

    /// Takes out the queued suspects of which this holds.
    pub fn take_if(&mut self, mut is_meant: impl FnMut(TaskId) -> bool) -> VecDeque<TaskId> {
        let queue = std::mem::take(&mut self.queue);
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            queue.into_iter().partition(|task| is_meant(*task));
        self.queue = kept;
        taken
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        self.limbo.iter().map(|limbo| limbo.until).min()
    }

    /// Keeps a report until its worker's connection is seen to close; not for long, and not many:
    /// a process may die before it ever registers.
    fn keep_report(&mut self, report: WorkerExited, now: Nanos) {
        const KEEP_NS: u64 = 60 * Nanos::SECOND;
        const KEEP: usize = 256;
        self.reports.retain(|(at, _)| now.since(*at) < KEEP_NS);
        if self.reports.len() >= KEEP {
            self.reports.remove(0);
        }
        self.reports.push((now, report));
    }

    fn take_report(&mut self, name: &str, pid: u32) -> Option<WorkerExited> {
        let is_it = |(_, report): &(Nanos, WorkerExited)| report.name == name && report.pid == pid;
        let position = self.reports.iter().position(is_it)?;
        Some(self.reports.remove(position).1)
    }
}

impl Scheduler {
    pub(super) fn on_supervisor_message(
        &mut self,
        supervisor: ConnId,
        message: SupervisorToScheduler,
    ) {
        match message {
            SupervisorToScheduler::Register(register) => {
                self.on_supervisor_joined(supervisor, register.name);
            }
            SupervisorToScheduler::WorkerExited(report) => self.on_worker_exited(report),
            SupervisorToScheduler::Stopping(names) => self.on_stopping(&names),
        }
    }

    fn on_worker_exited(&mut self, report: WorkerExited) {
        let is_it = |limbo: &Limbo| limbo.name == report.name && limbo.pid == report.pid;
        if let Some(position) = self.suspects.limbo.iter().position(is_it) {
            let limbo = self.suspects.limbo.remove(position);
            self.end_limbo(&limbo, &report.executing, &report.reason);
            return;
        }
        let slot = self.workers.slots().find(|slot| {
            let info = &self.workers[*slot].info;
            info.name == report.name && info.pid == report.pid
        });
        self.suspects.keep_report(report, self.now);
        if let Some(slot) = slot {
            let number = self.workers[slot].number;
            self.lose_worker(slot, true);
            self.outbox.push(Action::CloseWorker(number, "its process has ended".into()));
        }
    }

    /// Decides what becomes of the tasks that a lost worker had. They are in state processing;
    /// `lost_actors` lived there, and wait to hear how it ended.
    pub(super) fn judge_lost_tasks(&mut self, slot: WorkerSlot, lost_actors: Executing) {
        let worker = &self.workers[slot];
        let (name, pid) = (worker.info.name.clone(), worker.info.pid);
        let address = worker.info.address.clone();
        let tasks = worker.processing.clone();
        let is_orderly = worker.end_expected && !self.has(Fault::OrderlyEndIsBlamed);
        if is_orderly || (tasks.is_empty() && lost_actors.is_empty()) {
            tasks.iter().for_each(|task| self.try_again(*task));
            let limbo = Limbo { name, address, pid, until: self.now, tasks: lost_actors };
            let reason = ExitReason { kind: ExitKind::Requested, ..ExitReason::default() };
            self.end_limbo(&limbo, &[], &reason);
            return;
        }
        let supervised = worker.info.supervised;
        let report = self.suspects.take_report(&name, pid);
        let mut in_limbo = lost_actors;
        for task in tasks {
            // A task that waits for others runs no user code: it is nobody's murderer.
            let may_be_guilty = !self.tasks[task].has(mark::SECEDED);
            let run = (self.tasks.id(task), self.tasks[task].attempt);
            if !may_be_guilty {
                self.try_again(task);
                continue;
            }
            self.put_in_limbo(task);
            in_limbo.push(run);
        }
        let until = self.now.after(self.config.exit_report_ns);
        let limbo = Limbo { name, address, pid, until, tasks: in_limbo };
        match report {
            Some(report) => self.end_limbo(&limbo, &report.executing, &report.reason),
            None if supervised => self.suspects.limbo.push(limbo),
            None => {
                let all = limbo.tasks.clone();
                self.end_limbo(&limbo, &all, &ExitReason::default());
            }
        }
    }

    /// processing → waiting, but not to run before the verdict.
    fn put_in_limbo(&mut self, index: u32) {
        self.unassign(index, false);
        self.set_state(index, State::Waiting);
        self.tasks[index].marks |= mark::LIMBO;
        self.recall_run_ahead(index);
    }

    fn end_limbo(&mut self, limbo: &Limbo, executing: &[(TaskId, Attempt)], reason: &ExitReason) {
        let is_endless =
            self.config.allowed_failures == 0 && self.has(Fault::NoFailuresMeansEndless);
        let blame = reason.kind != ExitKind::Requested && !is_endless;
        for run in &limbo.tasks {
            let Some(index) = self.tasks.get(run.0) else { continue };
            let task = &mut self.tasks[index];
            if !task.has(mark::LIMBO) || task.attempt != run.1 {
                continue;
            }
            task.marks &= !mark::LIMBO;
            if self.bury_actor(index, (&limbo.name, &limbo.address), reason) {
                continue;
            }
            let task = &mut self.tasks[index];
            if blame && executing.contains(run) {
                task.suspicions = task.suspicions.saturating_add(1);
                if task.suspicions > self.config.allowed_failures {
                    let error = self.killed_worker_error(index, limbo, reason);
                    self.steps.push(Step::Fail(index, error));
                    continue;
                }
            }
            if self.tasks[index].waiting_on == 0 && !self.has(Fault::LimboForever) {
                self.enqueue(index);
            }
        }
        self.run_steps();
    }

    fn killed_worker_error(
        &self,
        index: u32,
        limbo: &Limbo,
        reason: &ExitReason,
    ) -> Arc<ErrorInfo> {
        let task = &self.tasks[index];
        let deaths = task.suspicions;
        let place = format!("worker {} at {}", limbo.name, limbo.address);
        let deaths = match deaths {
            1 => format!("{place} when that died"),
            _ => format!("{deaths} worker processes when they died, the last being {place}"),
        };
        let mut message = format!(
            "task {} was running on {deaths}: {reason}. It is not tried again (allowed-failures \
             is {}).",
            task.key, self.config.allowed_failures
        );
        let tail = reason.stderr_tail.trim_end();
        if !tail.is_empty() {
            message.push_str("\nThe last lines of the worker's standard error:\n");
            message.push_str(tail);
        }
        Arc::new(ErrorInfo {
            type_name: "KilledWorker".into(),
            message,
            origin: Some(task.key.clone()),
            worker: limbo.address.clone(),
            ..ErrorInfo::default()
        })
    }

    /// No word came from the supervisor: all that it had are suspects.
    pub(super) fn end_overdue_limbo(&mut self) {
        while let Some(position) =
            self.suspects.limbo.iter().position(|limbo| limbo.until <= self.now)
        {
            let limbo = self.suspects.limbo.remove(position);
            let all = limbo.tasks.clone();
            self.end_limbo(&limbo, &all, &ExitReason::default());
        }
    }

    /// Runs the next suspects, each alone, where workers can be had or emptied for them.
    pub(super) fn place_suspects(&mut self) {
        /// Suspects that are passed over since their workers are busy with others.
        const LOOK_AT: usize = 1024;
        if self.suspects.queue.is_empty() && self.suspects.reserved.is_empty() {
            return;
        }
        let mut unused = self.unused_reservations();
        let running = self.suspects.reserved.len() - unused.len();
        let mut left = self.suspects.queue.len().min(self.most_suspects().saturating_sub(running));
        let mut position = 0;
        while left > 0 && position < self.suspects.queue.len().min(LOOK_AT) {
            let id = self.suspects.queue[position];
            let Some(index) = self.tasks.get(id) else {
                self.suspects.queue.remove(position);
                continue;
            };
            position += 1;
            let Some(slot) = self.reserve_for(index, &mut unused) else { continue };
            left -= 1;
            if self.start_suspect(index, slot) {
                position -= 1;
                self.suspects.queue.remove(position);
            }
        }
        // Emptied for suspects that are gone, or that may not run there.
        unused.into_iter().for_each(|slot| self.end_reservation(slot));
    }

    /// How many suspects run at the same time: few, since each may take its worker with it.
    fn most_suspects(&self) -> usize {
        const WORKERS_EACH: usize = 8;
        (self.workers.len() / WORKERS_EACH).max(1)
    }

    fn unused_reservations(&self) -> Vec<WorkerSlot> {
        let reserved = self.suspects.reserved.iter();
        reserved.filter(|r| !r.is_running).map(|r| r.slot).collect()
    }

    /// A worker for the suspect alone: one that is being emptied, or else another.
    fn reserve_for(&mut self, index: u32, unused: &mut Vec<WorkerSlot>) -> Option<WorkerSlot> {
        let class = &self.classes[self.tasks[index].class];
        if let Some(position) = unused.iter().position(|slot| class.is_eligible(*slot)) {
            return Some(unused.remove(position));
        }
        let slot = self.worker_for_suspect(index)?;
        self.workers[slot].reserved = true;
        self.suspects.reserved.push(Reservation { slot, is_running: false });
        Some(slot)
    }

    /// Starts the suspect where it is to be alone, unless something else still runs there.
    fn start_suspect(&mut self, index: u32, slot: WorkerSlot) -> bool {
        let worker = &self.workers[slot];
        let resources = &self.classes[self.tasks[index].class].resources;
        // What is blocked there may be waiting for this very suspect.
        if worker.active != worker.blocked || !worker.available.covers(resources) {
            return false;
        }
        for reservation in &mut self.suspects.reserved {
            reservation.is_running |= reservation.slot == slot;
        }
        self.tasks[index].marks |= mark::CANARY;
        self.assign(index, slot);
        true
    }

    /// The eligible worker with the least to do.
    fn worker_for_suspect(&self, index: u32) -> Option<WorkerSlot> {
        let class = &self.classes[self.tasks[index].class];
        let takes_work = |slot: &&WorkerSlot| self.workers[**slot].takes_work();
        let eligible = class.eligible.iter().filter(takes_work);
        eligible
            .min_by_key(|slot| self.workers[**slot].active - self.workers[**slot].blocked)
            .copied()
    }

    /// The reserved worker is open to all again: the suspect's run is over, or waits for others.
    pub(super) fn end_reservation(&mut self, slot: WorkerSlot) {
        if self.has(Fault::ReservationStays) {
            return;
        }
        let before = self.suspects.reserved.len();
        self.suspects.reserved.retain(|reservation| reservation.slot != slot);
        if self.suspects.reserved.len() < before {
            self.workers[slot].reserved = false;
            self.mark_spare(slot);
        }
    }

    /// A worker takes no tasks for a while: one that was emptied for a suspect is not waited for.
    pub(super) fn free_reservation(&mut self, slot: WorkerSlot) {
        if self.unused_reservations().contains(&slot) {
            self.end_reservation(slot);
        }
    }

    /// # Errors
    /// A worker is closed to others, and for no suspect.
    pub(super) fn validate_reservations(&self) -> Result<(), String> {
        let reserved = &self.suspects.reserved;
        let closed = self.workers.iter().filter(|worker| worker.reserved).count();
        let is_closed = |r: &Reservation| self.workers.get(r.slot).is_some_and(|w| w.reserved);
        if closed != reserved.len() || !reserved.iter().all(is_closed) {
            return Err(format!("{closed} workers are closed for {} suspects", reserved.len()));
        }
        Ok(())
    }
}
