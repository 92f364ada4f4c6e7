//! What workers say, and what happens when they join, fall silent or leave.

use super::planted::Fault;
use super::standing::Standing;
use super::task::{Kind, State, mark};
use super::transitions::Step;
use super::worker_table::{Executing, WorkerRecord, WorkerSlot};
use super::{Action, Party, Scheduler};
use smallvec::SmallVec;
use std::sync::Arc;
use taskloom_proto::ErrorInfo;
use taskloom_proto::client::Closing;
use taskloom_proto::control::NotAcquired;
use taskloom_proto::gone::WorkerGone;
use taskloom_proto::worker::{
    DepMissing, RegisterWorker, Registered, Retracted, SchedulerToWorker, TaskAttempt, TaskDone,
    TaskErred, WorkerToScheduler,
};
use taskloom_types::{Attempt, ClientId, Nanos, TaskId, WorkerNo};

/// What a worker reports is cut to these, so that sums over many reports do not overflow.
const MAX_THREADS: u32 = 1 << 16;
pub(super) const MAX_SIZE_BYTES: u64 = 1 << 42;
const MAX_DURATION_NS: u64 = 1 << 52;

impl Scheduler {
    pub(super) fn on_worker_message(&mut self, number: WorkerNo, message: WorkerToScheduler) {
        let message = match message {
            WorkerToScheduler::Register(info) => return self.on_worker_joined(number, info),
            other => other,
        };
        let Some(slot) = self.workers.slot(number) else {
            self.counters.stale_messages += 1;
            return;
        };
        self.workers[slot].last_seen = self.now;
        match message {
            WorkerToScheduler::Register(_) => {}
            WorkerToScheduler::Done(done) => {
                self.workers[slot].last_progress = self.now;
                for task in done {
                    let stale_before = self.counters.stale_messages;
                    self.on_done(slot, task);
                    self.run_steps();
                    let is_stale = self.counters.stale_messages > stale_before;
                    if is_stale && self.has(Fault::RestOfMessageLost) {
                        break;
                    }
                }
            }
            WorkerToScheduler::Erred(erred) => self.on_erred(slot, erred),
            WorkerToScheduler::Rescheduled(run) => {
                self.end_ghost(slot, run.task, run.attempt);
                let is_blind = self.has(Fault::RescheduledBlindly);
                if let Some(index) = self.meant_run(slot, &run, is_blind) {
                    self.try_again(index);
                }
            }
            WorkerToScheduler::Seceded(run) => {
                let is_blind = self.has(Fault::SecededBlindly);
                if let Some(index) = self.meant_run(slot, &run, is_blind) {
                    self.set_seceded(index, true);
                }
            }
            WorkerToScheduler::Rejoined(run) => {
                if let Some(index) = self.current_run(slot, &run) {
                    self.set_seceded(index, false);
                }
            }
            WorkerToScheduler::Fetched(tasks) => {
                tasks.into_iter().for_each(|task| self.on_fetched(slot, task));
            }
            WorkerToScheduler::Stored(values) => {
                values.into_iter().for_each(|(task, size)| self.on_stored(slot, task, size));
            }
            WorkerToScheduler::DepMissing(missing) => self.on_dep_missing(slot, &missing),
            WorkerToScheduler::Retracted(answer) => self.on_retracted(slot, &answer),
            WorkerToScheduler::Heartbeat(heartbeat) => self.on_heartbeat(slot, heartbeat),
            WorkerToScheduler::RunDone(done) => self.on_run_done(slot, done),
            WorkerToScheduler::ActorSnapshot(snapshot) => self.on_actor_snapshot(slot, snapshot),
            WorkerToScheduler::ActorHandedOver(last) => self.on_actor_handed_over(slot, last),
            WorkerToScheduler::RunEnded(run) => self.end_ghost(slot, run.task, run.attempt),
            WorkerToScheduler::LogEvent(event) => self.on_log_event(event),
            WorkerToScheduler::TaskLog(log) => self.on_task_log(slot, log),
            WorkerToScheduler::NotAcquired(declined) => self.on_not_acquired(slot, &declined),
            WorkerToScheduler::Stuck(stuck) => self.on_stuck(slot, &stuck),
            WorkerToScheduler::Memory(news) => self.on_memory_state(slot, news),
            WorkerToScheduler::Lost(tasks) => self.on_lost(slot, &tasks),
            WorkerToScheduler::Spare(tasks) => self.on_spare(slot, &tasks),
            WorkerToScheduler::Unsent(unsent) => self.on_unsent(slot, unsent),
            WorkerToScheduler::Leave(_) => self.on_wish_to_leave(slot),
            WorkerToScheduler::Discarded(tasks) => self.on_discarded(slot, &tasks),
            WorkerToScheduler::Offer(offered) => self.on_offer(slot, offered),
            WorkerToScheduler::Closing(_) => {
                self.workers[slot].end_expected = true;
                self.stop_using(slot);
            }
        }
    }

