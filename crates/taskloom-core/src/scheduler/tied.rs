//! Tasks whose inputs cannot be sent: a socket, a lock, a generator. Only where the input is can they
//! run, and nobody knows before a worker has asked for it in vain.
//!
//! Dask's scheduler gives a task without restrictions to a holder of its inputs and nearly always
//! leaves it there, so programs rely on it (LightGBM hands open ports from task to task).

use super::Scheduler;
use super::task::mark;
use super::worker_table::WorkerSlot;
use taskloom_proto::worker::{TaskAttempt, UnsentInput};

impl Scheduler {
    /// A run could not start since an input cannot come. It is tried again where that is, once: who
    /// needs two such inputs from two workers runs nowhere.
    pub(super) fn on_unsent(&mut self, slot: WorkerSlot, unsent: UnsentInput) {
        let run = TaskAttempt { task: unsent.task, attempt: unsent.attempt };
        self.end_ghost(slot, run.task, run.attempt);
        let Some(index) = self.current_run(slot, &run) else { return };
        match self.workers.slot(unsent.holder) {
            Some(holder) if self.tie(index, holder) => self.try_again(index),
            // It may come from another holder, or is made again.
            None => self.try_again(index),
            Some(_) => {
                self.end_attempt(index, unsent.error, false);
                self.end_ghost(slot, run.task, run.attempt);
            }
        }
    }

    /// Restricts a task to a worker as long as that is there. False: it may not run there, or has
    /// been restricted in this way before.
    fn tie(&mut self, index: u32, holder: WorkerSlot) -> bool {
        let task = &self.tasks[index];
        let class = &self.classes[task.class];
        let may_run_there = class.is_eligible(holder)
            || (class.allow_other_workers && class.covers(&self.workers[holder]));
        if task.has(mark::TIED) || !may_run_there {
            return false;
        }
        let address = self.workers[holder].info.address.clone();
        let resources = class.resources.clone();
        let class = self.intern_class((&[address], true), &resources);
        self.set_prefix_and_class(index, None, class);
        self.tasks[index].marks |= mark::TIED;
        true
    }
}
