//! Copies of results that are made by order: `replicate`, `rebalance`, and the results of a worker
//! that is retired. A worker fetches its copy from another one; the scheduler only says so.
//!
//! Copies of a large result do not all come from its first holder: who has just got one serves
//! others ([`super::spread`]).
//!
//! A copy on its way ends when the worker reports it, declines, or is lost, and when the result goes.
//! A job ends with its last copy: nobody waits for ever.

use super::Scheduler;
use super::spread::Spreads;
use super::task::State;
use super::worker_table::WorkerSlot;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::Value;
use taskloom_proto::client::Answer;
use taskloom_proto::control::{NotAcquired, Rebalance, Replicate};
use taskloom_proto::worker::{DepRef, SchedulerToWorker};
use taskloom_types::{ClientId, Key, TaskId, WorkerNo};

/// How often a worker is told the holders of one copy.
const TRIES: u8 = 3;

/// A worker that holds this part more than the mean gives some away, in percent.
const SURPLUS_PERCENT: u64 = 5;

/// A copy on its way to a worker.
#[derive(Debug, Default)]
pub(super) struct Copy {
    jobs: SmallVec<[u64; 1]>,
    tries: u8,
    /// The worker was told; otherwise the copy waits for its turn.
    pub(super) is_ordered: bool,
    /// Whose turn to serve it uses.
    pub(super) source: Option<WorkerNo>,
}

/// Copies that somebody waits for.
#[derive(Debug, Default)]
struct Job {
    /// Who gets the answer; `None`: the scheduler itself wants it.
    asker: Option<(ClientId, u64)>,
    open: usize,
    /// Where a copy is to be dropped once the new one is there.
    sources: BTreeMap<TaskId, WorkerNo>,
    made: u64,
    failed: Vec<(Key, String)>,
}

#[derive(Debug, Default)]
pub struct Replication {
    pub(super) copies: BTreeMap<(TaskId, WorkerNo), Copy>,
    pub(super) spreads: Spreads,
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
}

impl Replication {
    fn add_job(&mut self, asker: Option<(ClientId, u64)>) -> u64 {
        self.last_job += 1;
        self.jobs.insert(self.last_job, Job { asker, ..Job::default() });
        self.last_job
    }

    /// Whether the worker is to have a copy, and has not said that it has.
    pub fn is_ordered(&self, id: TaskId, worker: WorkerNo) -> bool {
        self.copies.contains_key(&(id, worker))
    }

    pub fn is_idle(&self) -> bool {
        self.copies.is_empty()
    }

    pub fn has_job(&self, job: u64) -> bool {
        self.jobs.contains_key(&job)
    }

    fn fail(&mut self, job: u64, key: Key, why: &str) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.failed.push((key, why.to_string()));
        }
    }
}

impl Scheduler {
    pub(super) fn on_replicate(&mut self, client: ClientId, request: u64, order: Replicate) {
        let Some(candidates) = self.candidates(client, request, &order.workers) else { return };
        let wanted = match order.n {
            0 => candidates.len(),
            n => candidates.len().min(n as usize),
        };
        let job = self.replication.add_job(Some((client, request)));
        let mut planned: BTreeMap<WorkerSlot, u64> = BTreeMap::new();
        for key in order.keys {
            let Some(index) = self.result_of(&key, job) else { continue };
            let replicas = &self.tasks[index].replicas;
            let have = candidates.iter().filter(|slot| replicas.contains(slot)).count();
            let load = |slot: &WorkerSlot| {
                let more = planned.get(slot).copied().unwrap_or(0);
                (self.workers[*slot].held_bytes.saturating_add(more), *slot)
            };
            let mut others: Vec<WorkerSlot> =
                candidates.iter().copied().filter(|slot| !replicas.contains(slot)).collect();
            others.sort_unstable_by_key(load);
            let size_bytes = self.tasks[index].size_bytes;
            for slot in others.into_iter().take(wanted.saturating_sub(have)) {
                let sum = planned.entry(slot).or_default();
                *sum = sum.saturating_add(size_bytes);
                self.begin_copy(index, slot, job);
            }
        }
        self.end_job_if_done(job);
    }

