//! Workers that do not reach each other, although the scheduler hears both. A run that waits in vain
//! for an input goes to where that can be had; or the input is made where the run can have it. Where
//! restrictions leave nothing of the two, the run fails and says why: it must not wait for ever.

use super::task::Kind;
use super::transitions::Step;
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler, State};
use std::collections::BTreeMap;
use taskloom_proto::ErrorInfo;
use taskloom_types::{Nanos, TaskId, WorkerNo};

/// How long two workers are thought to be parted: networks are mended.
const BELIEVED_NS: u64 = 300 * Nanos::SECOND;

/// How often a task may wait in vain for inputs, all tries at one of them counted as one.
const MAX_WAITS: u32 = 3;

/// For how many grace times at least: many broken transfers in a moment prove little.
const PATIENCE_GRACES: u64 = 2;

/// What is known of workers that do not reach each other.
#[derive(Debug, Default)]
pub struct Partings {
    /// Workers, and until when they are thought to be parted. Each pair stands in it both ways: a
    /// connection that carries nothing one way carries nothing.
    pairs: BTreeMap<(WorkerNo, WorkerNo), Nanos>,
    /// No pair is thought to be parted for less than until then.
    least_until: Nanos,
    waits: Map<TaskId, Waits>,
}

/// How often a task waited in vain, and since when.
#[derive(Debug)]
struct Waits {
    count: u32,
    since: Nanos,
}

impl Partings {
    fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Those that are parted from this one.
    fn beyond(&self, number: WorkerNo) -> impl Iterator<Item = WorkerNo> {
        let all = (number, WorkerNo(0))..=(number, WorkerNo(u32::MAX));
        self.pairs.range(all).map(|((_, other), _)| *other)
    }

    fn note(&mut self, one: WorkerNo, other: WorkerNo, now: Nanos) {
        let until = now.after(BELIEVED_NS);
        self.least_until = if self.pairs.is_empty() { until } else { self.least_until.min(until) };
        self.pairs.insert((one, other), until);
        self.pairs.insert((other, one), until);
    }

    /// The two reach each other. Returns whether that is news.
    fn mend(&mut self, one: WorkerNo, other: WorkerNo) -> bool {
        self.pairs.remove(&(other, one));
        self.pairs.remove(&(one, other)).is_some()
    }

    /// What is known of pairs grows old. Returns whether any may reach each other again.
    pub fn expire(&mut self, now: Nanos) -> bool {
        let is_due = !self.pairs.is_empty() && self.least_until <= now;
        if is_due {
            self.pairs.retain(|_, until| *until > now);
            self.least_until = self.pairs.values().min().copied().unwrap_or_default();
        }
        is_due
    }

    fn are_parted(&self, one: WorkerNo, other: WorkerNo) -> bool {
        self.pairs.contains_key(&(one, other))
    }

    /// Notes one more time that a task waited in vain. Returns whether it was too often.
    fn note_wait(&mut self, task: TaskId, now: Nanos, patience_ns: u64) -> bool {
        let waits = self.waits.entry(task).or_insert(Waits { count: 0, since: now });
        waits.count = waits.count.saturating_add(1);
        waits.count > MAX_WAITS && now.since(waits.since) >= patience_ns
    }

    /// The task is known no more, or something came for it. Not when it ends: two that may each run
    /// on one worker only, and whose results name what they need, could take that from each other
    /// for ever.
    pub fn forget_task(&mut self, task: TaskId) {
        if !self.waits.is_empty() {
            self.waits.remove(&task);
        }
    }

    pub fn forget_worker(&mut self, number: WorkerNo) {
        self.pairs.retain(|(one, other), _| *one != number && *other != number);
    }
}

impl Scheduler {
    /// `reader` has given up `holders`, the only ones of a result. Returns whether the result stays
    /// where it is, since all that waited for it there went elsewhere or failed; else it is lost.
    pub(super) fn part(&mut self, index: u32, reader: WorkerSlot, holders: &[WorkerSlot]) -> bool {
        let waits_for_it = |task: &u32| self.tasks[*task].deps.contains(&index);
        let runs = self.workers[reader].processing.iter().copied();
        let waiting: Vec<u32> = runs.filter(waits_for_it).collect();
        // Who asks itself in vain has lost it.
        if waiting.is_empty() || holders.is_empty() || holders.contains(&reader) {
            return false;
        }
        let number = self.workers[reader].number;
        for holder in holders {
            self.partings.note(number, self.workers[*holder].number, self.now);
        }
        let patience_ns = self.config.grace_ns.saturating_mul(PATIENCE_GRACES);
        let (mut stays, mut fails) = (true, Vec::new());
        for task in waiting {
            if self.partings.note_wait(self.tasks.id(task), self.now, patience_ns) {
                fails.push(task);
                continue;
            }
            if !self.may_run_elsewhere(task, reader) {
                self.let_others_serve(task);
            }
            if self.may_run_elsewhere(task, reader) {
                self.steps.push(Step::Recall(task));
                // What is doubted here need not be there.
                for dep in self.tasks[task].deps.clone() {
                    self.tasks[dep].doubts = 0;
                }
            } else if self.tasks[index].kind == Kind::Data {
                // Nobody can make it again, and others are to have it.
                fails.push(task);
            } else if !self.is_actor(index) {
                stays = false;
            }
        }
        if !stays {
            self.let_others_serve(index);
        }
        for task in fails {
            self.partings.forget_task(self.tasks.id(task));
            let error = self.unreachable_error(task, index, reader, holders);
            self.end_attempt(task, error, true);
        }
        // Nobody may need the result any more from here on.
        self.run_steps();
        stays
    }

