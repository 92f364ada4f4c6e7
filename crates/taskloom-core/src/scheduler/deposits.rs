//! Futures that travel as bytes: a reference is deposited when one is pickled, and collected
//! where it is unpickled, so that the result cannot go in between.
//!
//! A pickle may be read by nobody, or by many. So a deposit that nobody has collected is kept for
//! long, and one that somebody has for a while: the others read the same bytes soon after. The
//! two messages come from different clients, by different ways: the collection may be here first.

use super::task::Kind;
use super::transitions::{DropReason, Step};
use super::{Map, Scheduler};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;
use taskloom_proto::client::{Collect, Deposit, Desire, KeysCancelled, SchedulerToClient, Ticket};
use taskloom_types::{ClientId, Handle, Key, Nanos, TaskId};

/// How long references that travel are kept, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositTimes {
    /// Until somebody unpickles the future.
    pub open_ns: u64,
    /// After somebody has: others may read the same bytes.
    pub collected_ns: u64,
    /// How long a collection waits for the deposit, or the submission, that it overtook.
    pub overtaken_ns: u64,
}

impl Default for DepositTimes {
    fn default() -> Self {
        Self {
            open_ns: 3600 * Nanos::SECOND,
            collected_ns: 60 * Nanos::SECOND,
            overtaken_ns: 30 * Nanos::SECOND,
        }
    }
}

#[derive(Debug, Clone)]
enum Content {
    /// The task is held.
    Held(TaskId),
    /// Collected before it was deposited; this task is what its key named or will name, if
    /// somebody has asked for that.
    Overtaken(Option<TaskId>),
    /// The task was cancelled, or gone before.
    Dropped(Arc<DropReason>),
}

#[derive(Debug)]
struct Entry {
    content: Content,
    until: Nanos,
}

/// The references that are on their way, by ticket.
#[derive(Debug, Default)]
pub struct Deposits {
    entries: Map<Ticket, Entry>,
    due: BTreeSet<(Nanos, Ticket)>,
    /// Tickets of tasks that are held.
    of_task: Map<TaskId, SmallVec<[Ticket; 1]>>,
}

impl Deposits {
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.due.first().map(|(until, _)| *until)
    }

    fn put(&mut self, ticket: Ticket, content: Content, until: Nanos) {
        if let Content::Held(id) = content {
            self.of_task.entry(id).or_default().push(ticket);
        }
        self.entries.insert(ticket, Entry { content, until });
        self.due.insert((until, ticket));
    }

    fn take(&mut self, ticket: Ticket) -> Option<Entry> {
        let entry = self.entries.remove(&ticket)?;
        self.due.remove(&(entry.until, ticket));
        if let Content::Held(id) = entry.content
            && let Some(tickets) = self.of_task.get_mut(&id)
        {
            tickets.retain(|other| *other != ticket);
            if tickets.is_empty() {
                self.of_task.remove(&id);
            }
        }
        Some(entry)
    }

    /// How often a task is held.
    pub fn count(&self, id: TaskId) -> usize {
        self.of_task.get(&id).map_or(0, SmallVec::len)
    }

    /// The tasks that are held.
    pub fn held(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.of_task.keys().copied()
    }
}

impl Scheduler {
    pub(super) fn on_deposit(&mut self, client: ClientId, deposit: &Deposit) {
        let times = self.config.deposits;
        let before = self.deposits.entries.get(&deposit.ticket).map(|it| &it.content);
        let lasts_ns = match before {
            None => times.open_ns,
            Some(Content::Overtaken(_)) => times.collected_ns,
            // A ticket is used once.
            Some(Content::Held(_) | Content::Dropped(_)) => {
                self.counters.stale_messages += 1;
                return;
            }
        };
        let has_readers = before.is_some();
        let until = self.now.after(lasts_ns);
        let Some(index) = self.task_of(client, deposit.handle) else {
            // Readers wait for the key itself until their time is over.
            if !has_readers {
                let content = Content::Dropped(Arc::new(already_gone()));
                self.deposits.put(deposit.ticket, content, until);
            }
            return;
        };
        self.deposits.take(deposit.ticket);
        let id = self.tasks.id(index);
        self.tasks[index].holds += 1;
        self.deposits.put(deposit.ticket, Content::Held(id), until);
        self.steps.push(Step::Start(index));
    }

