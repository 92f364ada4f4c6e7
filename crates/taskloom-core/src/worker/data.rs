//! Values: who made them, who needs them, when they go.

use super::memory::Place;
use super::planted::Fault;
use super::rejoin::Name;
use super::{Action, Worker};
use taskloom_proto::SmallBytes;
use taskloom_proto::rejoin::Named;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::TaskId;

/// A value that is here.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) size_bytes: u64,
    /// Whether the scheduler knows, and keeps it here until it says `Free`. Otherwise the value
    /// goes with the last run that needs it: an inline input, or one that was freed while a run
    /// here still needed it.
    pub(super) reported: bool,
    pub(super) place: Place,
    /// Whether it came from another worker, and the scheduler was not yet asked whether it may go.
    pub(super) is_spare: bool,
    /// What it costs to make it again.
    pub(super) remaking: Remaking,
    /// Runs that are about to start with it: it stays in memory.
    pub(super) pins: u16,
    /// The last run that started with it, or that was started before it came.
    pub(super) used: u32,
}

/// The cost of making a value again: the logarithm of milliseconds, 0: less than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remaking(u8);

impl Remaking {
    /// Another worker has it, or it came with its run.
    pub(super) const NOTHING: Self = Self(0);
    /// Nothing can make scattered data again.
    pub(super) const IMPOSSIBLE: Self = Self(40);

    pub(super) fn of_run(duration_ns: u64) -> Self {
        let ms = duration_ns / 1_000_000;
        Self(u64::BITS.saturating_sub(ms.leading_zeros()) as u8)
    }

    /// What a value counts for when some have to leave memory: less if it took long to make, since
    /// disks fail. A second counts for 0.3, an hour for 0.15 of what no time does.
    pub(super) fn discount(self, worth: u64) -> u64 {
        worth.saturating_mul(4) / (4 + u64::from(self.0))
    }
}

impl Worker {
    /// A value has come, from a run, a peer or a client. Replaces an older one of the task.
    pub(super) fn value_is_here(&mut self, task: TaskId, size_bytes: u64, reported: bool) {
        let before = self.tasks.entry(task).or_default().data.take();
        if let Some(before) = &before {
            self.managed_bytes -= before.size_bytes;
            self.forget_place(task, before.place, before.size_bytes);
        }
        self.managed_bytes = self.managed_bytes.saturating_add(size_bytes);
        let used = self.memory.clock;
        let local = self.tasks.entry(task).or_default();
        let is_news = local.acquired && !reported;
        let reported = reported || local.acquired || before.as_ref().is_some_and(|d| d.reported);
        let pins = before.map_or(0, |d| d.pins);
        let place = Place::Memory;
        let remaking = Remaking::NOTHING;
        local.data =
            Some(Data { size_bytes, reported, place, is_spare: false, remaking, pins, used });
        local.fetch = None;
        self.wake_waiters(task);
        self.void_order(task);
        if is_news {
            self.send(WorkerToScheduler::Fetched(vec![task]));
        }
        self.check_target();
    }

    /// Keeps an encoded value that came inside a message, for the runs that need it.
    pub(super) fn keep_inline(&mut self, task: TaskId, value: SmallBytes) {
        let size_bytes = value.len() as u64;
        self.actions.push(Action::StoreInline { task, value });
        // A run of the same task that has not started is thereby done, and the scheduler knows.
        let finished = self.finish_unstarted(task, size_bytes);
        self.value_is_here(task, size_bytes, finished);
    }

    /// A client put a value here.
    pub fn on_stored(&mut self, value: Named, size_bytes: u64) {
        let Named { task, key, spec_hash } = value;
        self.finish_unstarted(task, size_bytes);
        self.value_is_here(task, size_bytes, true);
        self.note_remaking(task, Remaking::IMPOSSIBLE);
        self.set_name(task, Name { key, spec_hash });
        self.send(WorkerToScheduler::Stored(vec![(task, size_bytes)]));
    }

    pub(super) fn note_remaking(&mut self, task: TaskId, remaking: Remaking) {
        if let Some(data) = self.tasks.get_mut(&task).and_then(|local| local.data.as_mut()) {
            data.remaking = remaking;
        }
    }

    /// One unstarted run less needs the task's value.
    pub(super) fn stop_using(&mut self, task: TaskId) {
        let clock = self.memory.clock;
        let Some(local) = self.tasks.get_mut(&task) else { return };
        local.users = local.users.saturating_sub(1);
        if let Some(data) = &mut local.data {
            data.used = clock;
        }
        if local.users > 0 {
            // Entries of runs that are gone must not pile up on a task that never comes.
            if local.waiters.len() > 64 && local.waiters.len() / 2 > local.users as usize {
                self.compact_waiters(task);
            }
            return;
        }
        local.waiters.clear();
        local.fetch = None;
        if local.data.as_ref().is_some_and(|d| !d.reported) {
            self.drop_value(task);
        }
        if !self.has(Fault::UnneededInputStays) {
            self.forget_if_idle(task);
        }
    }

    fn compact_waiters(&mut self, task: TaskId) {
        let Some(local) = self.tasks.get_mut(&task) else { return };
        let mut waiters = std::mem::take(&mut local.waiters);
        waiters.retain(|(waiter, serial)| {
            let run = self.tasks.get(waiter).and_then(|t| t.run.as_ref());
            run.is_some_and(|r| r.serial == *serial)
        });
        if let Some(local) = self.tasks.get_mut(&task) {
            local.waiters = waiters;
        }
    }

    pub(super) fn drop_value(&mut self, task: TaskId) {
        let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.take()) else { return };
        self.managed_bytes -= data.size_bytes;
        self.forget_place(task, data.place, data.size_bytes);
        self.actions.push(Action::DropValue(task));
    }

    /// Nobody wants these results any more.
    pub fn on_free(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            self.free(*task);
        }
        // Only now: a list may name an input before the runs that need it.
        for task in tasks {
            self.orphan_waiters(*task, true);
        }
        self.give_back_room();
    }

    /// As [`Self::on_free`], and the scheduler hears that it is so.
    pub fn on_discard(&mut self, tasks: Vec<TaskId>) {
        self.on_free(&tasks);
        self.send(WorkerToScheduler::Discarded(tasks));
    }

    /// A burst of tasks does not keep its memory for ever.
    fn give_back_room(&mut self) {
        /// Smaller tables are not worth the work.
        const SMALL: usize = 4096;
        if self.tasks.capacity() > SMALL && self.tasks.len() < self.tasks.capacity() / 8 {
            self.tasks.shrink_to(SMALL.max(self.tasks.len() * 2));
        }
        for queue in [&mut self.ready, &mut self.ready_coroutines] {
            if queue.heap.capacity() > SMALL && queue.heap.len() < queue.heap.capacity() / 8 {
                queue.heap.shrink_to(SMALL.max(queue.heap.len() * 2));
            }
        }
    }

    fn free(&mut self, task: TaskId) {
        if !self.tasks.contains_key(&task) {
            self.counters.unknown_tasks += 1;
            return;
        }
        self.take_back_run(task);
        self.void_order(task);
        let Some(local) = self.tasks.get_mut(&task) else { return };
        if let Some(data) = &mut local.data {
            data.reported = false;
            if local.users == 0 {
                self.drop_value(task);
            }
        }
        self.forget_if_idle(task);
    }
}