    /// Moves results from workers that hold much to those that hold little.
    pub(super) fn on_rebalance(&mut self, client: ClientId, request: u64, order: &Rebalance) {
        let Some(candidates) = self.candidates(client, request, &order.workers) else { return };
        let job = self.replication.add_job(Some((client, request)));
        let mut movable: BTreeSet<u32> = BTreeSet::new();
        for key in &order.keys {
            movable.extend(self.result_of(key, job));
        }
        let bytes = |slot: &WorkerSlot| self.workers[*slot].held_bytes;
        let mut held: BTreeMap<WorkerSlot, u64> =
            candidates.iter().map(|slot| (*slot, bytes(slot))).collect();
        let mean = held.values().sum::<u64>() / (held.len() as u64).max(1);
        let bound = mean.saturating_add(mean / 100 * SURPLUS_PERCENT);
        let mut senders: Vec<WorkerSlot> =
            candidates.iter().copied().filter(|slot| held[slot] > bound).collect();
        senders.sort_unstable_by_key(|slot| std::cmp::Reverse((held[slot], *slot)));
        for sender in senders {
            for index in self.movable_from(sender, &movable, order.keys.is_empty()) {
                let size = self.tasks[index].size_bytes;
                let replicas = &self.tasks[index].replicas;
                let fits = |(slot, bytes): &(&WorkerSlot, &u64)| {
                    !replicas.contains(slot) && bytes.saturating_add(size) <= mean
                };
                let emptiest = held.iter().filter(fits).min_by_key(|(slot, b)| (**b, **slot));
                let Some(receiver) = emptiest.map(|(slot, _)| *slot) else { continue };
                if held[&sender] <= mean || held[&sender].saturating_sub(size) < mean / 2 {
                    continue;
                }
                let (source, id) = (self.workers[sender].number, self.tasks.id(index));
                if let Some(job) = self.replication.jobs.get_mut(&job) {
                    job.sources.insert(id, source);
                }
                *held.entry(receiver).or_default() += size;
                *held.entry(sender).or_default() -= size;
                self.begin_copy(index, receiver, job);
            }
        }
        self.end_job_if_done(job);
    }

    /// What may leave a worker: results that no task under way needs, largest first.
    fn movable_from(&self, sender: WorkerSlot, asked: &BTreeSet<u32>, all: bool) -> Vec<u32> {
        let may_go = |index: &u32| {
            let task = &self.tasks[*index];
            (all || asked.contains(index))
                && task.waiters == 0
                && task.state == State::Memory
                && !self.is_actor(*index)
                && !self.is_local(*index)
        };
        let mut found: Vec<u32> =
            self.workers[sender].held.iter().copied().filter(may_go).collect();
        found.sort_unstable_by_key(|index| {
            (std::cmp::Reverse(self.tasks[*index].size_bytes), *index)
        });
        found
    }

    /// The workers that may get copies; `None`: the request was answered.
    fn candidates(
        &mut self,
        client: ClientId,
        request: u64,
        words: &[String],
    ) -> Option<Vec<WorkerSlot>> {
        let mut candidates = self.workers.called(words);
        candidates.retain(|slot| self.workers[*slot].takes_copies());
        if candidates.is_empty() && !words.is_empty() {
            let message = format!("none of the workers {words:?} is connected and takes results");
            self.answer(client, request, Answer::failed("unknown", message));
            return None;
        }
        Some(candidates)
    }

    /// The task of a key whose result is on workers; otherwise the job says what is wrong.
    fn result_of(&mut self, key: &Key, job: u64) -> Option<u32> {
        let found = self.tasks.find(key).filter(|index| self.tasks[*index].state == State::Memory);
        if found.is_none() {
            self.replication.fail(job, key.clone(), "no worker holds its result");
        }
        found.filter(|index| !self.tasks[*index].replicas.is_empty())
    }