    fn on_worker_joined(&mut self, number: WorkerNo, info: RegisterWorker) {
        self.replace_absent(&info.name);
        let is_double =
            self.workers.slot(number).is_some() || self.workers.named(&info.name).is_some();
        if is_double {
            let reason = format!(
                "a worker named {:?} is connected already; give this one another --name",
                info.name
            );
            let closing = Closing { reason: reason.clone() };
            self.outbox.push(Action::ToWorker(number, SchedulerToWorker::Close(closing)));
            self.outbox.push(Action::CloseWorker(number, reason));
            return;
        }
        self.note_return(info.returns_from);
        let nthreads = info.nthreads.clamp(1, MAX_THREADS);
        let info = RegisterWorker { nthreads, ..info };
        let mut worker = WorkerRecord::new(number, info, self.now);
        let heartbeat_ms = self.heartbeat_ms_for(self.workers.len() + 1);
        let registered = Registered { worker: number, heartbeat_ms };
        self.outbox.send_worker(&mut worker, SchedulerToWorker::Registered(registered));
        let slot = self.workers.insert(worker);
        self.begin_preparation(slot);
        self.admit_to_classes(slot);
        self.mark_spare(slot);
        self.announce_worker("add-worker", slot);
        self.place_waiting_scatters();
    }

    /// A worker of this name whose connection is broken has ended, or begins anew.
    fn replace_absent(&mut self, name: &str) {
        let is_it =
            |slot: &WorkerSlot| self.workers[*slot].away && self.workers[*slot].info.name == name;
        let Some(slot) = self.workers.slots().find(is_it) else { return };
        let number = self.workers[slot].number;
        self.lose_worker(slot, false);
        self.outbox.push(Action::CutWorker(number, "another one took its name".into()));
    }

    /// Many workers report less often, so that the scheduler hears about 200 reports a second.
    fn heartbeat_ms_for(&self, workers: usize) -> u32 {
        let spread = u32::try_from(workers * 5).unwrap_or(u32::MAX);
        self.config.heartbeat_ms.max(spread).min((self.config.worker_ttl_ns / 5_000_000) as u32)
    }

    /// The task that this worker now runs under this attempt. Anything else is stale.
    pub(super) fn current_run(&mut self, slot: WorkerSlot, run: &TaskAttempt) -> Option<u32> {
        let any_attempt = self.has(Fault::AttemptIgnored);
        let index = self.tasks.get(run.task).filter(|index| {
            let task = &self.tasks[*index];
            let is_current = task.attempt == run.attempt || any_attempt;
            task.state == State::Processing && task.worker == slot && is_current
        });
        if index.is_none() {
            self.counters.stale_messages += 1;
        }
        index
    }

    /// As [`Scheduler::current_run`]; with a planted fault, whatever task of that number there is.
    fn meant_run(&mut self, slot: WorkerSlot, run: &TaskAttempt, is_blind: bool) -> Option<u32> {
        if is_blind { self.tasks.get(run.task) } else { self.current_run(slot, run) }
    }

    /// A freed run is over: what it occupied is free.
    pub(super) fn end_ghost(&mut self, slot: WorkerSlot, task: TaskId, attempt: Attempt) {
        let worker = &mut self.workers[slot];
        let is_it = |ghost: &(TaskId, Attempt, _)| (ghost.0, ghost.1) == (task, attempt);
        if let Some(position) = worker.ghosts.iter().position(is_it) {
            let (_, _, resources) = worker.ghosts.swap_remove(position);
            worker.available.give_back(&resources);
            self.mark_spare(slot);
        }
    }

    fn on_done(&mut self, slot: WorkerSlot, done: TaskDone) {
        let run = TaskAttempt { task: done.task, attempt: done.attempt };
        self.end_ghost(slot, run.task, run.attempt);
        let Some(index) = self.current_run(slot, &run) else {
            self.free_stale_copy(slot, done.task);
            return;
        };
        if self.names_what_is_gone(index) {
            self.outbox.free(&mut self.workers[slot], done.task);
            return self.try_again(index);
        }
        let prefix = self.tasks[index].prefix;
        let size_bytes = done.size_bytes.min(MAX_SIZE_BYTES);
        self.prefixes[prefix].record(done.duration_ns.min(MAX_DURATION_NS), size_bytes);
        self.counters.tasks_done += 1;
        self.tasks[index].suspicions = 0;
        self.finish(index, slot, size_bytes, done.value);
    }

