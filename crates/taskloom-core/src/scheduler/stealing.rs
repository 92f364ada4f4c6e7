//! What an idle worker does about others' work: it takes queued tasks of other workers, and has
//! tasks taken back that were sent to a worker which is busier than expected.

use super::planted::Fault;
use super::queue::Entry;
use super::standing::Standing;
use super::task::mark;
use super::worker_table::WorkerSlot;
use super::{Scheduler, State};
use smallvec::SmallVec;
use taskloom_proto::worker::{SchedulerToWorker, TaskAttempt};
use taskloom_types::Nanos;

/// How often to look again while some worker is idle and another has more than it can run.
const STEAL_CHECK_NS: u64 = 10 * Nanos::MILLISECOND;

/// So many thieves, and so many victims for each, are looked at in one placement; the others have
/// their turn at the next.
const LOOK_AT: usize = 64;

/// How long a worker may report no progress before actors that wait there are made elsewhere: a
/// first import takes a while.
const ACTOR_PATIENCE_NS: u64 = Nanos::SECOND;

impl Scheduler {
    /// Idle workers take from the queues of busy ones, where waiting costs more than moving.
    pub(super) fn steal_for_idle(&mut self) {
        if !self.config.work_stealing || self.victims.is_empty() {
            return;
        }
        let due = self.standings.iter(&self.workers, Standing::Due);
        let idle = self.standings.iter(&self.workers, Standing::Idle);
        let is_free = |slot: &WorkerSlot| self.workers[*slot].has_free_slot();
        let thieves: SmallVec<[WorkerSlot; LOOK_AT]> =
            due.chain(idle).filter(is_free).take(LOOK_AT).collect();
        for thief in &thieves {
            while self.workers[*thief].has_free_slot() {
                let Some(entry) = self.find_queued_prey(*thief) else { break };
                self.counters.stolen += 1;
                self.unqueue(entry.task);
                self.assign(entry.task, *thief);
            }
            self.pass_on_turn(*thief);
        }
        if !self.victims.is_empty() && thieves.len().max(self.victims.len()) >= LOOK_AT {
            // Not all of them were asked, or not about all.
            self.steal_at.get_or_insert(self.now.after(STEAL_CHECK_NS));
        }
    }

    /// Behind the others that are idle, which may be able to take what this one could not.
    fn pass_on_turn(&mut self, thief: WorkerSlot) {
        let worker = &self.workers[thief];
        if worker.place.standing == Standing::Idle {
            let is_idle = worker.has_free_slot();
            let standing = if is_idle { Standing::Idle } else { Standing::Due };
            self.standings.put(&mut self.workers, thief, standing);
        }
    }

    /// The first task, by priority, in another worker's queue that is worth moving here.
    fn find_queued_prey(&mut self, thief: WorkerSlot) -> Option<Entry> {
        let mut best: Option<Entry> = None;
        for _ in 0..self.victims.len().min(LOOK_AT) {
            let victim = self.victims.pop_front()?;
            let tasks = &self.tasks;
            let Some(record) = self.workers.get_mut(victim) else { continue };
            let first = record.queue.peek(|entry| Self::is_entry_valid(tasks, entry));
            let Some(entry) = first else {
                record.is_victim = false;
                continue;
            };
            self.victims.push_back(victim);
            if victim == thief {
                continue;
            }
            if self.is_actor(entry.task) && !self.may_move_actor(victim, thief) {
                self.steal_at.get_or_insert(self.now.after(STEAL_CHECK_NS));
                continue;
            }
            if best.is_none_or(|other| entry < other)
                && self.is_worth_moving(entry, victim, thief)
                && !self.holds_back(thief, entry.task)
            {
                best = Some(entry);
            }
        }
        best
    }

    /// Actors that are still to be made stay spread, unless they would have to wait for long.
    fn may_move_actor(&self, victim: WorkerSlot, thief: WorkerSlot) -> bool {
        let (victim, thief) = (&self.workers[victim], &self.workers[thief]);
        let is_stuck = self.now.since(victim.last_progress) >= ACTOR_PATIENCE_NS;
        thief.actors < victim.actors || is_stuck || !victim.takes_work()
    }

    fn is_worth_moving(&self, entry: Entry, victim: WorkerSlot, thief: WorkerSlot) -> bool {
        let task = &self.tasks[entry.task];
        let class = &self.classes[task.class];
        let can_run = (class.is_eligible(thief)
            && self.workers[thief].available.covers(&class.resources))
            || self.has(Fault::RestrictionIgnored);
        let missing: u64 = task
            .deps
            .iter()
            .map(|dep| &self.tasks[*dep])
            .filter(|dep| dep.value.is_none() && !dep.replicas.contains(&thief))
            .map(|dep| dep.size_bytes.max(1))
            .sum();
        let victim = &self.workers[victim];
        // A worker that gets nothing new (a suspect runs there alone) makes its queue wait.
        let wait_ns = if victim.takes_work() { victim.wait_ns() } else { u64::MAX };
        can_run
            && (self.transfer_ns(missing) <= wait_ns || missing == 0)
            && !self.is_cut_off(entry.task, thief)
    }

