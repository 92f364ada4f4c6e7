//! What comes in: messages of the scheduler, requests and answers of peers. All of it on IO
//! threads, none of which may wait for the tasks' language.

use super::WorkerShell;
use super::jobs::Job;
use super::state::{Fetch, Phase, State};
use super::values::{LocalObject, Servable, Value};
use crate::data::{
    ActorRequest, CallReplier, DataStore, FetchError, FetchOutcome as Answer, FetchReplier,
    Fetched, PutReplier, StoredItem, StoredValue,
};
use crate::link::{NewSession, Sink};
use bytes::Bytes;
use std::time::Duration;
use taskloom_core::worker::FetchOutcome;
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::ActorLife;
use taskloom_proto::gone::WorkerGone;
use taskloom_proto::rejoin::Named;
use taskloom_proto::worker::SchedulerToWorker;
use taskloom_types::{Nanos, TaskId, WorkerNo};

impl<O: LocalObject> Sink<SchedulerToWorker> for WorkerShell<O> {
    fn deliver(&self, messages: &mut Vec<SchedulerToWorker>) {
        // First: a later message may end the actor, and with it the answers that waited.
        self.note_snapshots(messages);
        let now = self.now();
        let mut state = self.state.lock();
        let mut registered = None;
        let mut closing = None;
        let mut leaving = Vec::new();
        let mut cut = Vec::new();
        for message in messages.drain(..) {
            match message {
                SchedulerToWorker::Registered(welcome) => registered = Some(welcome),
                SchedulerToWorker::Close(close) => closing = Some(close.reason),
                SchedulerToWorker::Run(call) => self.jobs.push(Job::Run(call)),
                SchedulerToWorker::HandOverActor(order) => leaving.push(order.actor),
                SchedulerToWorker::PeersGone(gone) => {
                    for WorkerGone { worker, cut: address } in gone {
                        state.core.on_peer_gone(now, worker, !address.is_empty());
                        cut.push(address);
                    }
                }
                message => Self::apply(&mut state, now, message),
            }
        }
        if let Some(welcome) = &registered
            && state.is_running()
        {
            state.phase = Phase::Running(welcome.worker);
            state.accepted_as = Some(welcome.worker);
            self.closed.notify_all();
        }
        state.hand_over_garbage(&self.jobs);
        self.release(state, now);
        // What fails by that is reported under the lock.
        cut.iter().filter(|address| !address.is_empty()).for_each(|it| self.peers.cut(it));
        leaving.into_iter().for_each(|actor| self.hand_over(actor));
        if let Some(welcome) = registered {
            self.start_heartbeat(Duration::from_millis(u64::from(welcome.heartbeat_ms.max(1))));
            self.start_memory_monitor();
        }
        self.flush_if_urgent();
        if let Some(reason) = closing {
            self.part(reason);
        }
    }

    fn closed(&self, reason: &str) {
        self.end(reason, false);
    }

    fn on_new_session(&self, session: &NewSession<'_>) -> bool {
        self.begin_session(session)
    }
}

impl<O: LocalObject> WorkerShell<O> {
    /// Gives the answers that waited until the scheduler had a snapshot.
    fn note_snapshots(&self, messages: &[SchedulerToWorker]) {
        if self.actors.is_empty() {
            return;
        }
        for message in messages {
            if let SchedulerToWorker::SnapshotKept(kept) = message {
                self.actors.on_kept(kept.actor, kept.number);
            }
        }
    }

    fn hand_over(&self, actor: ActorLife) {
        if self.actors.hand_over(actor) {
            self.jobs.push(Job::StartActorThread);
        }
    }

    fn apply(state: &mut State<O>, now: Nanos, message: SchedulerToWorker) {
        match message {
            SchedulerToWorker::Compute(tasks) => state.core.on_compute(now, tasks),
            SchedulerToWorker::Free(tasks) => state.core.on_free(&tasks),
            SchedulerToWorker::Discard(tasks) => state.core.on_discard(tasks),
            SchedulerToWorker::Retract(run) => state.core.on_retract(run.task, run.attempt),
            SchedulerToWorker::Interrupt(run) => state.core.on_interrupt(now, &run),
            SchedulerToWorker::Holders(news) => state.core.on_holders(now, news),
            SchedulerToWorker::Acquire(wanted) => state.core.on_acquire(now, wanted),
            SchedulerToWorker::Adopt(adopted) => state.core.on_adopt(adopted),
            SchedulerToWorker::Decline(numbers) => state.core.on_decline(&numbers),
            SchedulerToWorker::Peer(peer) => state.core.on_peer(peer.worker, peer.address),
            SchedulerToWorker::Function(function) => {
                state.functions.insert(function.number, function);
            }
            SchedulerToWorker::ForgetFunctions(numbers) => {
                for number in numbers {
                    state.functions.remove(&number);
                    state.forgotten.push(number);
                }
            }
            // The caller's.
            SchedulerToWorker::Registered(_)
            | SchedulerToWorker::Run(_)
            | SchedulerToWorker::SnapshotKept(_)
            | SchedulerToWorker::HandOverActor(_)
            | SchedulerToWorker::PeersGone(_)
            | SchedulerToWorker::Close(_) => {}
        }
    }

