//! The rules between the states. Consequences go on a list of steps, so that no graph, however
//! deep, recurses.

use super::planted::Fault;
use super::task::{Kind, State, is_legal, mark};
use super::worker_table::WorkerSlot;
use super::{Scheduler, Set, queue};
use smallvec::SmallVec;
use std::sync::Arc;
use taskloom_proto::client::{
    Handles, KeyErred, KeyReady, KeysCancelled, PeerAddress, SchedulerToClient,
};
use taskloom_proto::policy::InterruptRun;
use taskloom_proto::worker::{DepHolders, SchedulerToWorker};
use taskloom_proto::{ErrorInfo, SmallBytes};
use taskloom_types::{ClientId, Handle, Key, WorkerNo};

/// A consequence to be drawn.
#[derive(Debug)]
pub enum Step {
    /// The result is needed and nobody is making it.
    Start(u32),
    /// One reason to keep the task is gone.
    Relax(u32),
    /// The task leaves the worker that has it, and waits again.
    Recall(u32),
    /// The result names another that is gone.
    Lose(u32),
    Fail(u32, Arc<ErrorInfo>),
    /// The task is dropped, with all that depend on it; the futures become cancelled.
    Drop(u32, Arc<DropReason>),
    /// The run is interrupted at its worker, unless it turned out to be wanted still.
    Interrupt(WorkerNo, InterruptRun),
}

impl Step {
    /// The task without which the step has no sense.
    fn task(&self) -> Option<u32> {
        match self {
            Self::Start(task)
            | Self::Relax(task)
            | Self::Recall(task)
            | Self::Lose(task)
            | Self::Fail(task, _)
            | Self::Drop(task, _) => Some(*task),
            Self::Interrupt(..) => None,
        }
    }
}

/// What becomes of the runs of dropped tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interrupting {
    /// They go on; nobody waits for their outcome.
    #[default]
    No,
    /// They are interrupted.
    Soft,
    /// They are interrupted, and their processes replaced if that does not help.
    Hard,
}

/// Why tasks were dropped, for their futures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DropReason {
    pub reason: String,
    pub message: String,
    pub lost: bool,
    /// Who cancelled, without force: what other clients hold goes on.
    pub by: Option<ClientId>,
    pub interrupting: Interrupting,
}

impl Scheduler {
    pub(super) fn run_steps(&mut self) {
        while let Some(step) = self.steps.pop() {
            if step.task().is_some_and(|task| !self.tasks.is_live(task)) {
                continue;
            }
            match step {
                Step::Start(task) => self.start(task),
                Step::Relax(task) => self.relax(task),
                Step::Recall(task) => self.recall(task),
                Step::Lose(task) => self.lose_with_input(task),
                Step::Fail(task, error) => self.fail(task, error),
                Step::Drop(task, why) => self.drop_task(task, &why),
                Step::Interrupt(worker, run) => self.interrupt(worker, run),
            }
        }
    }

    /// The one place where a state changes.
    pub(super) fn set_state(&mut self, index: u32, to: State) {
        let task = &mut self.tasks[index];
        let from = std::mem::replace(&mut task.state, to);
        self.counters.transitions += 1;
        if !is_legal(from, to) {
            self.counters.illegal_transitions += 1;
            debug_assert!(false, "task {} went from {from:?} to {to:?}", self.tasks[index].key);
        }
        self.state_counts[from as usize] -= 1;
        self.state_counts[to as usize] += 1;
        let worker = self.workers.get(task.worker).map_or(WorkerNo(0), |worker| worker.number);
        self.story.record(&task.key, self.now, from, to, worker);
        if from == State::Memory && !self.replication.is_idle() {
            self.drop_copies_of(index);
        }
        if self.events.are_transitions_wanted {
            self.note_transition(index, from, to.name());
        }
        if self.is_actor(index) && to != State::Memory {
            // Made here, if anywhere; a queue says so itself.
            let place = self.tasks[index].worker;
            self.place_actor(index, place);
        }
    }

