//! Workers that leave in order: by their own wish, or since their supervisor stops.

use super::Scheduler;
use super::questions::Afterwards;
use super::task::mark;
use super::worker_table::WorkerSlot;
use taskloom_proto::worker::{SchedulerToWorker, TaskAttempt};

impl Scheduler {
    /// The worker is asked to end. It is retired: others take over what only it holds, and what it
    /// has not started.
    pub(super) fn on_wish_to_leave(&mut self, slot: WorkerSlot) {
        let number = self.workers[slot].number;
        let retiring = &mut self.questions.retiring;
        let known = retiring.iter().position(|retiring| retiring.number == number);
        if known.is_none() {
            self.retire(slot, Afterwards::Close);
            self.ask_all_back(slot);
        }
        let retiring = self.questions.retiring.iter_mut();
        for retiring in retiring.filter(|retiring| retiring.number == number) {
            retiring.afterwards = Afterwards::Close;
            retiring.asked_itself = true;
        }
    }

    fn ask_all_back(&mut self, slot: WorkerSlot) {
        const STAYS: u16 = mark::RETRACTING | mark::KEPT | mark::SECEDED;
        for index in self.workers[slot].processing.clone() {
            let task = &mut self.tasks[index];
            if task.has(STAYS) {
                continue;
            }
            task.marks |= mark::RETRACTING;
            let run =
                TaskAttempt { task: self.tasks.id(index), attempt: self.tasks[index].attempt };
            let message = SchedulerToWorker::Retract(run);
            self.outbox.send_worker(&mut self.workers[slot], message);
        }
    }

    /// A supervisor is about to end these workers, all at once: none is to take over from another.
    pub(super) fn on_stopping(&mut self, names: &[String]) {
        let is_meant = |slot: &WorkerSlot| {
            let info = &self.workers[*slot].info;
            info.supervised && names.contains(&info.name)
        };
        let meant: Vec<WorkerSlot> = self.workers.slots().filter(is_meant).collect();
        for slot in &meant {
            self.workers[*slot].end_expected = true;
            self.stop_using(*slot);
        }
        let is_end_of_all = self.workers.iter().all(|worker| worker.leaving);
        for slot in meant {
            self.workers[slot].ends_with_all = is_end_of_all;
        }
    }
}