    /// A copy came to a reader: if it can be from one worker only, the two are not parted, and what
    /// waits there has not waited in vain.
    pub(super) fn note_arrival(&mut self, index: u32, reader: WorkerSlot) {
        let [holder] = self.tasks[index].replicas[..] else { return };
        if !self.partings.mend(self.workers[reader].number, self.workers[holder].number) {
            return;
        }
        for task in &self.workers[reader].processing {
            self.partings.forget_task(self.tasks.id(*task));
        }
    }

    /// Workers that a task merely prefers (`allow_other_workers`) are of no use to it.
    fn let_others_serve(&mut self, index: u32) {
        let class = &self.classes[self.tasks[index].class];
        if class.has_fallback() {
            let resources = class.resources.clone();
            let class = self.intern_class((&[], false), &resources);
            self.set_prefix_and_class(index, None, class);
        }
    }

    fn may_run_elsewhere(&self, index: u32, reader: WorkerSlot) -> bool {
        let is_fit = |slot: &WorkerSlot| {
            *slot != reader && self.workers[*slot].takes_work() && !self.is_cut_off(index, *slot)
        };
        self.classes[self.tasks[index].class].eligible.iter().any(is_fit)
    }

    /// Whether a task on this worker would wait in vain for an input, or others for its result.
    pub(super) fn is_cut_off(&self, index: u32, slot: WorkerSlot) -> bool {
        if self.partings.is_empty() {
            return false;
        }
        let task = &self.tasks[index];
        let waits_in_vain = |dep: &u32| self.is_beyond_reach(*dep, slot);
        let lets_wait = |id: &TaskId| self.lets_wait(*id, slot);
        task.deps.iter().any(waits_in_vain) || task.dependents.iter().any(lets_wait)
    }

    /// Whether all that have a result are parted from this reader.
    fn is_beyond_reach(&self, index: u32, reader: WorkerSlot) -> bool {
        let result = &self.tasks[index];
        let are_parted = |holder: &WorkerSlot| self.are_parted(reader, *holder);
        let is_on_workers = result.value.is_none() && !result.replicas.is_empty();
        is_on_workers && result.replicas.iter().all(are_parted)
    }

    /// Whether a run that waits for a result could not have it from this worker.
    fn lets_wait(&self, dependent: TaskId, holder: WorkerSlot) -> bool {
        let Some(dependent) = self.tasks.get(dependent) else { return false };
        let dependent = &self.tasks[dependent];
        dependent.state == State::Processing && self.are_parted(dependent.worker, holder)
    }

    fn are_parted(&self, reader: WorkerSlot, holder: WorkerSlot) -> bool {
        let number = |slot| self.workers.get(slot).map(|worker| worker.number);
        let pair = number(reader).zip(number(holder));
        pair.is_some_and(|(reader, holder)| self.partings.are_parted(reader, holder))
    }

    /// The best worker for a task that would be cut off elsewhere; `None` if it would be nowhere, or
    /// everywhere. What needs resources must not stand in a worker's own queue.
    pub(super) fn worker_in_reach(&self, index: u32) -> Option<WorkerSlot> {
        if self.partings.is_empty() {
            return None;
        }
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        let is_concerned = |number: WorkerNo| {
            let slot = self.workers.slot(number);
            slot.is_some_and(|slot| class.is_eligible(slot) && self.is_cut_off(index, slot))
        };
        // Few of a large cluster: those that are parted from who has an input or waits for this one.
        let holders = task.deps.iter().filter_map(|dep| self.tasks[*dep].replicas.first().copied());
        let waiting = task.dependents.iter().filter_map(|id| self.tasks.get(*id));
        let readers = waiting.map(|dependent| self.tasks[dependent].worker);
        let ends = holders.chain(readers).filter_map(|slot| self.workers.get(slot));
        let mut beyond = ends.flat_map(|worker| self.partings.beyond(worker.number));
        if !class.resources.is_empty() || !beyond.any(is_concerned) {
            return None;
        }
        let may_run = |slot: &&WorkerSlot| {
            self.workers[**slot].takes_work() && !self.is_cut_off(index, **slot)
        };
        let fit = class.eligible.iter().filter(may_run);
        fit.min_by_key(|slot| (self.workers[**slot].wait_ns(), **slot)).copied()
    }

    fn unreachable_error(
        &self,
        index: u32,
        input: u32,
        reader: WorkerSlot,
        holders: &[WorkerSlot],
    ) -> ErrorInfo {
        let name = |slot: &WorkerSlot| {
            let info = &self.workers[*slot].info;
            format!("{} at {}", info.name, info.address)
        };
        let holders: Vec<String> = holders.iter().map(name).collect();
        let message = format!(
            "task {} waited again and again in vain, now for its input {}: worker {} does not reach \
             {}, which has it, although the scheduler hears both. Let one of the two tasks run \
             elsewhere, or mend the network between the workers.",
            self.tasks[index].key,
            self.tasks[input].key,
            name(&reader),
            holders.join(" or "),
        );
        ErrorInfo { type_name: "WorkerUnreachableError".into(), message, ..ErrorInfo::default() }
    }

    /// # Errors
    /// Something is remembered of what is gone.
    pub(super) fn validate_partings(&self) -> Result<(), String> {
        let is_gone = |number: &WorkerNo| self.workers.slot(*number).is_none();
        let pairs = &self.partings.pairs;
        if pairs.keys().any(|(one, other)| is_gone(one) || is_gone(other)) {
            return Err("a worker that is gone is thought to be parted from another".into());
        }
        if pairs.iter().any(|((one, other), until)| pairs.get(&(*other, *one)) != Some(until)) {
            return Err("workers are thought to be parted one way".into());
        }
        match self.partings.waits.keys().find(|id| self.tasks.get(**id).is_none()) {
            Some(_) => Err("a task that is gone is said to have waited in vain".into()),
            None => Ok(()),
        }
    }
}
