//! Giving work to the scheduler: keys get handles, and messages are queued in the order in which
//! handles were given out.

use super::Client;
use super::entry::{Cancellation, Entry, Held, Outcome};
use super::table::Table;
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::sync::Arc;
use taskloom_proto::client::{
    ClientToScheduler, Collect, Desire, Functions, RegisterFunction, SubmitBatch, Ticket,
};
use taskloom_types::{FunctionId, Handle, Key};

/// A serialized function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSpec {
    pub id: FunctionId,
    /// For people: the qualified name.
    pub name: String,
    pub payload: Bytes,
    /// Whether it is a coroutine function.
    pub is_coroutine: bool,
}

/// The client's table, locked. Do not run foreign code, such as Python's, while it lives.
pub struct Submission<'a> {
    client: &'a Arc<Client>,
    table: MutexGuard<'a, Table>,
}

impl<'a> Submission<'a> {
    pub(super) fn new(client: &'a Arc<Client>, table: MutexGuard<'a, Table>) -> Self {
        Self { client, table }
    }

    /// The entry of a key that somebody holds.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<Held> {
        let entry = self.table.find(key)?;
        Some(Held::new(entry.clone(), self.client.clone()))
    }

    /// A number for a task that no future is for.
    #[must_use]
    pub fn new_handle(&mut self) -> Handle {
        self.table.new_handle()
    }

    /// Makes an entry. The key must not have one: see [`Submission::find`].
    #[must_use]
    pub fn add(&mut self, key: Key, spec_hash: u64) -> Held {
        let handle = self.table.new_handle();
        self.add_at(handle, key, spec_hash)
    }

    /// As [`Submission::add`], under a number that was given out before.
    #[must_use]
    pub fn add_at(&mut self, handle: Handle, key: Key, spec_hash: u64) -> Held {
        self.insert(Entry::new(handle, key, spec_hash, None))
    }

    /// As [`Submission::add`], with the function for messages about the key.
    #[must_use]
    pub fn add_call(&mut self, key: Key, spec_hash: u64, function: &Arc<FunctionSpec>) -> Held {
        let handle = self.table.new_handle();
        self.insert(Entry::new(handle, key, spec_hash, Some(function.clone())))
    }

    fn insert(&mut self, entry: Entry) -> Held {
        let entry = Arc::new(entry);
        self.table.insert(&entry);
        Held::new(entry, self.client.clone())
    }

    /// Binds to a key that somebody else made: the existing entry, or a new one that the
    /// scheduler is asked for.
    #[must_use]
    pub fn desire(&mut self, key: &Key) -> Held {
        if let Some(held) = self.find(key) {
            return held;
        }
        let held = self.add(key.clone(), 0);
        let handle = held.entry().handle;
        self.client.send(ClientToScheduler::Desire(Desire { handle, key: key.clone() }));
        held
    }

    /// A key whose task is known to be gone: the live entry of this client if there is one, else
    /// one that has ended as lost. The scheduler is not asked.
    #[must_use]
    pub fn lost(&mut self, key: &Key) -> Held {
        if let Some(held) = self.find(key) {
            return held;
        }
        let held = self.add(key.clone(), 0);
        let why = Cancellation {
            reason: "lost".into(),
            message: "its task was cancelled or lost while only a shared value held it".into(),
            lost: true,
        };
        // Nobody can wait for an entry that is new.
        let _ = held.entry().set(Outcome::Cancelled(Arc::new(why)));
        held
    }

    /// The key of an entry from [`Submission::lost`] is free for new work.
    pub fn forget_lost(&mut self, held: &Held) {
        if matches!(held.entry().outcome(), Outcome::Cancelled(_)) {
            self.table.forget_name(held.entry());
        }
    }

    /// Binds to the key of a future that was unpickled. `ticket`: of its pickling.
    #[must_use]
    pub fn collect(&mut self, key: &Key, ticket: Ticket) -> Held {
        // A key that is known here is bound already. Binding it again would revive what the
        // scheduler has cancelled meanwhile.
        let known = self.find(key);
        let bound = known.is_some();
        let held = known.unwrap_or_else(|| self.add(key.clone(), 0));
        let handle = if bound { Collect::NO_HANDLE } else { held.entry().handle };
        let collect = Collect { ticket, handle, key: key.clone() };
        self.client.send(ClientToScheduler::Collect(collect));
        held
    }

    /// Makes sure that the scheduler knows a function before it is used.
    pub fn register(&mut self, function: &FunctionSpec) {
        let (is_new, forgotten) = self.table.learn_function(function.id);
        if let Some(id) = forgotten {
            self.table.forget_function(id);
            self.client.send(ClientToScheduler::ForgetFunctions(Functions { ids: vec![id] }));
        }
        if is_new {
            self.register_once(function);
        }
    }

    /// Tells the scheduler of something that only the next piece uses: see
    /// [`Submission::forget`].
    pub fn register_once(&mut self, function: &FunctionSpec) {
        let FunctionSpec { id, name, payload, .. } = function.clone();
        let register = RegisterFunction { id, name, payload };
        self.table.keep_function(&register);
        self.client.send(ClientToScheduler::RegisterFunction(register));
    }

    /// After the piece: the scheduler keeps these as long as tasks use them.
    pub fn forget(&mut self, functions: Vec<FunctionId>) {
        if !functions.is_empty() {
            functions.iter().for_each(|id| self.table.forget_function(*id));
            self.client.send(ClientToScheduler::ForgetFunctions(Functions { ids: functions }));
        }
    }

    /// Queues a piece of a submission. What it refers to was registered and added before.
    pub fn send(&mut self, batch: SubmitBatch) {
        let Some(link) = self.client.link.get() else { return };
        let Some(noted) = self.table.note(&batch) else {
            return link.send(ClientToScheduler::Submit(batch));
        };
        if let Some(frame) = link.send_kept(ClientToScheduler::Submit(batch)) {
            self.table.keep(noted, frame);
        }
    }

    /// Queues any other message in order.
    pub(super) fn send_message(&mut self, message: ClientToScheduler) {
        self.client.send(message);
    }

    pub(super) fn add_question(&mut self, pending: Arc<super::PendingAnswer>) -> u64 {
        self.table.add_question(pending)
    }

    /// Unlocks and hands everything over.
    pub fn flush(self) {
        let client = self.client;
        drop(self);
        client.flush();
    }
}
