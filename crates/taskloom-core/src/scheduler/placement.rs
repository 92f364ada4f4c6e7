//! Which worker gets which task, and how much it gets ahead.
//!
//! Runnable tasks wait in the scheduler, in one queue per class (restrictions and resources) or
//! in the queue of the worker that holds their inputs. A worker with room takes the first of the
//! queues that it may take from. What is sent ahead of a free thread is bounded by expected
//! *time*, not count, so that little has to be taken back when plans change.

use super::planted::Fault;
use super::queue::{Entry, Queue};
use super::standing::Standing;
use super::task::{State, mark};
use super::worker_table::WorkerSlot;
use super::{Map, Scheduler};
use smallvec::SmallVec;
use taskloom_proto::client::TaskSpec;
use taskloom_proto::worker::{ComputeTask, DepRef, SchedulerToWorker, WorkerFunction};
use taskloom_types::{FunctionNo, Nanos};

/// Longer tasks are never sent ahead: a round trip is small beside them.
const LONG_TASK_NS: u64 = 20 * Nanos::MILLISECOND;
/// Results larger than this count as large: their producers are not run ahead.
pub(super) const LARGE_RESULT_BYTES: u64 = 1024 * 1024;
/// What a message to one more worker costs, and its answer: system calls and wake-ups.
const MESSAGE_NS: u64 = 20 * Nanos::MICROSECOND;
/// Most tasks that a worker thread is given ahead.
const MAX_AHEAD: u32 = 512;
/// What a transfer costs beside its bytes, in ns.
const TRANSFER_LATENCY_NS: u64 = 200_000;
/// Siblings that are kept together when the first of them is placed.
const MAX_SIBLINGS: usize = 32;
/// Run-ahead looks at tasks with at most this many inputs, and at this many dependents of each.
const RUN_AHEAD_WIDTH: usize = 8;

/// From where a worker's next task comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Class(u32),
}

impl Scheduler {
    /// A task with all inputs there becomes runnable: waiting → queued (or no-worker).
    pub(super) fn enqueue(&mut self, index: u32) {
        self.placement_due = true;
        let class = self.tasks[index].class;
        if self.classes[class].eligible.is_empty() {
            self.set_state(index, State::NoWorker);
            self.push_to_class(index);
            return;
        }
        if self.tasks[index].suspicions > 0 {
            self.set_state(index, State::Queued);
            self.suspects.add(self.tasks.id(index));
            return;
        }
        self.set_state(index, State::Queued);
        let preferred = || match self.is_actor(index) {
            true => self.worker_for_actor(index),
            false => self.preferred_worker(index),
        };
        match self.worker_in_reach(index).or_else(preferred) {
            Some(slot) => self.push_to_worker(index, slot),
            None => self.push_to_class(index),
        }
    }

    fn entry(&mut self, index: u32) -> Entry {
        let stamp = self.next_queue_stamp();
        let task = &mut self.tasks[index];
        task.queue_stamp = stamp;
        Entry { priority: task.priority, stamp, task: index }
    }

    pub(super) fn push_to_class(&mut self, index: u32) {
        let entry = self.entry(index);
        if self.is_actor(index) {
            self.place_actor(index, WorkerSlot::NONE);
        }
        let task = &mut self.tasks[index];
        task.queued_on = WorkerSlot::NONE;
        let class = &mut self.classes[task.class];
        if task.class != 0 && class.queue.len() == 0 {
            self.fresh_classes.push(task.class);
        }
        class.queue.push(entry);
        if task.state == State::NoWorker && self.config.no_workers_timeout_ns.is_some() {
            self.without_worker.push_back((self.now, entry));
        }
    }

    fn push_to_worker(&mut self, index: u32, slot: WorkerSlot) {
        let entry = self.entry(index);
        self.tasks[index].queued_on = slot;
        if self.is_actor(index) {
            self.place_actor(index, slot);
        }
        let worker = &mut self.workers[slot];
        worker.queue.push(entry);
        if !std::mem::replace(&mut worker.is_victim, true) {
            self.victims.push_back(slot);
        }
        self.mark_spare(slot);
    }

