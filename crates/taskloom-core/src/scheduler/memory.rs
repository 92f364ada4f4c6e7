//! Memory of workers: who is paused, which part of it is no result, and producers that wait until
//! there is room for what they make.

use super::Scheduler;
use super::placement::LARGE_RESULT_BYTES;
use super::questions::Afterwards;
use super::task::Kind;
use super::worker_table::{WorkerRecord, WorkerSlot};
use std::collections::VecDeque;
use taskloom_proto::Value;
use taskloom_proto::client::{Notice, SchedulerToClient};
use taskloom_proto::memory::MemoryState;
use taskloom_proto::worker::Heartbeat;
use taskloom_types::{ClientId, Nanos, TaskId};

/// Memory of a worker that no result accounts for, over time: the least of a while is what is
/// there to stay, the rest may be of tasks that run.
#[derive(Debug, Default)]
pub struct Unmanaged {
    /// Least first; each entry is the least since the one before it.
    history: VecDeque<(Nanos, u64)>,
}

impl Unmanaged {
    fn record(&mut self, now: Nanos, bytes: u64, window_ns: u64) {
        while self.history.back().is_some_and(|(_, before)| *before >= bytes) {
            self.history.pop_back();
        }
        self.history.push_back((now, bytes));
        while self.history.len() > 1
            && self.history.front().is_some_and(|(at, _)| now.since(*at) > window_ns)
        {
            self.history.pop_front();
        }
    }

    /// In bytes.
    pub fn least(&self) -> u64 {
        self.history.front().map_or(0, |(_, bytes)| *bytes)
    }
}

impl WorkerRecord {
    /// Bytes of results in memory, not on disk.
    fn managed_in_memory(&self) -> u64 {
        self.metrics.managed_bytes.saturating_sub(self.metrics.spilled_bytes)
    }

    /// What the process occupies, as far as can be told: it was measured a while ago, and some
    /// results are newer. Where its size does not matter, as of a program with workers in its
    /// threads, only results count.
    pub fn memory_bytes(&self) -> u64 {
        let newest = self.held_bytes.saturating_sub(self.metrics.spilled_bytes);
        if self.info.pause_bytes == 0 {
            return newest;
        }
        self.metrics.resident_bytes.max(newest.saturating_add(self.unmanaged.least()))
    }

    /// Whether so many bytes more bring it where workers pause.
    pub fn is_full_with(&self, more_bytes: u64) -> bool {
        let pause_bytes = self.info.pause_bytes;
        pause_bytes > 0 && self.memory_bytes().saturating_add(more_bytes) > pause_bytes
    }

    /// Beyond this, memory is short: results go to disk or, where none do, nothing starts. 0: it
    /// never is.
    fn short_from_bytes(&self) -> u64 {
        match self.info.target_bytes {
            0 => self.info.pause_bytes,
            target => target,
        }
    }
}

impl Scheduler {
    pub(super) fn on_heartbeat(&mut self, slot: WorkerSlot, heartbeat: Heartbeat) {
        let window_ns = self.config.recent_to_old_ns;
        let worker = &mut self.workers[slot];
        worker.metrics = heartbeat;
        let bytes = worker.metrics.resident_bytes.saturating_sub(worker.managed_in_memory());
        worker.unmanaged.record(self.now, bytes, window_ns);
        if std::mem::take(&mut worker.holds_back) {
            // There may be room by now.
            self.mark_spare(slot);
        }
    }

    pub(super) fn on_memory_state(&mut self, slot: WorkerSlot, news: MemoryState) {
        let was_paused = self.workers[slot].paused.is_some();
        if news.state == MemoryState::RUNNING {
            self.workers[slot].paused = None;
            if was_paused {
                self.announce_memory("worker-resumed", slot, "");
                self.mark_spare(slot);
                self.place_waiting_scatters();
            }
            return;
        }
        self.workers[slot].paused = Some(news.reason.clone());
        if !was_paused {
            self.announce_memory("worker-paused", slot, &news.reason);
            self.spill_queue(slot);
            self.free_reservation(slot);
            self.placement_due = true;
        }
        if news.state == MemoryState::EXHAUSTED {
            self.replace_exhausted(slot, &news.reason);
        }
    }

    fn announce_memory(&mut self, action: &str, slot: WorkerSlot, reason: &str) {
        let info = &self.workers[slot].info;
        let (address, name) = (info.address.clone(), info.name.clone());
        self.log("WARNING", format!("{action}: {name} at {address}: {reason}"));
        let facts = [
            ("worker", Value::from(address)),
            ("name", Value::from(name)),
            ("reason", Value::from(reason)),
        ];
        self.announce(action, facts);
    }

