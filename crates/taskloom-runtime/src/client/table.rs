//! What a client knows: its keys by handle and by name, open questions, workers' addresses.

use super::PendingAnswer;
use super::entry::Entry;
use super::lineage::{Lineage, Noted};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use taskloom_proto::client::{RegisterFunction, SubmitBatch};
use taskloom_types::{FunctionId, Handle, Key, WorkerNo};

pub(super) type Map<K, V> = HashMap<K, V, FixedState>;

/// The scheduler keeps so many functions for this client; older ones are sent again when used.
const KNOWN_FUNCTIONS: usize = 10_000;

#[derive(Default)]
pub(super) struct Table {
    hasher: FixedState,
    by_handle: Map<Handle, Arc<Entry>>,
    by_key: HashTable<Arc<Entry>>,
    last_handle: u64,
    questions: Map<u64, Arc<PendingAnswer>>,
    last_question: u64,
    peers: Map<WorkerNo, Arc<str>>,
    functions: Map<FunctionId, ()>,
    /// In the order of registration.
    function_order: VecDeque<FunctionId>,
    /// `None`: the scheduler cannot outlive this client, or the other way round.
    lineage: Option<Lineage>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_handle.len()
    }

    pub(super) fn new_handle(&mut self) -> Handle {
        self.last_handle += 1;
        Handle(self.last_handle)
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.by_key.find(self.hash(key), |entry| entry.key == *key)
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Arc<Entry>> {
        self.by_handle.get(&handle)
    }

    /// Adds an entry; the key must not be there.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>) {
        let hash = self.hash(&entry.key);
        let hasher = self.hasher.clone();
        self.by_handle.insert(entry.handle, entry.clone());
        self.by_key.insert_unique(hash, entry.clone(), |entry| hasher.hash_one(&entry.key));
    }

    /// Returns whether the entry was there.
    pub(super) fn remove(&mut self, entry: &Arc<Entry>) -> bool {
        if self.by_handle.remove(&entry.handle).is_none() {
            return false;
        }
        let hash = self.hash(&entry.key);
        if let Ok(found) = self.by_key.find_entry(hash, |other| Arc::ptr_eq(other, entry)) {
            found.remove();
        }
        self.shrink();
        true
    }

    /// After a flood of futures has gone, their room goes too.
    fn shrink(&mut self) {
        let room = self.by_handle.capacity();
        if room > 4096 && self.by_handle.len() < room / 8 {
            let hasher = self.hasher.clone();
            self.by_handle.shrink_to(room / 4);
            self.by_key.shrink_to(room / 4, |entry| hasher.hash_one(&entry.key));
        }
    }

    /// Takes the key's name away from an entry that was cancelled: the key is free for new work.
    pub(super) fn forget_name(&mut self, entry: &Arc<Entry>) {
        let hash = self.hash(&entry.key);
        if let Ok(found) = self.by_key.find_entry(hash, |other| Arc::ptr_eq(other, entry)) {
            found.remove();
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_handle.values()
    }

    // What is submitted again to another run of the scheduler.

    pub(super) fn keep_lineage(&mut self) {
        self.lineage.get_or_insert_default();
    }

    pub(super) fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    pub(super) fn note(&self, batch: &SubmitBatch) -> Option<Noted> {
        self.lineage.is_some().then(|| Noted::new(batch, self))
    }

    pub(super) fn keep(&mut self, noted: Noted, frame: Bytes) {
        if let Some(lineage) = &mut self.lineage {
            lineage.keep(noted, frame);
        }
    }

    pub(super) fn keep_function(&mut self, function: &RegisterFunction) {
        if let Some(lineage) = &mut self.lineage {
            lineage.keep_function(function.clone());
        }
    }

    pub(super) fn forget_function(&mut self, id: FunctionId) {
        if let Some(lineage) = &mut self.lineage {
            lineage.forget_function(id);
        }
    }

    /// Something may have ended.
    pub(super) fn drop_ended_lineage(&mut self) {
        if let Some(mut lineage) = self.lineage.take() {
            lineage.drop_ended(self);
            self.lineage = Some(lineage);
        }
    }

    pub(super) fn forget_peers(&mut self) {
        self.peers.clear();
    }

    pub(super) fn take_questions(&mut self) -> Vec<Arc<PendingAnswer>> {
        self.questions.drain().map(|(_, question)| question).collect()
    }

    /// Empties the table: all entries and questions.
    pub(super) fn drain(&mut self) -> (Vec<Arc<Entry>>, Vec<Arc<PendingAnswer>>) {
        self.by_key.clear();
        self.lineage = None;
        let entries = self.by_handle.drain().map(|(_, entry)| entry).collect();
        (entries, self.questions.drain().map(|(_, question)| question).collect())
    }

    pub(super) fn add_question(&mut self, pending: Arc<PendingAnswer>) -> u64 {
        self.last_question += 1;
        self.questions.insert(self.last_question, pending);
        self.last_question
    }

    pub(super) fn take_question(&mut self, id: u64) -> Option<Arc<PendingAnswer>> {
        self.questions.remove(&id)
    }

    pub(super) fn set_peer(&mut self, worker: WorkerNo, address: String) {
        self.peers.insert(worker, address.into());
    }

    pub(super) fn forget_peer(&mut self, worker: WorkerNo) -> Option<Arc<str>> {
        self.peers.remove(&worker)
    }

    pub(super) fn peer(&self, worker: WorkerNo) -> Option<Arc<str>> {
        self.peers.get(&worker).cloned()
    }

    /// Whether the scheduler must be told of this function; remembers that it was.
    /// Also returns a function that it may forget.
    pub(super) fn learn_function(&mut self, id: FunctionId) -> (bool, Option<FunctionId>) {
        if self.functions.insert(id, ()).is_some() {
            return (false, None);
        }
        self.function_order.push_back(id);
        if self.function_order.len() <= KNOWN_FUNCTIONS {
            return (true, None);
        }
        let oldest = self.function_order.pop_front();
        if let Some(oldest) = oldest {
            self.functions.remove(&oldest);
        }
        (true, oldest)
    }
}