    /// Takes a task out of its queue. The state is still to be set.
    pub(super) fn unqueue(&mut self, index: u32) {
        if self.suspects.forget(self.tasks.id(index)) {
            return;
        }
        let (queued_on, class) = (self.tasks[index].queued_on, self.tasks[index].class);
        self.tasks[index].queue_stamp = self.next_queue_stamp();
        let tasks = &self.tasks;
        let is_valid = |entry: &Entry| Self::is_entry_valid(tasks, entry);
        match self.workers.get_mut(queued_on) {
            Some(worker) => worker.queue.forget_one(is_valid),
            None => self.classes[class].queue.forget_one(is_valid),
        }
    }

    /// The worker where the task would start first, if its inputs make a difference.
    fn preferred_worker(&self, index: u32) -> Option<WorkerSlot> {
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        if !class.resources.is_empty() {
            // In a worker's own queue it would hold up others while its resource is in use.
            return None;
        }
        let mut total = 0;
        let mut held: Map<WorkerSlot, u64> = Map::default();
        for dep in &task.deps {
            let dep = &self.tasks[*dep];
            if dep.value.is_some() {
                continue;
            }
            total += dep.size_bytes.max(1);
            for slot in &dep.replicas {
                *held.entry(*slot).or_default() += dep.size_bytes.max(1);
            }
        }
        if total == 0 {
            return None;
        }
        let mut candidates: SmallVec<[WorkerSlot; 8]> = held.keys().copied().collect();
        candidates.extend(self.idle_worker_for(task.class));
        candidates.retain(|slot| class.is_eligible(*slot) && self.workers[*slot].takes_work());
        let cost = |slot: &WorkerSlot| {
            let missing = total - held.get(slot).copied().unwrap_or(0);
            let worker = &self.workers[*slot];
            // Equal costs: the worker that holds less.
            let is_full = worker.is_full_with(missing);
            (is_full, worker.wait_ns() + self.transfer_ns(missing), worker.held_bytes, *slot)
        };
        candidates.into_iter().min_by_key(cost)
    }

    /// A free thread to compare the holders of the inputs with.
    fn idle_worker_for(&self, class: u32) -> Option<WorkerSlot> {
        /// So many workers are looked at: a task's price must not grow with the cluster.
        const LOOK_AT: usize = 64;
        let class = &self.classes[class];
        let idle = self.standings.iter(&self.workers, Standing::Idle);
        let due = self.standings.iter(&self.workers, Standing::Due);
        let fits =
            |slot: &WorkerSlot| class.is_eligible(*slot) && self.workers[*slot].has_free_slot();
        idle.chain(due).take(LOOK_AT).find(fits)
    }

    pub(super) fn transfer_ns(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        TRANSFER_LATENCY_NS
            + bytes.saturating_mul(1_000) / (self.config.bandwidth / 1_000_000).max(1)
    }

    /// Something changed at a worker: the next placement looks at it.
    pub(super) fn mark_spare(&mut self, slot: WorkerSlot) {
        if self.workers[slot].place.standing != Standing::Due {
            self.placement_due = true;
            self.standings.put(&mut self.workers, slot, Standing::Due);
        }
    }

    /// Gives runnable tasks to workers with room: first each free thread one, then what may be
    /// sent ahead, by turns so that the work is spread.
    pub(super) fn place(&mut self) {
        self.place_suspects();
        let fresh = std::mem::take(&mut self.fresh_classes);
        let due_before = self.standings.len(Standing::Due);
        fresh.iter().for_each(|class| self.call_class(*class, Standing::Idle));
        self.call(Standing::Idle);
        self.put_last(due_before);
        self.fill(Self::give_next);
        while self.call(Standing::Idle) > 0 {
            // Some found something better.
            self.fill(Self::give_next);
        }
        self.steal_for_idle();
        fresh.iter().for_each(|class| self.call_class(*class, Standing::Roomy));
        self.call(Standing::Roomy);
        self.fill(Self::give_ahead);
        self.settle();
        while self.call(Standing::Roomy) > 0 {
            self.fill(Self::give_ahead);
            self.settle();
        }
        self.plan_steal_check();
    }

    /// Workers that found nothing look again: as many as there are tasks that anybody may run.
    /// Returns how many.
    fn call(&mut self, standing: Standing) -> usize {
        let wanted = self.classes[0].queue.len();
        let mut called = 0;
        while called < wanted
            && let Some(slot) = self.standings.first(standing)
        {
            self.standings.put(&mut self.workers, slot, Standing::Due);
            called += 1;
        }
        called
    }

