//! What the scheduler asks of those who start and end the workers' processes.

use super::planted::Fault;
use super::worker_table::WorkerSlot;
use super::{Action, Scheduler};
use taskloom_proto::supervisor::{SchedulerToSupervisor, WorkerName};
use taskloom_types::ConnId;

/// What is to be done with a worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// End it and start another.
    Replace,
    /// End it for good.
    Stop,
}

impl Errand {
    fn message(self, name: String) -> SchedulerToSupervisor {
        match self {
            Self::Replace => SchedulerToSupervisor::RestartWorker(WorkerName { name }),
            Self::Stop => SchedulerToSupervisor::StopWorker(WorkerName { name }),
        }
    }
}

impl Scheduler {
    /// In a fixed order: what the scheduler does is a function of what it was told.
    pub(super) fn all_supervisors(&self) -> Vec<ConnId> {
        let mut supervisors: Vec<ConnId> = self.supervisors.keys().copied().collect();
        supervisors.sort_unstable();
        supervisors
    }

    /// Nobody knows whose worker it is: all supervisors are asked, and those who come (back) while
    /// it is still there.
    pub(super) fn ask_supervisors(&mut self, slot: WorkerSlot, errand: Errand) {
        self.workers[slot].errand = Some(errand);
        for supervisor in self.all_supervisors() {
            let message = errand.message(self.workers[slot].info.name.clone());
            self.outbox.push(Action::ToSupervisor(supervisor, message));
        }
    }

    /// A supervisor came, or came back after the scheduler was started again: what was asked
    /// meanwhile was asked of nobody.
    pub(super) fn on_supervisor_joined(&mut self, supervisor: ConnId, name: String) {
        self.supervisors.insert(supervisor, name);
        if self.has(Fault::ErrandsForgotten) {
            return;
        }
        for worker in self.workers.iter() {
            if let Some(errand) = worker.errand {
                let message = errand.message(worker.info.name.clone());
                self.outbox.push(Action::ToSupervisor(supervisor, message));
            }
        }
    }
}