    /// A worker made a result that is not wanted from it: the newer attempt owns the task, so the
    /// copy is freed instead of being a second truth. Not if the newer attempt is its own.
    fn free_stale_copy(&mut self, slot: WorkerSlot, id: TaskId) {
        let is_its_own = self.tasks.get(id).is_some_and(|index| {
            let task = &self.tasks[index];
            task.worker == slot || task.replicas.contains(&slot)
        });
        if !is_its_own && !self.has(Fault::LateCopyStays) {
            self.discard(slot, id);
        }
    }

    /// A worker may have, or be about to get, a copy that does not count.
    fn discard(&mut self, slot: WorkerSlot, id: TaskId) {
        let worker = &mut self.workers[slot];
        if self.tasks.get(id).is_none() {
            // Nothing that is told of it will ever count.
            self.outbox.free(worker, id);
        } else if !worker.discarding.contains(&id) {
            worker.discarding.push(id);
            self.outbox.send_worker(worker, SchedulerToWorker::Discard(vec![id]));
        }
    }

    /// Copies that a worker told of before it heard that it was to discard them are gone.
    fn on_discarded(&mut self, slot: WorkerSlot, tasks: &[TaskId]) {
        let worker = &mut self.workers[slot];
        worker.discarding.retain(|task| !tasks.contains(task));
        let number = worker.number;
        for task in tasks {
            // A copy that was ordered before went with the rest.
            if self.replication.is_ordered(*task, number) {
                let reason = "the worker had to discard it".into();
                self.on_not_acquired(slot, &NotAcquired { task: *task, reason });
            }
        }
    }

    /// What is said of it was said too early to be true.
    fn is_discarded(&mut self, slot: WorkerSlot, id: TaskId) -> bool {
        let is_discarded = self.workers[slot].discarding.contains(&id);
        self.counters.stale_messages += u64::from(is_discarded);
        is_discarded
    }

    fn on_erred(&mut self, slot: WorkerSlot, erred: TaskErred) {
        let run = TaskAttempt { task: erred.task, attempt: erred.attempt };
        self.end_ghost(slot, run.task, run.attempt);
        self.workers[slot].last_progress = self.now;
        let is_blind = self.has(Fault::LateErrorCounts)
            && self.tasks.get(run.task).is_some_and(|it| self.tasks[it].state == State::Processing);
        let Some(index) = self.meant_run(slot, &run, is_blind) else { return };
        self.end_attempt(index, erred.error, false);
        // The worker has just said that the run is over.
        self.end_ghost(slot, run.task, run.attempt);
    }

    fn on_fetched(&mut self, slot: WorkerSlot, id: TaskId) {
        if self.is_discarded(slot, id) {
            return;
        }
        match self.tasks.get(id) {
            Some(index) if self.tasks[index].state == State::Memory => {
                let size_bytes = self.tasks[index].size_bytes;
                self.note_arrival(index, slot);
                self.add_replica(index, slot, size_bytes);
            }
            _ => {
                self.counters.stale_messages += 1;
                self.free_stale_copy(slot, id);
            }
        }
    }

    /// A client put scattered data on a worker.
    fn on_stored(&mut self, slot: WorkerSlot, id: TaskId, size_bytes: u64) {
        if self.is_discarded(slot, id) {
            return;
        }
        let size_bytes = size_bytes.min(MAX_SIZE_BYTES);
        let Some(index) = self.tasks.get(id) else {
            self.counters.stale_messages += 1;
            self.free_stale_copy(slot, id);
            return;
        };
        match self.tasks[index].state {
            State::Waiting if self.tasks[index].kind == Kind::Data => {
                self.finish(index, slot, size_bytes, None);
            }
            State::Memory => self.add_replica(index, slot, size_bytes),
            _ => self.free_stale_copy(slot, id),
        }
    }

    /// A worker could not get an input from anybody it asked.
    fn on_dep_missing(&mut self, slot: WorkerSlot, missing: &DepMissing) {
        let Some(index) = self.tasks.get(missing.dep) else {
            self.counters.stale_messages += 1;
            return;
        };
        self.disbelieve_holders(index, Some(slot), &missing.asked, missing.is_silence);
        if self.tasks.get(missing.dep).is_none() {
            return;
        }
        if self.tasks[index].state == State::Memory {
            self.send_holders(slot, index);
        } else {
            // The new place is told when the result is there again.
            self.tasks[index].marks |= mark::REFETCH;
        }
    }