    /// The first workers of those that are due go behind the others, which have waited longer.
    fn put_last(&mut self, count: usize) {
        if self.standings.len(Standing::Due) == count {
            return;
        }
        for _ in 0..count {
            let Some(slot) = self.standings.first(Standing::Due) else { return };
            self.standings.put(&mut self.workers, slot, Standing::Due);
        }
    }

    /// Makes all workers of a list due that may run this class.
    fn call_class(&mut self, class: u32, standing: Standing) {
        for position in 0..self.classes[class].eligible.len() {
            let slot = self.classes[class].eligible[position];
            if self.workers[slot].place.standing == standing {
                self.standings.put(&mut self.workers, slot, Standing::Due);
            }
        }
    }

    /// Visits the workers that are due by turns, until none takes any more.
    fn fill(&mut self, give: fn(&mut Self, WorkerSlot) -> bool) {
        let mut turns_without_success = 0;
        while turns_without_success < self.standings.len(Standing::Due) {
            if self.state_counts[State::Queued as usize] == 0 {
                return;
            }
            let Some(slot) = self.standings.first(Standing::Due) else { return };
            if !self.workers[slot].takes_work() {
                self.standings.put(&mut self.workers, slot, Standing::Out);
                continue;
            }
            self.standings.put(&mut self.workers, slot, Standing::Due);
            turns_without_success = if give(self, slot) { 0 } else { turns_without_success + 1 };
        }
    }

    /// A task for a free thread; with it as many short ones as take no longer than it takes to
    /// call another worker. Returns whether there was any.
    fn give_next(&mut self, slot: WorkerSlot) -> bool {
        if !self.assign_next(slot, Self::has_slot_for_next) {
            return false;
        }
        while self.assign_next(slot, Self::is_worth_no_message) {}
        true
    }

    /// A worker's share of what may be sent ahead of free threads: that of a short queue is small,
    /// so that all get some. Returns whether there was any.
    fn give_ahead(&mut self, slot: WorkerSlot) -> bool {
        let queued = self.state_counts[State::Queued as usize];
        let workers = self.workers.len().max(1) as u64;
        let share = (queued / (2 * workers)).clamp(1, 64);
        let mut taken = 0;
        while taken < share && self.assign_next(slot, Self::has_room_ahead) {
            taken += 1;
        }
        taken > 0
    }

    /// Nobody is due any more. A worker that refused what is queued is asked again when something
    /// of its own ends; one that found nothing, when there is something new.
    fn settle(&mut self) {
        while let Some(slot) = self.standings.first(Standing::Due) {
            let standing = self.standing_of(slot);
            self.standings.put(&mut self.workers, slot, standing);
        }
    }

    fn standing_of(&mut self, slot: WorkerSlot) -> Standing {
        if self.workers[slot].has_free_slot() {
            return Standing::Idle;
        }
        let any_queued = self.state_counts[State::Queued as usize] > 0;
        let takes_work = self.workers[slot].takes_work();
        let refuses = any_queued && self.first_entry(slot).is_some();
        if takes_work && !refuses { Standing::Roomy } else { Standing::Out }
    }

    fn has_slot_for_next(&self, slot: WorkerSlot, _task: u32) -> bool {
        self.workers[slot].has_free_slot()
    }

    /// Whether the worker has so little to do that this task, too, is done there before another
    /// worker would have heard of it.
    fn is_worth_no_message(&self, slot: WorkerSlot, index: u32) -> bool {
        let expected = self.prefixes[self.tasks[index].prefix].duration_ns;
        expected > 0
            && self.workers[slot].occupancy_ns.saturating_add(expected) <= MESSAGE_NS
            && self.has_room_ahead(slot, index)
    }

