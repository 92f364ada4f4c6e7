//! What arrives from the scheduler. Runs on an IO thread and never waits for Python.

use super::entry::{Cancellation, Entry, Outcome};
use super::planted::Fault;
use super::table::Table;
use super::wait::Wait;
use super::{Client, Notice};
use crate::link::{NewSession, Sink};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use taskloom_proto::client::{KeyReady, Reply, SchedulerToClient};
use taskloom_proto::gone::WorkerGone;
use taskloom_types::Handle;

/// Waits to count down once no lock is held, each with whether its thing failed.
type Fired = Vec<(Arc<Wait>, bool)>;

/// The client's receiving half.
pub(super) struct Inbox {
    /// Weak: the connection must not keep alive a client that its user has dropped.
    client: Weak<Client>,
    /// Kept between batches for its room.
    fired: Mutex<Fired>,
}

impl Inbox {
    pub(super) fn new(client: &Arc<Client>) -> Self {
        Self { client: Arc::downgrade(client), fired: Mutex::default() }
    }
}

impl Sink<SchedulerToClient> for Inbox {
    fn deliver(&self, messages: &mut Vec<SchedulerToClient>) {
        let Some(client) = self.client.upgrade() else { return messages.clear() };
        let mut fired = self.fired.lock();
        let (mut news, mut gone, mut cut) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut table = client.table.lock();
            for message in messages.drain(..) {
                match message {
                    SchedulerToClient::ActorNews(actor) => news.push(actor),
                    SchedulerToClient::PeersGone(workers) => {
                        for WorkerGone { worker, cut: address } in workers {
                            gone.extend(table.forget_peer(worker));
                            cut.push(address);
                        }
                    }
                    message => apply(&client, &mut table, message, &mut fired),
                }
            }
            table.drop_ended_lineage();
        }
        news.into_iter().for_each(|actor| client.on_actor_news(actor));
        for (wait, failed) in fired.drain(..) {
            wait.count_down(failed);
        }
        drop(fired);
        gone.iter().for_each(|address| client.data.forget(address));
        cut.iter().filter(|address| !address.is_empty()).for_each(|it| client.data.cut(it));
    }

    fn closed(&self, reason: &str) {
        if let Some(client) = self.client.upgrade() {
            client.fail_all(reason);
        }
    }

    fn on_new_session(&self, session: &NewSession<'_>) -> bool {
        self.client.upgrade().is_some_and(|client| client.begin_session(session))
    }
}

fn apply(client: &Client, table: &mut Table, message: SchedulerToClient, fired: &mut Fired) {
    match message {
        SchedulerToClient::Ready(keys) => {
            keys.into_iter().for_each(|key| on_ready(table, key, fired));
        }
        SchedulerToClient::Erred(erred) => {
            let error = Arc::new(erred.error);
            for_each(table, &erred.handles, |entry| {
                complete(entry, Outcome::Erred(error.clone()), fired);
            });
        }
        SchedulerToClient::Cancelled(cancelled) => {
            let why = Arc::new(Cancellation {
                reason: cancelled.reason,
                message: cancelled.message,
                lost: cancelled.lost,
            });
            for handle in cancelled.handles {
                let Some(entry) = table.get(handle).cloned() else { continue };
                // Why it was cancelled or refused first is why.
                if matches!(entry.outcome(), Outcome::Cancelled(_) | Outcome::Refused(_)) {
                    continue;
                }
                // The scheduler has forgotten the key: it may be used for new work.
                if !client.has(Fault::CancelledKeepsName) {
                    table.forget_name(&entry);
                }
                complete(&entry, Outcome::Cancelled(why.clone()), fired);
            }
        }
        SchedulerToClient::Pending(pending) => {
            for_each(table, &pending.handles, |entry| {
                let _ = entry.set(Outcome::Pending);
            });
        }
        SchedulerToClient::Peer(peer) => table.set_peer(peer.worker, peer.address),
        SchedulerToClient::Collision(collision) => {
            if client.is_strict() {
                let text = format!(
                    "key {:?} is in use for {}, and was submitted for {}",
                    collision.key, collision.kept, collision.refused
                );
                if let Some(entry) = table.get(collision.handle).cloned() {
                    table.forget_name(&entry);
                    complete(&entry, Outcome::Refused(text.into()), fired);
                }
            } else {
                if let Some(entry) = table.get(collision.handle) {
                    entry.is_of_other_work.store(true, Ordering::Relaxed);
                }
                client.add_notice(Notice::Collision(collision));
            }
        }
        SchedulerToClient::Reply(reply) => on_reply(table, reply, fired),
        SchedulerToClient::Notice(notice) => client.add_notice(Notice::Message(notice.message)),
        SchedulerToClient::Event(news) => client.events.add(news),
        // The connection's end follows, and brings the reason again. News are the caller's.
        SchedulerToClient::Closing(_)
        | SchedulerToClient::ActorNews(_)
        | SchedulerToClient::PeersGone(_) => {}
    }
}

fn for_each(table: &Table, handles: &[Handle], mut apply: impl FnMut(&Arc<Entry>)) {
    handles.iter().filter_map(|handle| table.get(*handle)).for_each(&mut apply);
}

fn complete(entry: &Entry, outcome: Outcome, fired: &mut Fired) {
    let failed = outcome.is_failure();
    fired.extend(entry.set(outcome).into_iter().map(|wait| (wait, failed)));
}

/// A key that is not there was released while this was on its way.
fn on_ready(table: &Table, ready: KeyReady, fired: &mut Fired) {
    let Some(entry) = table.get(ready.handle) else { return };
    let outcome = match ready.value {
        Some(value) => Outcome::Inline(value),
        None => {
            Outcome::Remote { task: ready.task, worker: ready.worker, size_bytes: ready.size_bytes }
        }
    };
    complete(entry, outcome, fired);
}

fn on_reply(table: &mut Table, reply: Reply, fired: &mut Fired) {
    let Some(question) = table.take_question(reply.id) else { return };
    fired.extend(question.set(reply.answer).into_iter().map(|wait| (wait, false)));
}
