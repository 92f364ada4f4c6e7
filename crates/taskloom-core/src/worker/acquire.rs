//! Copies that the scheduler orders: values that this worker shall hold although no run here needs
//! them. Until the value is there the order counts as one user of it.

use super::Worker;
use taskloom_proto::control::NotAcquired;
use taskloom_proto::worker::{DepRef, WorkerToScheduler};
use taskloom_types::{Nanos, Priority, TaskId};

impl Worker {
    /// The scheduler wants copies here.
    pub fn on_acquire(&mut self, now: Nanos, wanted: Vec<DepRef>) {
        for dep in wanted {
            self.acquire(dep);
        }
        self.start_fetches(now);
    }

    fn acquire(&mut self, dep: DepRef) {
        let local = self.tasks.entry(dep.task).or_default();
        if local.run.is_some() {
            // The scheduler will hear from the run, or has freed it.
            self.send_declined(dep.task, "the worker runs the task itself");
            return;
        }
        if let Some(data) = &mut local.data {
            data.reported = true;
            self.send(WorkerToScheduler::Fetched(vec![dep.task]));
            return;
        }
        if self.memory.is_paused() {
            self.send_declined(dep.task, super::memory::PAUSED);
            self.forget_if_idle(dep.task);
            return;
        }
        if !local.acquired {
            local.acquired = true;
            local.users += 1;
        }
        // Behind what runs need.
        self.want(dep.task, dep.holders, dep.size_bytes, Priority(u128::MAX));
    }

    /// The copy cannot be had: the scheduler is told, and the order is void.
    pub(super) fn decline(&mut self, task: TaskId, why: &str) {
        if self.void_order(task) {
            self.send_declined(task, why);
        }
    }

    fn send_declined(&mut self, task: TaskId, why: &str) {
        let declined = NotAcquired { task, reason: why.to_string() };
        self.send(WorkerToScheduler::NotAcquired(declined));
    }

    /// Whether there was an order.
    pub(super) fn void_order(&mut self, task: TaskId) -> bool {
        let Some(local) = self.tasks.get_mut(&task) else { return false };
        let was_ordered = std::mem::take(&mut local.acquired);
        if was_ordered {
            self.stop_using(task);
        }
        was_ordered
    }
}