    /// released → waiting, and on to queued when nothing is missing.
    fn start(&mut self, index: u32) {
        let task = &self.tasks[index];
        if task.state != State::Released || !task.is_needed() {
            return;
        }
        if self.refuse_dead_actor(index) {
            return;
        }
        let task = &self.tasks[index];
        match task.kind {
            Kind::Call => {}
            Kind::Data | Kind::Unknown if self.scatters.is_planned(index) => {}
            Kind::Data => {
                let why = DropReason {
                    reason: "lost".into(),
                    message: format!(
                        "the scattered data {} is gone: no connected worker holds it any more",
                        task.key
                    ),
                    lost: true,
                    ..DropReason::default()
                };
                self.steps.push(Step::Drop(index, Arc::new(why)));
                return;
            }
            // Somebody may still submit it.
            Kind::Unknown | Kind::Broken => return,
        }
        self.set_state(index, State::Waiting);
        let deps = self.tasks[index].deps.clone();
        let mut waiting_on = 0;
        let mut failed = None;
        for &dep in &deps {
            let record = &mut self.tasks[dep];
            record.waiters += 1;
            match record.state {
                State::Memory => {}
                State::Erred => failed = record.error.clone(),
                state => {
                    waiting_on += 1;
                    if state == State::Released {
                        self.steps.push(Step::Start(dep));
                    }
                }
            }
        }
        self.tasks[index].waiting_on = waiting_on;
        if let Some(error) = failed {
            // Inputs that did not fail count as missing until this step is drawn.
            self.steps.push(Step::Fail(index, error));
        } else if waiting_on == 0 && self.tasks[index].kind == Kind::Call {
            self.enqueue(index);
        }
    }

    /// An active task is active no more: it needs its inputs no longer.
    pub(super) fn let_go_of_inputs(&mut self, index: u32) {
        self.tasks[index].waiting_on = 0;
        let deps = self.tasks[index].deps.clone();
        for dep in deps {
            let record = &mut self.tasks[dep];
            record.waiters -= 1;
            if !record.is_needed() {
                self.steps.push(Step::Relax(dep));
            }
        }
    }

    /// Takes an active task away from its queue or its worker. The state is still to be set.
    pub(super) fn detach(&mut self, index: u32, tell_worker: bool) {
        match self.tasks[index].state {
            State::Queued | State::NoWorker => self.unqueue(index),
            State::Processing => {
                let worker = self.tasks[index].worker;
                self.unassign(index, tell_worker);
                if tell_worker {
                    self.free_on(worker, index);
                }
            }
            _ => {}
        }
        self.scatters.forget(index);
        self.suspects.forget(self.tasks.id(index));
        if self.tasks[index].has(mark::DELAYED) {
            self.delays.forget(self.tasks.id(index));
        }
        self.tasks[index].marks &= !mark::HELD_BACK;
    }

    fn free_on(&mut self, slot: WorkerSlot, index: u32) {
        let id = self.tasks.id(index);
        if let Some(worker) = self.workers.get_mut(slot) {
            self.outbox.free(worker, id);
        }
    }

    /// → memory.
    pub(super) fn finish(
        &mut self,
        index: u32,
        holder: WorkerSlot,
        size_bytes: u64,
        value: Option<SmallBytes>,
    ) {
        self.detach(index, false);
        self.set_state(index, State::Memory);
        self.add_replica(index, holder, size_bytes);
        self.keep_inline(index, value);
        self.announce_result(index);
    }

    /// waiting → memory, in the scheduler alone.
    pub(super) fn finish_inline(&mut self, index: u32, value: SmallBytes) {
        self.detach(index, false);
        self.set_state(index, State::Memory);
        self.inline_bytes += value.len() as u64;
        self.tasks[index].size_bytes = value.len() as u64;
        self.tasks[index].value = Some(value);
        self.announce_result(index);
    }

    fn announce_result(&mut self, index: u32) {
        if !self.keeps_inputs(index) {
            self.let_go_of_inputs(index);
        }
        if self.is_actor(index) {
            self.on_actor_made(index);
        }
        self.tell_dependents(index);
        self.tell_wants(index);
        self.end_detached(index);
        if !self.tasks[index].is_needed() {
            self.steps.push(Step::Relax(index));
        }
    }

    pub(super) fn keep_inline(&mut self, index: u32, value: Option<SmallBytes>) {
        let Some(value) = value else { return };
        let fits = self.inline_bytes + value.len() as u64 <= self.config.inline_bytes;
        if fits || self.is_local(index) {
            self.inline_bytes += value.len() as u64;
            self.tasks[index].value = Some(value);
        }
    }

    fn drop_inline(&mut self, index: u32) {
        if let Some(value) = self.tasks[index].value.take() {
            self.inline_bytes -= value.len() as u64;
        }
    }