    /// These workers did not give a result that they were said to hold, `reader` if that is one.
    pub(super) fn disbelieve_holders(
        &mut self,
        index: u32,
        reader: Option<WorkerSlot>,
        asked: &[WorkerNo],
        is_silence: bool,
    ) {
        let replicas = &self.tasks[index].replicas;
        let is_holder = |slot: &WorkerSlot| replicas.contains(slot);
        let holders: SmallVec<[WorkerSlot; 2]> = asked
            .iter()
            .filter_map(|number| self.workers.slot(*number))
            .filter(is_holder)
            .collect();
        let are_all = holders.len() >= replicas.len() && self.tasks[index].value.is_none();
        if self.has(Fault::BrokenTransferLosesWorker) {
            for holder in holders {
                let number = self.workers[holder].number;
                self.lose_worker(holder, true);
                self.outbox.push(Action::CloseWorker(number, "a transfer from it broke".into()));
            }
            return;
        }
        // One that is away may not have heard yet that it holds it.
        let is_some_away = holders.iter().any(|holder| self.workers[*holder].away);
        let is_worth_it = |scheduler: &mut Self| {
            !holders.is_empty() && scheduler.is_worth_another_try(index, is_silence)
        };
        if are_all && (is_some_away || is_worth_it(self)) {
            return;
        }
        let heeds_gaps = are_all && !self.has(Fault::GapsAreWaitedFor);
        if heeds_gaps && reader.is_some_and(|reader| self.part(index, reader, &holders)) {
            return;
        }
        if self.is_actor(index) {
            // A proxy that does not arrive says nothing of the actor: that ends with its worker.
            return;
        }
        for holder in holders {
            self.remove_replica(index, holder);
            // Should it hold the value after all, it must not keep what nobody knows of.
            self.discard(holder, self.tasks.id(index));
        }
        self.lose_result(index);
    }

    /// One broken connection to the last holders, which are still there, does not prove that the
    /// result is gone. The worker that asks waits longer each time; to make a result again too
    /// soon may cost all that led to it, and then the next transfer breaks too.
    ///
    /// A try that ends in silence takes ten seconds and more: two are enough for what can be made
    /// again.
    fn is_worth_another_try(&mut self, index: u32, is_silence: bool) -> bool {
        const TRIES: u8 = 8;
        let task = &mut self.tasks[index];
        let weight = if is_silence && task.kind != Kind::Data { TRIES / 2 } else { 1 };
        let is_worth_it = task.doubts < TRIES;
        task.doubts = task.doubts.saturating_add(weight);
        is_worth_it
    }

    fn on_retracted(&mut self, slot: WorkerSlot, answer: &Retracted) {
        let run = TaskAttempt { task: answer.task, attempt: answer.attempt };
        if answer.given_back {
            self.end_ghost(slot, run.task, run.attempt);
        }
        let is_blind = self.has(Fault::GivenBackBlindly);
        let Some(index) = self.meant_run(slot, &run, is_blind) else { return };
        self.tasks[index].marks &= !mark::RETRACTING;
        if answer.given_back {
            self.counters.retracted += 1;
            self.try_again(index);
        } else {
            self.tasks[index].marks |= mark::KEPT;
        }
    }

    /// `was_seen`: whether it is known to have ended, not only to be out of reach.
    pub(super) fn on_worker_left(&mut self, number: WorkerNo, was_seen: bool) {
        self.forget_absence(Party::Worker(number));
        if let Some(slot) = self.workers.slot(number) {
            self.lose_worker(slot, was_seen);
        }
    }

    /// The worker gets no new tasks; those that it has go on.
    pub(super) fn stop_using(&mut self, slot: WorkerSlot) {
        self.workers[slot].leaving = true;
        self.dismiss_from_classes(slot);
        self.spill_queue(slot);
    }

