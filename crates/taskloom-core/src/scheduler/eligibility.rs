//! Who may run which tasks, kept up as workers join and leave.

use super::Scheduler;
use super::queue::Entry;
use super::task::State;
use super::worker_table::WorkerSlot;

impl Scheduler {
    /// A worker joined: runnable tasks change from no-worker to queued where that follows.
    pub(super) fn admit_to_classes(&mut self, slot: WorkerSlot) {
        for class in self.classes.iter() {
            if self.classes[class].has_fallback() {
                self.refresh_class(class);
            } else if self.classes[class].suits(&self.workers[slot]) {
                self.classes[class].add_eligible(slot);
                self.workers[slot].classes.push(class);
                self.requeue_class(class);
            }
        }
        self.placement_due = true;
    }

    /// A worker gets no new tasks: runnable ones change to no-worker where that follows.
    pub(super) fn dismiss_from_classes(&mut self, slot: WorkerSlot) {
        for class in std::mem::take(&mut self.workers[slot].classes) {
            self.classes[class].remove_eligible(slot);
            if self.classes[class].has_fallback() {
                self.refresh_class(class);
            } else {
                self.requeue_class(class);
            }
        }
        self.park_suspects();
        self.placement_due = true;
    }

    /// Finds anew who may run a class for which others serve when those named are away.
    fn refresh_class(&mut self, class: u32) {
        let eligible = self.classes[class].find_eligible(&self.workers);
        if eligible != self.classes[class].eligible {
            let before = std::mem::take(&mut self.classes[class].eligible);
            self.drop_class(class, &before);
            for slot in &eligible {
                self.workers[*slot].classes.push(class);
            }
            self.classes[class].eligible = eligible;
            self.fresh_classes.push(class);
        }
        self.requeue_class(class);
    }

    /// A class of which no task is left, or that these workers may no longer run.
    pub(super) fn drop_class(&mut self, class: u32, eligible: &[WorkerSlot]) {
        for slot in eligible {
            if let Some(worker) = self.workers.get_mut(*slot) {
                worker.classes.retain(|other| *other != class);
            }
        }
    }

    /// Suspects that nobody may run any more do not keep others waiting.
    fn park_suspects(&mut self) {
        let Self { tasks, classes, suspects, .. } = self;
        let is_stranded = |id| {
            let task = tasks.get(id).map(|index| &tasks[index]);
            task.is_some_and(|task| classes[task.class].eligible.is_empty())
        };
        for id in suspects.take_if(is_stranded) {
            self.set_state(id.index, State::NoWorker);
            self.push_to_class(id.index);
        }
    }

    fn requeue_class(&mut self, class: u32) {
        let to =
            if self.classes[class].eligible.is_empty() { State::NoWorker } else { State::Queued };
        let tasks = &self.tasks;
        let is_valid = |entry: &Entry| Self::is_entry_valid(tasks, entry);
        let record = &mut self.classes[class];
        let first = record.queue.peek(is_valid).map(|entry| tasks[entry.task].state);
        if first.is_none_or(|state| state == to) {
            return;
        }
        let entries = std::mem::take(&mut record.queue).drain(is_valid);
        for entry in entries {
            self.set_state(entry.task, to);
            if to == State::Queued && self.tasks[entry.task].suspicions > 0 {
                self.suspects.add(self.tasks.id(entry.task));
            } else {
                self.push_to_class(entry.task);
            }
        }
    }
}
