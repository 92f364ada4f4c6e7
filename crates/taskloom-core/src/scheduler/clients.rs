//! What clients say about keys: want, release, cancel, try again.

use super::planted::Fault;
use super::task::{Kind, State, mark};
use super::transitions::{DropReason, Interrupting, Step};
use super::{Map, Party, Scheduler, Set};
use std::sync::Arc;
use taskloom_proto::Value;
use taskloom_proto::client::{
    Cancel, ClientToScheduler, Desire, FetchFailed, KeysCancelled, RegisterClient,
    SchedulerToClient,
};
use taskloom_types::{ClientId, FunctionNo, Generation, Handle, Nanos, TaskId, WorkerNo};

/// A submission of which more pieces are to come.
#[derive(Debug, Default)]
pub struct OpenSubmission {
    pub generation: Generation,
    /// Added to the orders of its tasks.
    pub base: u64,
    /// Tasks that are kept until it is complete.
    pub unwanted: Vec<(Handle, TaskId)>,
}

/// A connected client.
#[derive(Debug, Default)]
pub struct ClientRecord {
    pub name: String,
    /// Key collisions fail the submission.
    pub is_strict: bool,
    /// Address of the worker whose tasks use it; empty for others.
    pub worker: String,
    pub handles: Map<Handle, TaskId>,
    pub functions: Set<FunctionNo>,
    /// Workers whose addresses it has been told.
    pub peers: Set<WorkerNo>,
    pub open_submissions: Map<u64, OpenSubmission>,
    pub submitted_at: Option<Nanos>,
    pub generation: Generation,
    /// Where its last message of this turn is; see `Outbox`.
    pub last_action: usize,
}

impl Scheduler {
    pub(super) fn on_client_message(&mut self, client: ClientId, message: ClientToScheduler) {
        let is_first = matches!(message, ClientToScheduler::Register(_));
        if !is_first && !self.clients.contains_key(&client) {
            self.counters.stale_messages += 1;
            return;
        }
        match message {
            ClientToScheduler::Register(register) => self.on_client_joined(client, register),
            ClientToScheduler::RegisterFunction(function) => {
                self.on_register_function(client, function);
            }
            ClientToScheduler::ForgetFunctions(list) => self.on_forget_functions(client, &list.ids),
            ClientToScheduler::Submit(batch) => self.on_submit(client, batch),
            ClientToScheduler::Release(list) => self.on_release(client, &list.handles),
            ClientToScheduler::Desire(desire) => self.on_desire(client, desire),
            ClientToScheduler::Cancel(cancel) => self.on_cancel(client, &cancel),
            ClientToScheduler::Retry(list) => self.on_retry(client, &list.handles),
            ClientToScheduler::Detach(list) => self.on_detach(client, &list.handles),
            ClientToScheduler::FetchFailed(failed) => self.on_fetch_failed(client, &failed),
            ClientToScheduler::Deposit(deposit) => self.on_deposit(client, &deposit),
            ClientToScheduler::Collect(collect) => self.on_collect(client, collect),
            ClientToScheduler::Request(request) => self.on_request(client, request),
            ClientToScheduler::LogEvent(event) => self.on_log_event(event),
            ClientToScheduler::Subscribe(topics) => self.on_subscribe(client, topics),
            ClientToScheduler::Unsubscribe(topics) => self.on_unsubscribe(client, &topics),
            ClientToScheduler::Settle(settle) => self.on_settle(client, &settle),
            ClientToScheduler::WatchActor(watch) => self.on_watch_actor(client, watch),
            ClientToScheduler::Claim(claims) => self.on_claim(client, claims),
            ClientToScheduler::UnwatchActor(watch) => self.actors.unwatch(client, watch.number),
        }
    }

    fn on_client_joined(&mut self, client: ClientId, register: RegisterClient) {
        if self.clients.contains_key(&client) {
            self.counters.stale_messages += 1;
            return;
        }
        self.note_return(register.returns_from);
        let record = ClientRecord {
            name: register.name,
            is_strict: register.strict,
            worker: register.worker,
            last_action: usize::MAX,
            ..ClientRecord::default()
        };
        let name = Value::from(record.name.clone());
        self.clients.insert(client, record);
        self.announce("add-client", [("client", name)]);
    }