    /// The worker is gone, with all that it held and ran.
    /// `was_seen`: as for [`Self::on_worker_left`].
    pub(super) fn lose_worker(&mut self, slot: WorkerSlot, was_seen: bool) {
        if !self.workers[slot].end_expected {
            self.counters.workers_lost += 1;
        }
        self.stop_using(slot);
        self.end_reservation(slot);
        self.forget_copies_to(slot);
        let mut held: Vec<u32> = self.workers[slot].held.iter().copied().collect();
        held.sort_unstable();
        let mut lost_actors = Executing::new();
        for index in held {
            let was_home = self.is_actor(index) && self.lives_on(index, slot);
            self.remove_replica(index, slot);
            if was_home {
                self.lose_actor(index, &mut lost_actors);
            } else {
                self.lose_result(index);
            }
        }
        if !self.has(Fault::LostWorkerKeepsTasks) {
            self.judge_lost_tasks(slot, lost_actors);
        }
        self.forget_scatters_to(slot);
        self.forget_run_on(slot);
        self.forget_preparation_of(slot);
        self.announce_worker("remove-worker", slot);
        self.forget_coordination_on(slot);
        self.standings.put(&mut self.workers, slot, Standing::Out);
        self.victims.retain(|other| *other != slot);
        self.overfull.retain(|other| *other != slot);
        self.functions.lose_holder(&self.workers[slot].functions, slot);
        let number = self.workers[slot].number;
        self.forget_absence(Party::Worker(number));
        self.forget_offers_of(number);
        self.partings.forget_worker(number);
        self.end_introductions_to(slot, !was_seen);
        self.workers.remove(slot);
        self.run_steps();
    }

    /// Who knows where the worker served its data forgets it: numbers are never used again, so that
    /// nobody will be told of it once more. If nobody has seen it end, all are told: some have
    /// its address from elsewhere, and nothing else may ever end what they wait for.
    fn end_introductions_to(&mut self, slot: WorkerSlot, is_silent: bool) {
        let worker = &self.workers[slot];
        let number = worker.number;
        let cut = if is_silent { worker.info.address.clone() } else { String::new() };
        let gone = WorkerGone { worker: number, cut };
        for other in self.workers.slots().filter(|other| *other != slot).collect::<Vec<_>>() {
            let other = &mut self.workers[other];
            if other.peers.remove(&number) || is_silent {
                self.outbox.worker_gone_to_worker(other, gone.clone());
            }
        }
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let Some(record) = self.clients.get_mut(&client) else { continue };
            if record.peers.remove(&number) || is_silent {
                let last = &mut record.last_action;
                self.outbox.worker_gone_to_client(client, last, gone.clone());
            }
        }
    }

    pub(super) fn next_worker_deadline(&self) -> Option<Nanos> {
        if self.workers.len() == 0 {
            return None;
        }
        // Sooner than that, to notice by its absence that the scheduler itself was stopped.
        Some(self.silence_at.min(self.last_poll.after(self.config.worker_ttl_ns / 4)))
    }

    pub(super) fn lose_silent_workers(&mut self) {
        if self.silence_at > self.now || self.has(Fault::SilenceIgnored) {
            return;
        }
        for slot in self.workers.slots().collect::<Vec<_>>() {
            let worker = &self.workers[slot];
            if worker.away || self.now.since(worker.last_seen) < self.config.worker_ttl_ns {
                continue;
            }
            let number = worker.number;
            let silent_s = self.now.since(worker.last_seen) / Nanos::SECOND;
            self.lose_worker(slot, false);
            let reason = format!("nothing was heard from it for {silent_s} s");
            self.outbox.push(Action::CutWorker(number, reason));
        }
        // Who is heard of meanwhile only moves it later, and so does who joins: found anew then.
        let here = self.workers.iter().filter(|worker| !worker.away);
        let seen = here.map(|worker| worker.last_seen).min();
        self.silence_at = seen.unwrap_or(self.now).after(self.config.worker_ttl_ns);
    }

    pub(super) fn fail_tasks_without_workers(&mut self) {
        let Some(timeout) = self.config.no_workers_timeout_ns else { return };
        while let Some((since, entry)) = self.without_worker.front().copied() {
            let index = entry.task;
            let still_waits = Self::is_entry_valid(&self.tasks, &entry)
                && self.tasks[index].state == State::NoWorker;
            if still_waits && self.now.since(since) < timeout {
                return;
            }
            self.without_worker.pop_front();
            if !still_waits {
                continue;
            }
            let error = self.no_valid_worker_error(index, timeout);
            self.steps.push(Step::Fail(index, error));
        }
    }

    fn no_valid_worker_error(&self, index: u32, timeout_ns: u64) -> Arc<ErrorInfo> {
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        let message = format!(
            "task {} needs workers {:?} and resources {}, which none of the {} connected workers \
             offers, and none came within {} s; start a worker that does, or lower the request",
            task.key,
            class.workers,
            class.resources,
            self.workers.len(),
            timeout_ns as f64 / 1e9
        );
        Arc::new(ErrorInfo {
            type_name: "NoValidWorkerError".into(),
            message,
            origin: Some(task.key.clone()),
            ..ErrorInfo::default()
        })
    }
}