    pub(super) fn run_fetches(&self, fetches: Vec<Fetch>) {
        for Fetch { peer, address, tasks, session } in fetches {
            let me = self.me.clone();
            let on_reply = move |answer: Result<Vec<Fetched>, FetchError>| {
                if let Some(me) = me.upgrade() {
                    me.on_fetch_reply(session, peer, answer);
                }
            };
            self.peers.fetch(&address, tasks, Box::new(on_reply));
        }
    }

    fn on_fetch_reply(
        &self,
        session: u64,
        peer: WorkerNo,
        answer: Result<Vec<Fetched>, FetchError>,
    ) {
        let now = self.now();
        let mut state = self.state.lock();
        if self.session() != session {
            return;
        }
        match answer {
            Ok(items) => {
                let mut outcomes = Vec::with_capacity(items.len());
                for Fetched { task, outcome } in items {
                    let outcome = match outcome {
                        Answer::Value(segments) => {
                            let size_bytes = state.store_fetched(task, segments);
                            FetchOutcome::Value { size_bytes }
                        }
                        Answer::Missing => FetchOutcome::Missing,
                        Answer::Failed(error) => FetchOutcome::Failed(error),
                    };
                    outcomes.push((task, outcome));
                }
                state.core.on_fetch_done(now, peer, outcomes);
            }
            Err(_) => state.core.on_fetch_failed(now, peer),
        }
        self.release(state, now);
        self.flush_if_urgent();
    }

    /// Has the rules looked at again at their next deadline.
    pub(super) fn arm_deadline(&self, now: Nanos, deadline: Option<Nanos>) {
        let Some(at) = deadline else { return };
        let mut armed = self.deadline.lock();
        if armed.as_ref().is_some_and(|(earlier, _)| *earlier <= at) {
            return;
        }
        let me = self.me.clone();
        let delay = Duration::from_nanos(at.since(now)) + Duration::from_millis(1);
        let timer = self.io.after(delay, move || {
            if let Some(me) = me.upgrade() {
                me.on_deadline();
            }
        });
        if let Some((_, later)) = armed.replace((at, timer)) {
            later.cancel();
        }
    }

    fn on_deadline(&self) {
        *self.deadline.lock() = None;
        let now = self.now();
        let mut state = self.state.lock();
        state.core.on_tick(now);
        self.release(state, now);
        self.flush_if_urgent();
    }

    pub(super) fn wake_for_coroutines(&self, state: &State<O>) {
        if state.core.ready_coroutine_count() > 0 {
            self.jobs.push(Job::StartCoroutines);
        }
    }
}

impl<O: LocalObject> DataStore for WorkerShell<O> {
    fn fetch(&self, tasks: Vec<TaskId>, reply: FetchReplier) {
        let state = self.state.lock();
        let find = |task: TaskId| (task, state.values.get(&task).map(Value::servable));
        let items: Vec<_> = tasks.into_iter().map(find).collect();
        drop(state);
        self.serve(items, reply);
    }

    fn put(&self, value: Named, size_bytes: u64, segments: Vec<Bytes>, reply: PutReplier) {
        let now = self.now();
        let mut state = self.state.lock();
        if !state.is_running() {
            drop(state);
            reply.reply(Err("the worker is closing".into()));
            return;
        }
        state.store(value.task, Value::received(segments));
        state.core.on_stored(value, size_bytes);
        self.release(state, now);
        self.flush_if_urgent();
        reply.reply(Ok(()));
    }

    fn call(&self, actor: ActorLife, request: ActorRequest, reply: CallReplier) {
        if self.actors.call(actor, request, reply) {
            self.jobs.push(Job::StartActorThread);
        }
    }
}

/// The answer about a value that needs no work.
pub(super) fn stored_item<O>(task: TaskId, servable: Option<Servable<O>>) -> StoredItem {
    let value = match servable {
        Some(Servable::Encoded(segments)) => StoredValue::Here(segments),
        Some(Servable::Failed(error)) => StoredValue::Failed(error),
        Some(Servable::OnDisk(_)) => StoredValue::Later,
        Some(Servable::Object(_) | Servable::Received(_)) => {
            StoredValue::Failed(ErrorInfo::default())
        }
        None => StoredValue::Missing,
    };
    StoredItem { task, value }
}