    pub(super) fn add_replica(&mut self, index: u32, slot: WorkerSlot, size_bytes: u64) {
        let task = &mut self.tasks[index];
        if task.replicas.contains(&slot) {
            return;
        }
        task.replicas.push(slot);
        task.size_bytes = size_bytes;
        task.doubts = 0;
        if let Some(worker) = self.workers.get_mut(slot) {
            worker.held.insert(index);
            worker.held_bytes = worker.held_bytes.saturating_add(size_bytes);
        }
        if !self.replication.is_idle() {
            self.end_copy(index, slot);
        }
    }

    pub(super) fn remove_replica(&mut self, index: u32, slot: WorkerSlot) {
        let task = &mut self.tasks[index];
        let before = task.replicas.len();
        let was_first = task.replicas.first() == Some(&slot);
        task.replicas.retain(|holder| *holder != slot);
        if task.replicas.len() == before {
            return;
        }
        let size_bytes = task.size_bytes;
        if let Some(worker) = self.workers.get_mut(slot) {
            worker.held.remove(&index);
            worker.held_bytes = worker.held_bytes.saturating_sub(size_bytes);
        }
        if was_first && self.is_local(index) {
            // The first holder made it. What the others have names what is gone.
            self.drop_copies(index);
        }
    }

    /// Active dependents lack one input less.
    fn tell_dependents(&mut self, index: u32) {
        let refetch = self.tasks[index].has(mark::REFETCH) && !self.has(Fault::HoldersUntold);
        self.tasks[index].marks &= !mark::REFETCH;
        let dependents = std::mem::take(&mut self.tasks[index].dependents);
        for id in &dependents {
            let Some(dependent) = self.tasks.get(*id) else { continue };
            let record = &mut self.tasks[dependent];
            if !record.state.is_active() || record.waiting_on == 0 {
                continue;
            }
            record.waiting_on -= 1;
            if record.state == State::Processing {
                let worker = record.worker;
                let is_unblocked = record.waiting_on == 0 && !record.has(mark::SECEDED);
                if is_unblocked {
                    self.workers[worker].blocked -= 1;
                }
                if refetch {
                    self.send_holders(worker, index);
                }
            } else if record.waiting_on == 0 && !record.has(mark::HELD_BACK) {
                self.enqueue(dependent);
            }
        }
        self.tasks[index].dependents = dependents;
    }

    /// Tells a worker where an input is.
    pub(super) fn send_holders(&mut self, slot: WorkerSlot, dep: u32) {
        let holders: SmallVec<[WorkerSlot; 2]> =
            self.tasks[dep].replicas.iter().copied().filter(|holder| *holder != slot).collect();
        let holders = holders.into_iter().map(|holder| self.introduce(slot, holder)).collect();
        let value = self.tasks[dep].value.clone();
        let dep = self.tasks.id(dep);
        if let Some(worker) = self.workers.get_mut(slot) {
            let message = SchedulerToWorker::Holders(DepHolders { dep, holders, value });
            self.outbox.send_worker(worker, message);
        }
    }

    /// Makes sure that a worker knows the address of another, and returns the other's number.
    pub(super) fn introduce(&mut self, to: WorkerSlot, peer: WorkerSlot) -> WorkerNo {
        let number = self.workers[peer].number;
        if self.workers[to].peers.insert(number) {
            let address = self.workers[peer].info.address.clone();
            let message = SchedulerToWorker::Peer(PeerAddress { worker: number, address });
            self.outbox.send_worker(&mut self.workers[to], message);
        }
        number
    }

    fn tell_wants(&mut self, index: u32) {
        let wants = self.tasks[index].wants.clone();
        for want in wants {
            self.tell_ready(index, want.client, want.handle);
        }
    }

    /// Tells a client that a result is there, and where.
    pub(super) fn tell_ready(&mut self, index: u32, client: ClientId, handle: Handle) {
        let task = &self.tasks[index];
        let Some(record) = self.clients.get_mut(&client) else { return };
        let mut number = WorkerNo(0);
        if let Some(worker) = task.replicas.first().and_then(|slot| self.workers.get(*slot)) {
            number = worker.number;
            if task.value.is_none() && record.peers.insert(number) {
                let address = worker.info.address.clone();
                let message = SchedulerToClient::Peer(PeerAddress { worker: number, address });
                self.outbox.send_client(client, &mut record.last_action, message);
            }
        }
        let ready = KeyReady {
            handle,
            task: self.tasks.id(index),
            worker: number,
            size_bytes: task.size_bytes,
            value: task.value.clone(),
        };
        self.outbox.ready(client, &mut record.last_action, ready);
    }