    /// All that only this client wanted goes.
    pub(super) fn on_client_left(&mut self, client: ClientId) {
        self.forget_absence(Party::Client(client));
        let Some(mut record) = self.clients.remove(&client) else { return };
        self.close_all_submissions(&mut record);
        let mut ids: Vec<TaskId> = record.handles.values().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(index) = self.tasks.get(id) else { continue };
            if self.has(Fault::HoldsOutliveClients) {
                continue;
            }
            self.tasks[index].wants.retain(|want| want.client != client);
            self.steps.push(Step::Relax(index));
        }
        self.run_steps();
        self.release_client_functions(&record.functions);
        self.forget_questions_of(client);
        self.forget_subscriptions_of(client);
        self.announce("remove-client", [("client", Value::from(record.name))]);
        self.actors.forget_client(client);
    }

    pub(super) fn task_of(&self, client: ClientId, handle: Handle) -> Option<u32> {
        let id = self.clients.get(&client)?.handles.get(&handle)?;
        self.tasks.get(*id)
    }

    fn on_release(&mut self, client: ClientId, handles: &[Handle]) {
        for handle in handles {
            let Some(record) = self.clients.get_mut(&client) else { return };
            let Some(id) = record.handles.remove(handle) else {
                self.scatters.release_waiting(client, *handle);
                continue;
            };
            let Some(index) = self.tasks.get(id) else { continue };
            self.tasks[index].wants.retain(|want| want.client != client || want.handle != *handle);
            self.steps.push(Step::Relax(index));
            self.run_steps();
        }
    }

    /// A key that somebody else made, or is about to make.
    pub(super) fn on_desire(&mut self, client: ClientId, desire: Desire) {
        let index = match self.tasks.find(&desire.key) {
            Some(index) => index,
            None if self.has(Fault::DesireForgotten) => return,
            None => {
                let index = self.insert_task(desire.key);
                self.tasks[index].kind = Kind::Unknown;
                index
            }
        };
        self.bind(client, 0, desire.handle, index, true);
        self.adopt_offers(index);
    }

    fn on_cancel(&mut self, client: ClientId, cancel: &Cancel) {
        let why = Arc::new(DropReason {
            reason: cancel.reason.clone(),
            message: cancel.message.clone(),
            lost: false,
            by: (!cancel.force).then_some(client),
            interrupting: if cancel.force { Interrupting::Hard } else { Interrupting::Soft },
        });
        for handle in &cancel.handles {
            let Some(index) = self.task_of(client, *handle) else { continue };
            self.steps.push(Step::Drop(index, why.clone()));
            self.run_steps();
        }
    }

    /// Other clients hold the key: only this one's futures are cancelled.
    pub(super) fn cancel_for_one(&mut self, client: ClientId, index: u32, why: &DropReason) {
        let wants = std::mem::take(&mut self.tasks[index].wants);
        let (own, others): (Vec<_>, Vec<_>) =
            wants.into_iter().partition(|want| want.client == client);
        self.tasks[index].wants = others.into();
        let Some(record) = self.clients.get_mut(&client) else { return };
        let handles: Vec<Handle> = own.iter().map(|want| want.handle).collect();
        handles.iter().for_each(|handle| {
            record.handles.remove(handle);
        });
        if handles.is_empty() {
            return;
        }
        let cancelled = KeysCancelled {
            handles,
            reason: why.reason.clone(),
            message: why.message.clone(),
            lost: why.lost,
        };
        let message = SchedulerToClient::Cancelled(cancelled);
        self.outbox.send_client(client, &mut record.last_action, message);
    }

    /// Erred tasks are tried again, from the first cause on.
    fn on_retry(&mut self, client: ClientId, handles: &[Handle]) {
        let mut erred: Vec<u32> = Vec::new();
        let mut seen: Set<u32> = Set::default();
        let roots = handles.iter().filter_map(|handle| self.task_of(client, *handle));
        let mut open: Vec<u32> = roots.collect();
        while let Some(index) = open.pop() {
            let task = &self.tasks[index];
            if task.state == State::Erred && task.kind == Kind::Call && seen.insert(index) {
                erred.push(index);
                open.extend_from_slice(&task.deps);
            }
        }
        self.tell_again(client, handles, &seen);
        for index in &erred {
            self.tasks[*index].error = None;
            self.set_state(*index, State::Released);
            self.tell_pending(*index);
        }
        erred.into_iter().for_each(|index| self.steps.push(Step::Start(index)));
        self.run_steps();
    }

    /// Futures whose tasks are not tried again hear their end once more: none stays pending.
    fn tell_again(&mut self, client: ClientId, handles: &[Handle], tried: &Set<u32>) {
        for handle in handles {
            let Some(index) = self.task_of(client, *handle) else {
                if !self.scatters.is_waiting(client, *handle) {
                    self.tell_unknown(client, *handle);
                }
                continue;
            };
            match self.tasks[index].state {
                State::Memory => self.tell_ready(index, client, *handle),
                State::Erred if !tried.contains(&index) => {
                    self.tell_erred_to(index, client, *handle);
                }
                _ => {}
            }
        }
    }

    /// A future of an earlier session that had failed: its client does not keep the call. Of one that
    /// was released or cancelled the client hears nothing more.
    fn tell_unknown(&mut self, client: ClientId, handle: Handle) {
        let message = "the session in which it failed is over, and the client does not keep the calls \
                       of tasks that have ended; submit it again";
        let why = DropReason {
            reason: "lost".into(),
            message: message.into(),
            lost: true,
            ..DropReason::default()
        };
        self.refuse(client, handle, &why);
    }

    fn on_detach(&mut self, client: ClientId, handles: &[Handle]) {
        for handle in handles {
            let Some(index) = self.task_of(client, *handle) else { continue };
            let task = &mut self.tasks[index];
            // A key that nobody has submitted may never come to an end.
            let has_end = task.kind != Kind::Unknown;
            let is_over = matches!(task.state, State::Memory | State::Erred);
            if has_end && !is_over && !task.has(mark::DETACHED) {
                task.marks |= mark::DETACHED;
                task.holds += 1;
            }
        }
    }

    /// A client could not fetch a result where it was said to be.
    fn on_fetch_failed(&mut self, client: ClientId, failed: &FetchFailed) {
        let Some(index) = self.tasks.get(failed.task) else {
            self.counters.stale_messages += 1;
            return;
        };
        self.disbelieve_holders(index, None, &failed.workers, false);
        self.run_steps();
        let is_there =
            self.tasks.get(failed.task).is_some() && self.tasks[index].state == State::Memory;
        if is_there && self.task_of(client, failed.handle) == Some(index) {
            self.tell_ready(index, client, failed.handle);
        }
    }

    /// All tasks go; every future is told why.
    pub(super) fn forget_everything(&mut self, reason: &str, message: &str) {
        let why = Arc::new(DropReason {
            reason: reason.into(),
            message: message.into(),
            ..DropReason::default()
        });
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            let Some(record) = self.clients.get_mut(&client) else { continue };
            let open = std::mem::take(&mut record.open_submissions);
            let mut unwanted: Vec<_> = open.into_values().flat_map(|open| open.unwanted).collect();
            unwanted.sort_unstable();
            for (handle, _) in &unwanted {
                record.handles.remove(handle);
            }
            unwanted.into_iter().for_each(|(_, id)| self.drop_hold(id));
        }
        let all: Vec<u32> = self.tasks.iter().collect();
        for index in all {
            if self.tasks.is_live(index) {
                let task = &mut self.tasks[index];
                if task.has(mark::DETACHED) {
                    task.marks &= !mark::DETACHED;
                    task.holds -= 1;
                }
                self.steps.push(Step::Drop(index, why.clone()));
                self.run_steps();
            }
        }
    }
}