    /// Looks for sent tasks to take back, and when to look again.
    pub(super) fn plan_steal_check(&mut self) {
        if !self.config.work_stealing || self.steal_at.is_some() {
            return;
        }
        if self.retract_for_idle() {
            self.steal_at = Some(self.now.after(STEAL_CHECK_NS));
        }
    }

    /// Asks busy workers to give back unstarted tasks that an idle one could run. Returns whether
    /// there is an idle worker and a busy one with more than it can run at once.
    fn retract_for_idle(&mut self) -> bool {
        if self.state_counts[State::Queued as usize] > 0 {
            return false;
        }
        let Some(first_idle) = self.first_idle() else { return false };
        let victims = self.find_overfull();
        for victim in victims.iter().copied() {
            let worker = &self.workers[victim];
            let excess = worker.active.saturating_sub(worker.info.nthreads) as usize;
            let is_asked = |task: &&u32| self.tasks[**task].has(mark::RETRACTING);
            let asked = worker.processing.iter().filter(is_asked).count();
            let Some(excess) = excess.checked_sub(asked).filter(|excess| *excess > 0) else {
                continue;
            };
            // What is expected to start within a moment is left alone the first time round.
            let oldest = worker.processing.iter().map(|task| self.sent_since(*task)).max();
            if oldest.unwrap_or(0) < STEAL_CHECK_NS && worker.wait_ns() < STEAL_CHECK_NS {
                continue;
            }
            self.retract_some(victim, first_idle, excess.div_ceil(2));
        }
        !victims.is_empty()
    }

    fn first_idle(&self) -> Option<WorkerSlot> {
        let mut idle = self.standings.iter(&self.workers, Standing::Idle);
        idle.find(|slot| self.workers[*slot].has_free_slot())
    }

    /// The workers that have more than they can run at once, by slot.
    fn find_overfull(&mut self) -> Vec<WorkerSlot> {
        let mut overfull = std::mem::take(&mut self.overfull);
        overfull.retain(|slot| {
            let Some(worker) = self.workers.get_mut(*slot) else { return false };
            worker.is_overfull = worker.active > worker.info.nthreads;
            worker.is_overfull
        });
        overfull.sort_unstable();
        self.overfull.clone_from(&overfull);
        overfull
    }

    /// How long ago the worker last reported progress, as a lower bound of how long its tasks
    /// have been there, in ns.
    fn sent_since(&self, index: u32) -> u64 {
        let worker = self.tasks[index].worker;
        self.workers.get(worker).map_or(0, |worker| self.now.since(worker.last_progress))
    }

    fn retract_some(&mut self, victim: WorkerSlot, thief: WorkerSlot, count: usize) {
        let mut candidates: Vec<u32> = self.workers[victim]
            .processing
            .iter()
            .copied()
            .filter(|task| self.is_retractable(*task, thief))
            .collect();
        // What would run last there is what helps most elsewhere.
        candidates.sort_unstable_by_key(|task| std::cmp::Reverse(self.tasks[*task].priority));
        candidates.truncate(count);
        for index in candidates {
            if self.has(Fault::StolenWithoutAsking) {
                self.try_again(index);
                continue;
            }
            let task = &mut self.tasks[index];
            task.marks |= mark::RETRACTING;
            let attempt = task.attempt;
            let message = TaskAttempt { task: self.tasks.id(index), attempt };
            let worker = &mut self.workers[victim];
            self.outbox.send_worker(worker, SchedulerToWorker::Retract(message));
        }
    }

    fn is_retractable(&self, index: u32, thief: WorkerSlot) -> bool {
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        let run_ahead_waits = task.dependents.iter().any(|id| {
            self.tasks.get(*id).is_some_and(|dependent| {
                let dependent = &self.tasks[dependent];
                dependent.state == State::Processing && dependent.waiting_on > 0
            })
        });
        task.waiting_on == 0
            && task.marks & (mark::RETRACTING | mark::KEPT | mark::SECEDED | mark::CANARY) == 0
            && class.is_eligible(thief)
            && class.resources.is_empty()
            && (!self.is_actor(index) || self.may_move_actor(task.worker, thief))
            && !run_ahead_waits
            && !self.is_cut_off(index, thief)
    }
}