    /// Copies what only this worker holds to others; `None`: there is nothing (more) to copy.
    pub(super) fn evacuate(&mut self, slot: WorkerSlot) -> Option<u64> {
        let mut targets: Vec<WorkerSlot> = self.workers.slots().collect();
        targets.retain(|slot| self.workers[*slot].takes_copies());
        if targets.is_empty() {
            return None;
        }
        let is_sole = |index: &u32| {
            let task = &self.tasks[*index];
            let stays = |holder: &WorkerSlot| !self.workers[*holder].leaving;
            let may_move = !self.is_actor(*index) && !self.is_local(*index);
            may_move && task.value.is_none() && !task.replicas.iter().any(stays)
        };
        let mut sole: Vec<u32> = self.workers[slot].held.iter().copied().filter(is_sole).collect();
        if sole.is_empty() {
            return None;
        }
        sole.sort_unstable();
        let job = self.replication.add_job(None);
        let bytes = |slot: &WorkerSlot| self.workers[*slot].held_bytes;
        let mut held: BTreeSet<(u64, WorkerSlot)> =
            targets.iter().map(|t| (bytes(t), *t)).collect();
        for index in sole {
            let Some((bytes, target)) = held.pop_first() else { break };
            held.insert((bytes.saturating_add(self.tasks[index].size_bytes), target));
            self.begin_copy(index, target, job);
        }
        Some(job)
    }

    fn begin_copy(&mut self, index: u32, slot: WorkerSlot, job: u64) {
        let name = (self.tasks.id(index), self.workers[slot].number);
        let is_new = !self.replication.copies.contains_key(&name);
        self.replication.copies.entry(name).or_default().jobs.push(job);
        if let Some(job) = self.replication.jobs.get_mut(&job) {
            job.open += 1;
        }
        if is_new {
            self.begin_or_queue(index, slot);
        }
    }

    /// Tells a worker to get a copy from one holder, or from any.
    pub(super) fn order_copy(&mut self, index: u32, slot: WorkerSlot, from: Option<WorkerSlot>) {
        let others =
            |holder: &WorkerSlot| *holder != slot && from.is_none_or(|from| from == *holder);
        let holders: SmallVec<[WorkerSlot; 2]> =
            self.tasks[index].replicas.iter().copied().filter(others).collect();
        let holders = holders.into_iter().map(|holder| self.introduce(slot, holder)).collect();
        let (task, size_bytes) = (self.tasks.id(index), self.tasks[index].size_bytes);
        let dep = DepRef { task, size_bytes, value: None, holders };
        self.outbox.send_worker(&mut self.workers[slot], SchedulerToWorker::Acquire(vec![dep]));
    }

    /// A worker holds a result from now on: it may be a copy that was ordered.
    pub(super) fn end_copy(&mut self, index: u32, slot: WorkerSlot) {
        let Some(worker) = self.workers.get(slot) else { return };
        let (id, number) = (self.tasks.id(index), worker.number);
        self.offer_turns(id, number);
        let Some(copy) = self.replication.copies.remove(&(id, number)) else { return };
        self.end_turn(id, &copy);
        for job in copy.jobs {
            let source = self.replication.jobs.get_mut(&job).and_then(|job| {
                job.made += 1;
                job.open -= 1;
                job.sources.remove(&id)
            });
            if let Some(source) = source {
                self.drop_source(index, source);
            }
            self.end_job_if_done(job);
        }
    }

    /// The result has moved: the old copy goes, unless somebody has come to need it there.
    fn drop_source(&mut self, index: u32, source: WorkerNo) {
        let Some(slot) = self.workers.slot(source) else { return };
        let task = &self.tasks[index];
        let is_spare = task.waiters == 0 && task.replicas.len() > 1;
        if is_spare && task.replicas.contains(&slot) {
            self.remove_replica(index, slot);
            let id = self.tasks.id(index);
            self.outbox.free(&mut self.workers[slot], id);
        }
    }

