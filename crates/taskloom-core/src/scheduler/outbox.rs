//! What is to be sent. Messages to one receiver are joined while their order allows it.

use super::Action;
use super::worker_table::WorkerRecord;
use taskloom_proto::client::{KeyReady, SchedulerToClient};
use taskloom_proto::gone::WorkerGone;
use taskloom_proto::worker::{ComputeTask, SchedulerToWorker};
use taskloom_types::{ClientId, TaskId};

/// The actions since the last [`Outbox::drain`]. Where a receiver's last message is kept in the
/// receiver's record as an index with the drain's number: an index of an earlier drain is old.
#[derive(Debug, Default)]
pub struct Outbox {
    actions: Vec<Action>,
    /// Added to every index that receivers remember, so that old ones never match.
    base: usize,
}

impl Outbox {
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn send_client(&mut self, client: ClientId, last: &mut usize, message: SchedulerToClient) {
        *last = self.base + self.actions.len();
        self.actions.push(Action::ToClient(client, message));
    }

    pub fn ready(&mut self, client: ClientId, last: &mut usize, ready: KeyReady) {
        match self.last_to_client(*last) {
            Some(SchedulerToClient::Ready(list)) => list.push(ready),
            _ => self.send_client(client, last, SchedulerToClient::Ready(vec![ready])),
        }
    }

    pub fn send_worker(&mut self, worker: &mut WorkerRecord, message: SchedulerToWorker) {
        worker.last_action = self.base + self.actions.len();
        self.actions.push(Action::ToWorker(worker.number, message));
    }

    pub fn compute(&mut self, worker: &mut WorkerRecord, task: ComputeTask) {
        // Messages are bounded: tasks that carry much data travel alone.
        const LARGE: usize = 64 * 1024;
        if let Some(SchedulerToWorker::Compute(list)) = self.last_to_worker(worker)
            && task.body.len() < LARGE
            && list.last().is_none_or(|last| last.body.len() < LARGE)
        {
            list.push(task);
            return;
        }
        self.send_worker(worker, SchedulerToWorker::Compute(vec![task]));
    }

    pub fn free(&mut self, worker: &mut WorkerRecord, task: TaskId) {
        match self.last_to_worker(worker) {
            Some(SchedulerToWorker::Free(list)) => list.push(task),
            _ => self.send_worker(worker, SchedulerToWorker::Free(vec![task])),
        }
    }

    pub fn worker_gone_to_worker(&mut self, worker: &mut WorkerRecord, gone: WorkerGone) {
        match self.last_to_worker(worker) {
            Some(SchedulerToWorker::PeersGone(list)) => list.push(gone),
            _ => self.send_worker(worker, SchedulerToWorker::PeersGone(vec![gone])),
        }
    }

    pub fn worker_gone_to_client(&mut self, client: ClientId, last: &mut usize, gone: WorkerGone) {
        match self.last_to_client(*last) {
            Some(SchedulerToClient::PeersGone(list)) => list.push(gone),
            _ => self.send_client(client, last, SchedulerToClient::PeersGone(vec![gone])),
        }
    }

    /// The message that goes to a worker last, so far.
    fn last_to_worker(&mut self, worker: &WorkerRecord) -> Option<&mut SchedulerToWorker> {
        match self.remembered(worker.last_action)? {
            Action::ToWorker(_, message) => Some(message),
            _ => None,
        }
    }

    /// As [`Self::last_to_worker`], of a client.
    fn last_to_client(&mut self, last: usize) -> Option<&mut SchedulerToClient> {
        match self.remembered(last)? {
            Action::ToClient(_, message) => Some(message),
            _ => None,
        }
    }

    fn remembered(&mut self, index: usize) -> Option<&mut Action> {
        self.actions.get_mut(index.checked_sub(self.base)?)
    }

    pub fn drain(&mut self) -> Vec<Action> {
        self.base += self.actions.len();
        std::mem::take(&mut self.actions)
    }
}