    /// A task kept by `fire_and_forget` has ended.
    fn end_detached(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        if task.has(mark::DETACHED) {
            task.marks &= !mark::DETACHED;
            task.holds -= 1;
        }
    }

    /// A reason to keep the task is gone: if it was the last, the task goes as far as it can.
    fn relax(&mut self, index: u32) {
        if self.tasks[index].is_needed() {
            return;
        }
        match self.tasks[index].state {
            State::Memory if self.tasks[index].outlives_its_needs() => self.drop_replicas(index),
            State::Memory => self.release_result(index),
            State::Waiting | State::Queued | State::NoWorker | State::Processing => {
                self.detach(index, true);
                self.set_state(index, State::Released);
                self.let_go_of_inputs(index);
            }
            State::Released | State::Erred => {}
        }
        let stays = self.tasks[index].state == State::Erred && self.has(Fault::ErredStays);
        if self.tasks[index].live_dependents == 0 && !stays {
            self.forget(index);
        }
    }

    /// memory → released: all copies are dropped.
    fn release_result(&mut self, index: u32) {
        self.drop_copies(index);
        self.set_state(index, State::Released);
        if self.keeps_inputs(index) {
            self.let_go_of_inputs(index);
        }
        if self.is_actor(index) {
            self.on_actor_released(index);
        }
    }

    /// Frees a result wherever it is. The state is still to be set.
    pub(super) fn drop_copies(&mut self, index: u32) {
        self.drop_inline(index);
        self.drop_replicas(index);
    }

    /// Frees a result on the workers.
    fn drop_replicas(&mut self, index: u32) {
        let replicas = std::mem::take(&mut self.tasks[index].replicas);
        let (id, size_bytes) = (self.tasks.id(index), self.tasks[index].size_bytes);
        for slot in replicas {
            if let Some(worker) = self.workers.get_mut(slot) {
                worker.held.remove(&index);
                worker.held_bytes = worker.held_bytes.saturating_sub(size_bytes);
                self.outbox.free(worker, id);
            }
        }
    }

    /// The task is not needed and nothing depends on it: its slot is freed.
    fn forget(&mut self, index: u32) {
        if self.is_actor(index) {
            self.forget_actor(index);
        }
        self.drop_lineage(index);
        let task = &mut self.tasks[index];
        let (prefix, class, state, policy) = (task.prefix, task.class, task.state, task.policy);
        let functions = std::mem::take(&mut task.functions);
        self.coordinator.metadata.forget_task(&self.tasks[index].key);
        self.partings.forget_task(self.tasks.id(index));
        self.state_counts[state as usize] -= 1;
        if self.events.are_transitions_wanted {
            self.note_transition(index, state, "forgotten");
        }
        self.tasks.remove(index);
        self.prefixes.release(prefix);
        self.policies.release(policy);
        if let Some(eligible) = self.classes.release(class) {
            self.drop_class(class, &eligible);
        }
        self.release_functions(&functions);
    }

    /// The task will not be made again: what it was made from is not kept for its sake.
    pub(super) fn drop_lineage(&mut self, index: u32) {
        let deps = std::mem::take(&mut self.tasks[index].deps);
        for dep in deps {
            let record = &mut self.tasks[dep];
            record.live_dependents -= 1;
            if record.live_dependents == 0 {
                record.dependents.clear();
                if !record.is_needed() {
                    self.steps.push(Step::Relax(dep));
                }
            } else if record.dependents.len() > 32
                && record.dependents.len() > 4 * record.live_dependents as usize
            {
                let mut dependents = std::mem::take(&mut record.dependents);
                dependents.retain(|id| self.tasks.get(*id).is_some() && id.index != index);
                self.tasks[dep].dependents = dependents;
            }
        }
    }

    /// processing → waiting: the worker shall not run it. What was sent ahead because of
    /// it comes back too.
    fn recall(&mut self, index: u32) {
        if self.tasks[index].state != State::Processing {
            return;
        }
        self.detach(index, true);
        self.set_state(index, State::Waiting);
        self.recall_run_ahead(index);
        if self.tasks[index].waiting_on == 0 {
            self.enqueue(index);
        }
    }