    /// A future was unpickled: its client wants the result.
    pub(super) fn on_collect(&mut self, client: ClientId, collect: Collect) {
        let Collect { ticket, handle, key } = collect;
        match self.deposits.entries.get(&ticket).map(|entry| entry.content.clone()) {
            Some(Content::Held(id)) => {
                self.deposits.take(ticket);
                let until = self.now.after(self.config.deposits.collected_ns);
                self.deposits.put(ticket, Content::Held(id), until);
                if let Some(index) = self.tasks.get(id) {
                    self.bind_once(client, handle, index);
                }
            }
            Some(Content::Dropped(why)) if self.is_gone(client, handle, &key) => {
                self.refuse(client, handle, &why);
            }
            Some(Content::Dropped(_)) => self.desire_once(client, handle, key),
            Some(Content::Overtaken(_)) | None => {
                self.desire_once(client, handle, key.clone());
                // What its key named for an earlier reader may be gone.
                self.deposits.take(ticket);
                let until = self.now.after(self.config.deposits.overtaken_ns);
                let id = self.tasks.find(&key).map(|index| self.tasks.id(index));
                self.deposits.put(ticket, Content::Overtaken(id), until);
            }
        }
    }

    /// Whether nobody has submitted the key anew; that others ask for it makes no task of it.
    fn is_gone(&self, client: ClientId, handle: Handle, key: &Key) -> bool {
        let is_unknown = |index: u32| self.tasks[index].kind == Kind::Unknown;
        self.tasks.find(key).is_none_or(is_unknown) && self.task_of(client, handle).is_none()
    }

    /// The client may have the key already: then its handle is bound.
    fn bind_once(&mut self, client: ClientId, handle: Handle, index: u32) {
        if handle != Collect::NO_HANDLE && self.task_of(client, handle) != Some(index) {
            self.bind(client, 0, handle, index, true);
        }
    }

    fn desire_once(&mut self, client: ClientId, handle: Handle, key: Key) {
        if handle != Collect::NO_HANDLE && self.task_of(client, handle).is_none() {
            self.on_desire(client, Desire { handle, key });
        }
    }

    /// The client's future ends: its task was cancelled or lost before the client could bind to it.
    pub(super) fn refuse(&mut self, client: ClientId, handle: Handle, why: &DropReason) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        if handle == Collect::NO_HANDLE {
            return;
        }
        let cancelled = KeysCancelled {
            handles: vec![handle],
            reason: why.reason.clone(),
            message: why.message.clone(),
            lost: why.lost,
        };
        let message = SchedulerToClient::Cancelled(cancelled);
        self.outbox.send_client(client, &mut record.last_action, message);
    }

    /// A task is cancelled: its pickled futures do not keep it.
    pub(super) fn drop_deposits_of(&mut self, index: u32, why: &Arc<DropReason>) {
        if self.deposits.of_task.is_empty() {
            return;
        }
        let id = self.tasks.id(index);
        for ticket in self.deposits.of_task.remove(&id).unwrap_or_default() {
            self.tasks[index].holds -= 1;
            if let Some(entry) = self.deposits.entries.get_mut(&ticket) {
                entry.content = Content::Dropped(why.clone());
            }
        }
    }

    pub(super) fn end_overdue_deposits(&mut self) {
        while let Some((_, ticket)) =
            self.deposits.due.first().copied().filter(|(until, _)| *until <= self.now)
        {
            match self.deposits.take(ticket).map(|entry| entry.content) {
                Some(Content::Held(id)) => self.drop_hold(id),
                Some(Content::Overtaken(Some(id))) => self.drop_if_unknown(id),
                Some(Content::Overtaken(None) | Content::Dropped(_)) | None => {}
            }
        }
    }

    /// Nobody submitted what an unpickled future names: nobody will.
    fn drop_if_unknown(&mut self, id: TaskId) {
        let Some(index) = self.tasks.get(id) else { return };
        if self.tasks[index].kind == Kind::Unknown {
            self.steps.push(Step::Drop(index, Arc::new(already_gone())));
        }
    }
}

/// The result was gone before its future was pickled, or no pickling of it was ever told.
fn already_gone() -> DropReason {
    let message = "nobody held the result any more when its future was unpickled";
    DropReason {
        reason: "lost".into(),
        message: message.into(),
        lost: true,
        ..DropReason::default()
    }
}