    /// Waiting does not help a worker: what it holds moves to others, and its process is replaced.
    fn replace_exhausted(&mut self, slot: WorkerSlot, reason: &str) {
        let worker = &self.workers[slot];
        let is_possible =
            worker.info.supervised && !self.supervisors.is_empty() && !worker.end_expected;
        if !is_possible || self.would_lose_for_ever(slot) {
            return;
        }
        self.announce_memory("worker-exhausted", slot, reason);
        let info = &self.workers[slot].info;
        let (name, address) = (&info.name, &info.address);
        let text = format!("worker {name} at {address} is replaced by a new process: {reason}");
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let Some(record) = self.clients.get_mut(&client) else { continue };
            let message = SchedulerToClient::Notice(Notice { message: text.clone() });
            self.outbox.send_client(client, &mut record.last_action, message);
        }
        self.retire(slot, Afterwards::Replace);
    }

    /// Whether a new process would cost what cannot be made again, and nobody can take it.
    fn would_lose_for_ever(&self, slot: WorkerSlot) -> bool {
        let others = self.workers.slots().filter(|other| *other != slot);
        let mut others = others.filter(|other| self.workers[*other].takes_copies());
        let has_refuge = others.next().is_some();
        self.workers[slot].held.iter().any(|index| {
            let task = &self.tasks[*index];
            let is_sole = task.replicas.len() == 1 && task.value.is_none();
            let is_actor = self.is_actor(*index) && self.lives_on(*index, slot);
            is_actor || (task.kind == Kind::Data && is_sole && !has_refuge)
        })
    }

    /// A worker's disk did not give these results back.
    pub(super) fn on_lost(&mut self, slot: WorkerSlot, tasks: &[TaskId]) {
        for id in tasks {
            match self.tasks.get(*id) {
                Some(index) if self.tasks[index].replicas.contains(&slot) => {
                    self.remove_replica(index, slot);
                    self.lose_result(index);
                    self.run_steps();
                }
                _ => self.counters.stale_messages += 1,
            }
        }
    }

    /// Copies that a worker would rather drop: each goes if another worker, which stays, has it.
    pub(super) fn on_spare(&mut self, slot: WorkerSlot, tasks: &[TaskId]) {
        for id in tasks {
            let Some(index) = self.tasks.get(*id) else {
                self.counters.stale_messages += 1;
                continue;
            };
            let holders = &self.tasks[index].replicas;
            let is_there_too = holders.contains(&slot)
                && holders.iter().any(|other| *other != slot && !self.workers[*other].leaving);
            // The copies of a local result are only good with the first.
            if is_there_too && !self.is_local(index) {
                self.remove_replica(index, slot);
                self.outbox.free(&mut self.workers[slot], *id);
                self.counters.spared_copies += 1;
            }
        }
    }

    /// Whether a task that makes much from nothing is to wait: memory is short at this worker, and
    /// something runs there whose end changes that, or at least comes first.
    pub(super) fn holds_back(&mut self, slot: WorkerSlot, index: u32) -> bool {
        let worker = &self.workers[slot];
        let bound = worker.short_from_bytes();
        let running = worker.active - worker.blocked;
        if bound == 0 || running == 0 {
            return false;
        }
        let task = &self.tasks[index];
        let size_bytes = self.prefixes[task.prefix].size_bytes;
        if size_bytes <= LARGE_RESULT_BYTES || !task.deps.is_empty() {
            return false;
        }
        // What runs there is taken to be of the same kind.
        let runs = u64::from(running.min(worker.info.nthreads)) + 1;
        let expected = size_bytes.saturating_mul(runs);
        let is_short = worker.memory_bytes().saturating_add(expected) > bound;
        self.workers[slot].holds_back |= is_short;
        is_short
    }

    pub(super) fn describe_memory(&self, slot: WorkerSlot) -> Value {
        let worker = &self.workers[slot];
        let (process, managed) = (worker.metrics.resident_bytes, worker.managed_in_memory());
        let unmanaged = process.saturating_sub(managed);
        let old = worker.unmanaged.least().min(unmanaged);
        Value::map([
            ("process", Value::from(process)),
            ("managed", Value::from(managed.min(process))),
            ("spilled", Value::from(worker.metrics.spilled_bytes)),
            ("unmanaged", Value::from(unmanaged)),
            ("unmanaged_old", Value::from(old)),
            ("unmanaged_recent", Value::from(unmanaged - old)),
            ("optimistic", Value::from(managed.min(process).saturating_add(old))),
        ])
    }

    /// # Errors
    /// A paused worker has what it should not.
    pub(super) fn validate_memory(&self) -> Result<(), String> {
        for worker in self.workers.iter().filter(|worker| worker.paused.is_some()) {
            if worker.queue.len() > 0 {
                return Err(format!("tasks wait for worker {}, which is paused", worker.info.name));
            }
        }
        Ok(())
    }
}