    /// The task will not be made where it was going to be: dependents that were sent there ahead
    /// of it are recalled.
    pub(super) fn recall_run_ahead(&mut self, index: u32) {
        if self.has(Fault::RunAheadStays) {
            return;
        }
        for position in 0..self.tasks[index].dependents.len() {
            let id = self.tasks[index].dependents[position];
            let Some(dependent) = self.tasks.get(id) else { continue };
            let record = &self.tasks[dependent];
            if record.state == State::Processing && record.waiting_on > 0 {
                self.steps.push(Step::Recall(dependent));
            }
        }
    }

    /// processing → waiting, to be tried again. The worker knows already.
    pub(super) fn try_again(&mut self, index: u32) {
        self.detach(index, false);
        self.set_state(index, State::Waiting);
        self.recall_run_ahead(index);
        if self.tasks[index].waiting_on == 0 {
            self.enqueue(index);
        }
    }

    /// → erred, and so is everything active that depends on it.
    fn fail(&mut self, index: u32, error: Arc<ErrorInfo>) {
        if !self.tasks[index].state.is_active() {
            return;
        }
        self.detach(index, true);
        self.set_state(index, State::Erred);
        self.counters.tasks_erred += 1;
        self.tasks[index].error = Some(error.clone());
        self.let_go_of_inputs(index);
        for position in 0..self.tasks[index].dependents.len() {
            let id = self.tasks[index].dependents[position];
            let Some(dependent) = self.tasks.get(id) else { continue };
            if self.tasks[dependent].state.is_active() {
                self.steps.push(Step::Fail(dependent, error.clone()));
            }
        }
        self.tell_erred(index);
        if self.is_actor(index) {
            self.send_gone(index, &error);
        }
        self.end_detached(index);
        if !self.tasks[index].is_needed() {
            self.steps.push(Step::Relax(index));
        }
    }

    fn tell_erred(&mut self, index: u32) {
        let wants = self.tasks[index].wants.clone();
        for want in wants {
            self.tell_erred_to(index, want.client, want.handle);
        }
    }

    pub(super) fn tell_erred_to(&mut self, index: u32, client: ClientId, handle: Handle) {
        let Some(error) = self.tasks[index].error.clone() else { return };
        let Some(record) = self.clients.get_mut(&client) else { return };
        let erred = KeyErred { handles: vec![handle], error: (*error).clone() };
        let message = SchedulerToClient::Erred(erred);
        self.outbox.send_client(client, &mut record.last_action, message);
    }

    /// The last copy of a result is gone. It is made again if somebody needs it.
    pub(super) fn lose_result(&mut self, index: u32) {
        let task = &self.tasks[index];
        if task.state != State::Memory || !task.replicas.is_empty() || task.value.is_some() {
            return;
        }
        self.set_state(index, State::Released);
        let kept_inputs = self.keeps_inputs(index);
        if kept_inputs {
            self.let_go_of_inputs(index);
        }
        for position in 0..self.tasks[index].dependents.len() {
            let id = self.tasks[index].dependents[position];
            let Some(dependent) = self.tasks.get(id) else { continue };
            let names_it = self.keeps_inputs(dependent);
            let record = &mut self.tasks[dependent];
            if !record.state.is_active() {
                if names_it && record.state == State::Memory {
                    self.steps.push(Step::Lose(dependent));
                }
                continue;
            }
            record.waiting_on += 1;
            let is_queued = matches!(record.state, State::Queued | State::NoWorker);
            if is_queued && self.has(Fault::QueuedWithoutInput) {
                continue;
            }
            let record = &self.tasks[dependent];
            if is_queued {
                self.unqueue(dependent);
                self.set_state(dependent, State::Waiting);
            } else if record.state == State::Processing {
                let worker = record.worker;
                if record.waiting_on == 1 && !record.has(mark::SECEDED) {
                    self.workers[worker].blocked += 1;
                    self.mark_spare(worker);
                }
                let record = &self.tasks[dependent];
                let has_resources = !self.classes[record.class].resources.is_empty();
                let is_canary = record.has(mark::CANARY) && !self.has(Fault::SuspectBlocksItsInput);
                // Making the input again may need the very resource that it holds, or the very
                // worker that nobody else may use. What names results, or reads those that are
                // named, would run with names of what is gone.
                if has_resources || is_canary || names_it || kept_inputs {
                    self.steps.push(Step::Recall(dependent));
                }
                self.tasks[index].marks |= mark::REFETCH;
            }
        }
        if !self.tasks[index].is_needed() {
            self.steps.push(Step::Relax(index));
            return;
        }
        self.counters.recomputed += 1;
        self.tell_pending(index);
        self.steps.push(Step::Start(index));
    }