    /// Whether this task may be sent to the worker ahead of a free thread.
    fn has_room_ahead(&self, slot: WorkerSlot, index: u32) -> bool {
        let worker = &self.workers[slot];
        let task = &self.tasks[index];
        let threads = worker.info.nthreads;
        if worker.has_free_slot() {
            return true;
        }
        if !self.classes[task.class].resources.is_empty() || !worker.takes_work() {
            return false;
        }
        let prefix = &self.prefixes[task.prefix];
        let expected = prefix.duration_ns;
        if expected == 0 {
            return worker.active < 2 * threads;
        }
        if expected >= LONG_TASK_NS {
            return false;
        }
        if task.deps.is_empty() && prefix.size_bytes > LARGE_RESULT_BYTES {
            // A producer of large results: one spare per worker hides the round trip.
            return worker.active < threads + 1;
        }
        let budget = self.config.prefetch_ns * u64::from(threads);
        worker.active < 2 * threads
            || (worker.occupancy_ns + expected <= budget && worker.active < MAX_AHEAD * threads)
    }

    /// Gives the worker the first task that it may take. Returns whether there was one.
    fn assign_next(
        &mut self,
        slot: WorkerSlot,
        may_take: fn(&Self, WorkerSlot, u32) -> bool,
    ) -> bool {
        let Some((mut source, mut entry)) = self.first_entry(slot) else { return false };
        if self.holds_back(slot, entry.task) {
            // What waits here for its turn may be what makes room.
            let tasks = &self.tasks;
            let own = self.workers[slot].queue.peek(|entry| Self::is_entry_valid(tasks, entry));
            let Some(own) = own.filter(|own| *own != entry) else { return false };
            if self.holds_back(slot, own.task) {
                return false;
            }
            (source, entry) = (Source::Own, own);
        }
        if !may_take(self, slot, entry.task) {
            return false;
        }
        match source {
            Source::Own => self.workers[slot].queue.pop(),
            Source::Class(class) => {
                self.classes[class].queue.pop();
                self.keep_siblings_together(slot, entry.task);
            }
        }
        self.assign(entry.task, slot);
        true
    }

    /// The first task among the queues that the worker may take from.
    fn first_entry(&mut self, slot: WorkerSlot) -> Option<(Source, Entry)> {
        let Self { tasks, workers, classes, .. } = self;
        let worker = &mut workers[slot];
        let is_valid = |entry: &Entry| Self::is_entry_valid(tasks, entry);
        let mut best = worker.queue.peek(is_valid).map(|entry| (Source::Own, entry));
        for class in &worker.classes {
            let record = &mut classes[*class];
            if record.queue.len() == 0 || !worker.available.covers(&record.resources) {
                continue;
            }
            let Some(entry) = record.queue.peek(is_valid) else { continue };
            if best.is_none_or(|(_, other)| entry < other) {
                best = Some((Source::Class(*class), entry));
            }
        }
        best
    }

    /// Inputs of one dependent are best made on one worker: the queued siblings of a task that is
    /// being placed go to the same worker's queue. Found by structure, not by key names. Others
    /// may still take them when they have nothing else to do.
    fn keep_siblings_together(&mut self, slot: WorkerSlot, index: u32) {
        let task = &self.tasks[index];
        let class = task.class;
        let is_root = task.deps.is_empty() && !task.dependents.is_empty();
        if !is_root || !self.classes[class].resources.is_empty() {
            return;
        }
        let family = task.dependents.iter().take(2).find_map(|id| {
            let dependent = self.tasks.get(*id)?;
            let deps = &self.tasks[dependent].deps;
            (2..=MAX_SIBLINGS).contains(&deps.len()).then(|| deps.clone())
        });
        for sibling in family.into_iter().flatten() {
            let record = &self.tasks[sibling];
            let is_in_class_queue = record.state == State::Queued
                && record.queued_on == WorkerSlot::NONE
                && record.class == class
                && record.suspicions == 0;
            if sibling != index && is_in_class_queue {
                self.unqueue(sibling);
                self.push_to_worker(sibling, slot);
            }
        }
    }

    /// queued → processing, and what can run after it on the same worker goes with it.
    pub(super) fn assign(&mut self, index: u32, slot: WorkerSlot) {
        self.send_to(index, slot);
        let mut ahead: SmallVec<[u32; 8]> = SmallVec::from_slice(&[index]);
        while let Some(made_here) = ahead.pop() {
            let count = self.tasks[made_here].dependents.len().min(RUN_AHEAD_WIDTH);
            for position in 0..count {
                let id = self.tasks[made_here].dependents[position];
                let Some(dependent) = self.tasks.get(id) else { continue };
                if self.can_run_ahead(dependent, slot) {
                    self.counters.run_ahead += 1;
                    self.send_to(dependent, slot);
                    ahead.push(dependent);
                }
            }
        }
    }