    /// A worker could not get its copy: it is told the holders of now, a few times.
    pub(super) fn on_not_acquired(&mut self, slot: WorkerSlot, declined: &NotAcquired) {
        let name = (declined.task, self.workers[slot].number);
        let Some(copy) = self.replication.copies.get_mut(&name) else {
            self.counters.stale_messages += 1;
            return;
        };
        copy.tries += 1;
        let may_retry = copy.tries < TRIES;
        match self.tasks.get(declined.task) {
            // From any holder: the one that was named may be gone.
            Some(index) if may_retry => self.order_copy(index, slot, None),
            _ => self.fail_copy(name, &declined.reason),
        }
    }

    fn fail_copy(&mut self, name: (TaskId, WorkerNo), why: &str) {
        let Some(copy) = self.replication.copies.remove(&name) else { return };
        self.end_turn(name.0, &copy);
        for job in copy.jobs {
            if let Some(index) = self.tasks.get(name.0) {
                let key = self.tasks[index].key.clone();
                self.replication.fail(job, key, why);
            }
            if let Some(job) = self.replication.jobs.get_mut(&job) {
                job.open -= 1;
            }
            self.end_job_if_done(job);
        }
    }

    /// A result goes: copies on their way are of no use.
    pub(super) fn drop_copies_of(&mut self, index: u32) {
        let id = self.tasks.id(index);
        let range = (id, WorkerNo(0))..=(id, WorkerNo(u32::MAX));
        let names: Vec<_> = self.replication.copies.range(range).map(|(name, _)| *name).collect();
        self.replication.spreads.forget(id);
        for name in names {
            if let Some(slot) = self.workers.slot(name.1) {
                self.outbox.free(&mut self.workers[slot], id);
            }
            self.fail_copy(name, "the result was released or lost meanwhile");
        }
    }

    pub(super) fn forget_copies_to(&mut self, slot: WorkerSlot) {
        let number = self.workers[slot].number;
        let is_to = |name: &&(TaskId, WorkerNo)| name.1 == number;
        let names: Vec<_> = self.replication.copies.keys().filter(is_to).copied().collect();
        for name in names {
            self.fail_copy(name, "the worker left before it had its copy");
        }
    }

    fn end_job_if_done(&mut self, number: u64) {
        if self.replication.jobs.get(&number).is_none_or(|job| job.open > 0) {
            return;
        }
        let Some(job) = self.replication.jobs.remove(&number) else { return };
        let Some((client, request)) = job.asker else { return };
        let row = |(key, why): (Key, String)| (Value::Key(key), Value::from(why));
        let failed = job.failed.into_iter().map(row).collect();
        let answer = Value::map([("made", job.made.into()), ("failed", Value::Map(failed))]);
        self.answer(client, request, Answer::ok(answer));
    }

    /// # Errors
    /// A copy that nobody will bring, or a job that counts wrongly.
    pub(super) fn validate_replication(&self) -> Result<(), String> {
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        for ((id, number), copy) in &self.replication.copies {
            let index = self.tasks.get(*id).ok_or("a result that is gone is copied")?;
            let slot = self.workers.slot(*number).ok_or("a copy goes to a worker that is gone")?;
            let task = &self.tasks[index];
            if task.state != State::Memory || task.replicas.contains(&slot) {
                return Err(format!("{} is copied, and there is no need", task.key));
            }
            copy.jobs.iter().for_each(|job| *open.entry(*job).or_default() += 1);
        }
        self.validate_spreads()?;
        let counts = self.replication.jobs.iter().map(|(number, job)| (*number, job.open));
        if counts.collect::<BTreeMap<_, _>>() != open {
            return Err("a job counts its copies wrongly".into());
        }
        Ok(())
    }
}