    /// Tells clients that they have to wait again.
    pub(super) fn tell_pending(&mut self, index: u32) {
        for want in self.tasks[index].wants.clone() {
            let Some(record) = self.clients.get_mut(&want.client) else { continue };
            let message = SchedulerToClient::Pending(Handles { handles: vec![want.handle] });
            self.outbox.send_client(want.client, &mut record.last_action, message);
        }
    }

    /// Cancels a task for everybody, and all that depend on it. Each task is visited once: there
    /// may be very many paths through those that go on since somebody else needs them.
    fn drop_task(&mut self, index: u32, why: &Arc<DropReason>) {
        let mut found: Vec<(u32, bool)> = vec![(index, self.tasks[index].state != State::Memory)];
        let mut seen: Set<u32> = [index].into_iter().collect();
        let mut next = 0;
        while let Some((index, is_lost)) = found.get(next).copied() {
            next += 1;
            if self.drop_one(index, why) {
                let dependents = self.tasks[index].dependents.iter();
                let active = dependents
                    .filter_map(|id| self.tasks.get(*id))
                    .filter(|dependent| self.is_nothing_without(*dependent, is_lost))
                    .filter(|dependent| seen.insert(*dependent));
                // What is nothing without it is lost with it, if only in the steps to come.
                found.extend(active.map(|dependent| (dependent, true)));
            }
        }
    }

    /// Returns whether those that depend on it are to be dropped too.
    fn drop_one(&mut self, index: u32, why: &Arc<DropReason>) -> bool {
        if let Some(client) = why.by
            && self.is_wanted_by_others(client, index)
            && !self.has(Fault::CancelTakesAll)
        {
            self.cancel_for_one(client, index, why);
            return false;
        }
        self.forget_shared(index);
        let wants = std::mem::take(&mut self.tasks[index].wants);
        for want in wants {
            let Some(record) = self.clients.get_mut(&want.client) else { continue };
            record.handles.remove(&want.handle);
            let cancelled = KeysCancelled {
                handles: vec![want.handle],
                reason: why.reason.clone(),
                message: why.message.clone(),
                lost: why.lost,
            };
            let message = SchedulerToClient::Cancelled(cancelled);
            self.outbox.send_client(want.client, &mut record.last_action, message);
        }
        self.end_detached(index);
        self.drop_deposits_of(index, why);
        self.plan_interrupt(index, why.interrupting);
        self.steps.push(Step::Relax(index));
        // What an open submission keeps must not run: its inputs or its own data are gone.
        if why.by.is_none() && self.tasks[index].state.is_active() && self.tasks[index].holds > 0 {
            let error = dropped_error(&self.tasks[index].key, why);
            self.steps.push(Step::Fail(index, error));
        }
        true
    }

    /// Whether somebody besides this client holds the task: another client, or a shared value.
    fn is_wanted_by_others(&self, client: ClientId, index: u32) -> bool {
        self.tasks[index].wants.iter().any(|want| want.client != client)
            || self.coordinator.keeps(self.tasks.id(index))
    }

    pub(super) fn next_queue_stamp(&mut self) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.next_stamp
    }

    /// Whether a queue's entry still stands for its task.
    pub(super) fn is_entry_valid(tasks: &super::TaskTable, entry: &queue::Entry) -> bool {
        let task = &tasks[entry.task];
        task.live
            && task.queue_stamp == entry.stamp
            && matches!(task.state, State::Queued | State::NoWorker)
    }
}

/// The error of a task whose input was cancelled.
pub(super) fn dropped_error(key: &Key, why: &DropReason) -> Arc<ErrorInfo> {
    Arc::new(ErrorInfo {
        type_name: "CancelledError".into(),
        message: format!("{key} was cancelled ({}): {}", why.reason, why.message),
        origin: Some(key.clone()),
        ..ErrorInfo::default()
    })
}