    /// Whether all inputs of a waiting task are or will be on this worker, and it has room.
    fn can_run_ahead(&self, index: u32, slot: WorkerSlot) -> bool {
        let task = &self.tasks[index];
        let is_candidate = task.state == State::Waiting
            && !task.has(mark::HELD_BACK)
            && task.suspicions == 0
            && task.deps.len() <= RUN_AHEAD_WIDTH
            && self.prefixes[task.prefix].duration_ns > 0
            && self.classes[task.class].resources.is_empty()
            && self.classes[task.class].is_eligible(slot);
        is_candidate
            && self.has_room_ahead(slot, index)
            && task.deps.iter().all(|dep| self.is_or_will_be_on(*dep, slot))
    }

    fn is_or_will_be_on(&self, index: u32, slot: WorkerSlot) -> bool {
        let task = &self.tasks[index];
        match task.state {
            State::Memory => task.value.is_some() || task.replicas.contains(&slot),
            State::Processing => {
                task.worker == slot && !task.has(mark::RETRACTING | mark::CANARY | mark::SECEDED)
            }
            _ => false,
        }
    }

    /// Takes note of the assignment and sends the task.
    fn send_to(&mut self, index: u32, slot: WorkerSlot) {
        let task = &mut self.tasks[index];
        task.attempt += 1;
        task.worker = slot;
        task.expected_ns = self.prefixes[task.prefix].duration_ns;
        let worker = &mut self.workers[slot];
        if worker.active == 0 {
            worker.last_progress = self.now;
        }
        task.processing_at = worker.processing.len() as u32;
        worker.processing.push(index);
        worker.active += 1;
        worker.blocked += u32::from(task.waiting_on > 0);
        worker.occupancy_ns = worker.occupancy_ns.saturating_add(task.expected_ns);
        worker.available.take(&self.classes[task.class].resources);
        self.note_overfull(slot);
        self.set_state(index, State::Processing);
        self.send_functions(index, slot);
        let compute = self.compute_message(index, slot);
        self.outbox.compute(&mut self.workers[slot], compute);
    }

    /// Work may have to be taken back from who has more than it can run at once.
    fn note_overfull(&mut self, slot: WorkerSlot) {
        let worker = &mut self.workers[slot];
        let is_new = worker.active > worker.info.nthreads && !worker.is_overfull;
        if is_new {
            worker.is_overfull = true;
            self.overfull.push(slot);
        }
    }

    fn send_functions(&mut self, index: u32, slot: WorkerSlot) {
        for position in 0..self.tasks[index].functions.len() {
            let number: FunctionNo = self.tasks[index].functions[position];
            if !self.workers[slot].functions.insert(number) {
                continue;
            }
            let Some(function) = self.functions.get_for(number, slot) else { continue };
            let message = SchedulerToWorker::Function(WorkerFunction {
                number,
                name: function.name.clone(),
                payload: function.payload.clone(),
            });
            self.outbox.send_worker(&mut self.workers[slot], message);
        }
    }

    fn compute_message(&mut self, index: u32, slot: WorkerSlot) -> ComputeTask {
        let dep_indices = self.tasks[index].deps.clone();
        let deps = dep_indices.into_iter().map(|dep| self.dep_message(dep, slot)).collect();
        let task = &self.tasks[index];
        let has_resources = !self.classes[task.class].resources.is_empty();
        ComputeTask {
            task: self.tasks.id(index),
            attempt: task.attempt,
            flags: task.flags | if has_resources { TaskSpec::RESOURCES } else { 0 },
            priority: task.priority,
            key: task.key.clone(),
            expected_us: u32::try_from(task.expected_ns / 1_000).unwrap_or(u32::MAX),
            functions: task.functions.clone(),
            deps,
            body: task.body.clone(),
            limits: self.limits_of(index),
            spec_hash: task.spec_hash,
        }
    }

    fn dep_message(&mut self, dep: u32, slot: WorkerSlot) -> DepRef {
        /// Holders named to a worker: enough to try others when one fails.
        const MAX_HOLDERS: usize = 4;
        let task = &self.tasks[dep];
        let mut message =
            DepRef { task: self.tasks.id(dep), size_bytes: task.size_bytes, ..DepRef::default() };
        if task.replicas.contains(&slot) || task.state != State::Memory {
            return message;
        }
        message.value = task.value.clone();
        if message.value.is_none() {
            let holders: SmallVec<[WorkerSlot; 4]> =
                task.replicas.iter().copied().take(MAX_HOLDERS).collect();
            message.holders =
                holders.into_iter().map(|holder| self.introduce(slot, holder)).collect();
            if self.has(Fault::HolderBeforeArrival) {
                self.add_replica(dep, slot, message.size_bytes);
            }
        }
        message
    }

    /// Takes a processing task off its worker's books. The state is still to be set. Where its run
    /// may go on for a while, its resources stay taken until the worker reports the end.
    pub(super) fn unassign(&mut self, index: u32, may_go_on: bool) {
        let may_go_on = may_go_on && !self.has(Fault::GhostsAreFree);
        let (id, attempt) = (self.tasks.id(index), self.tasks[index].attempt);
        let task = &mut self.tasks[index];
        let slot = std::mem::replace(&mut task.worker, WorkerSlot::NONE);
        let was_active = !task.has(mark::SECEDED);
        let was_canary = task.has(mark::CANARY);
        task.marks &= !(mark::SECEDED | mark::CANARY | mark::RETRACTING | mark::KEPT);
        let (at, expected_ns, class) = (task.processing_at as usize, task.expected_ns, task.class);
        let was_blocked = task.waiting_on > 0;
        let Some(worker) = self.workers.get_mut(slot) else { return };
        worker.processing.swap_remove(at);
        if let Some(moved) = worker.processing.get(at).copied() {
            self.tasks[moved].processing_at = at as u32;
        }
        let resources = &self.classes[class].resources;
        if may_go_on && !resources.is_empty() {
            worker.ghosts.push((id, attempt, resources.clone()));
        } else {
            worker.available.give_back(resources);
        }
        if was_active {
            worker.active -= 1;
            worker.blocked -= u32::from(was_blocked);
            worker.occupancy_ns = worker.occupancy_ns.saturating_sub(expected_ns);
        }
        if was_canary {
            self.end_reservation(slot);
        }
        self.mark_spare(slot);
    }

    /// The task leaves its slot, or comes back to one: others may run meanwhile. Its resources
    /// stay taken: a GPU is not shared because its user waits.
    pub(super) fn set_seceded(&mut self, index: u32, seceded: bool) {
        let task = &mut self.tasks[index];
        if task.has(mark::SECEDED) == seceded {
            return;
        }
        task.marks ^= mark::SECEDED;
        let (slot, expected_ns) = (task.worker, task.expected_ns);
        let was_canary = task.has(mark::CANARY);
        let is_blocked = u32::from(task.waiting_on > 0);
        let worker = &mut self.workers[slot];
        if seceded {
            worker.active -= 1;
            worker.blocked -= is_blocked;
            worker.occupancy_ns = worker.occupancy_ns.saturating_sub(expected_ns);
        } else {
            worker.active += 1;
            worker.blocked += is_blocked;
            worker.occupancy_ns = worker.occupancy_ns.saturating_add(expected_ns);
        }
        self.note_overfull(slot);
        if was_canary && seceded {
            self.tasks[index].marks &= !mark::CANARY;
            self.end_reservation(slot);
        }
        self.mark_spare(slot);
    }

    /// Moves the tasks of a leaving worker's own queue to where others find them.
    pub(super) fn spill_queue(&mut self, slot: WorkerSlot) {
        let tasks = &self.tasks;
        let queue: Queue = std::mem::take(&mut self.workers[slot].queue);
        let mut queue = queue;
        for entry in queue.drain(|entry| Self::is_entry_valid(tasks, entry)) {
            let class = self.tasks[entry.task].class;
            if self.classes[class].eligible.is_empty() {
                self.set_state(entry.task, State::NoWorker);
            }
            self.push_to_class(entry.task);
        }
    }

    /// When the first task that no worker may run has waited too long.
    pub(super) fn next_no_worker_deadline(&self) -> Option<Nanos> {
        let timeout = self.config.no_workers_timeout_ns?;
        self.without_worker.front().map(|(since, _)| since.after(timeout))
    }
}
