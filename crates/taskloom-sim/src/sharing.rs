//! Locks, events, queues, variables and datasets: clients ask, take, give up and die, and nothing
//! is held by two, lost or given twice.

use crate::broken::{Broken, Checked};
use crate::client::{SimClient, SimFuture};
use crate::world::World;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::Value;
use taskloom_proto::client::Answer;
use taskloom_proto::coordination::{
    Acquire, AcquireMany, Coordination, GetItems, OpenQueue, Publish, PutItem, SetEvent,
    SetVariable, SharedValue, WaitFor,
};
use taskloom_types::{ClientId, Key, Nanos};

/// Names of objects of each kind.
const NAMES: u64 = 2;
/// Leases of the semaphore of each name.
const LEASES: [u32; 2] = [1, 3];
/// Empties everything in the end.
const JANITOR: ClientId = ClientId(u32::MAX);

/// What a request is for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A lease of the n-th semaphore.
    Lease(u64),
    /// All of these locks.
    Locks(BTreeSet<u64>),
    Put(u64),
    /// Items of a queue.
    Items,
    /// The value of a variable, or a dataset.
    Value,
    Other,
}

/// What a client has to do with shared objects.
#[derive(Debug, Default)]
pub struct Sharing {
    pub asked: BTreeMap<u64, Asked>,
    /// Requests that were given up: an answer to them may come or not.
    pub given_up: BTreeSet<u64>,
    granted: BTreeMap<u64, Asked>,
    /// Items that were given and are neither taken nor given back.
    unsettled: BTreeSet<u64>,
    opened: BTreeSet<u64>,
    /// Items that were taken in this session: the word of it may not have arrived when that ends.
    taken: BTreeSet<u64>,
}

impl Sharing {
    /// The session is over: nothing is held any more. Returns items that may come back.
    pub fn lose(&mut self) -> BTreeSet<u64> {
        self.granted.clear();
        self.unsettled.clear();
        self.opened.clear();
        std::mem::take(&mut self.taken)
    }

    /// Returns the requests that nobody answers any more.
    pub fn end_asked(&mut self) -> Vec<u64> {
        self.given_up.clear();
        std::mem::take(&mut self.asked).into_keys().collect()
    }
}

/// What the world knows of shared values.
#[derive(Debug, Default)]
pub struct Shared {
    /// What the futures in values stand for.
    futures: BTreeMap<Key, SimFuture>,
    last_item: u64,
    /// Items whose putting was acknowledged, and those whose was refused.
    put: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    taken: BTreeSet<u64>,
    /// Items of which the queue may not know that they were taken.
    doubtful: BTreeSet<u64>,
}

impl Shared {
    /// The word that these were taken may be lost.
    pub fn doubt(&mut self, items: BTreeSet<u64>) {
        self.doubtful.extend(items);
    }

    /// All objects are gone, with what is in them.
    pub fn lose_all(&mut self) {
        self.put.clear();
    }

    /// Takes an item; false if it must not be there.
    fn take(&mut self, item: u64) -> bool {
        let is_new = self.taken.insert(item) || self.doubtful.remove(&item);
        is_new && !self.refused.contains(&item)
    }
}

fn name(kind: &str, number: u64) -> Key {
    Key::from_text(&format!("{kind}-{number}"))
}

impl World {
    pub fn share_something(&mut self, client: ClientId) {
        let number = self.rng.below(NAMES);
        let timeout_ns = self.random_timeout();
        match self.rng.below(20) {
            0..=3 => self.ask_for_lease(client, number, timeout_ns),
            4..=5 => self.ask_for_locks(client, timeout_ns),
            6..=8 => self.let_go_of_one(client),
            9 => self.give_up_one(client),
            10 => {
                let is_set = self.rng.chance(50);
                let set = SetEvent { name: name("event", number), is_set };
                self.ask_shared(client, Asked::Other, Coordination::SetEvent(set));
            }
            11 => {
                let wait = WaitFor { name: name("event", number), timeout_ns };
                self.ask_shared(client, Asked::Other, Coordination::WaitForEvent(wait));
            }
            12..=13 => self.put_something(client, number, timeout_ns),
            14..=15 => self.get_something(client, number, timeout_ns),
            16 => {
                let value = self.random_value(client);
                let set = SetVariable { name: name("variable", number), value };
                self.ask_shared(client, Asked::Other, Coordination::SetVariable(set));
            }
            17 => {
                let get = WaitFor { name: name("variable", number), timeout_ns };
                self.ask_shared(client, Asked::Value, Coordination::GetVariable(get));
            }
            18 => {
                let entries = vec![(name("dataset", number), self.random_value(client))];
                let publish = Publish { entries, replaces: self.rng.chance(50) };
                self.ask_shared(client, Asked::Other, Coordination::Publish(publish));
            }
            _ => {
                let names = vec![name("dataset", number)];
                if self.rng.chance(40) {
                    self.ask_shared(client, Asked::Other, Coordination::Unpublish(names));
                } else {
                    self.ask_shared(client, Asked::Value, Coordination::GetDatasets(names));
                }
            }
        }
    }

    fn random_timeout(&mut self) -> Option<u64> {
        match self.rng.below(3) {
            0 => None,
            1 => Some(0),
            _ => Some(self.rng.between(1, 30) * Nanos::MILLISECOND),
        }
    }

    fn ask_shared(&mut self, client: ClientId, asked: Asked, what: Coordination) -> u64 {
        let Some(record) = self.client(client) else { return 0 };
        let id = record.real.coordinate(what);
        record.sharing.asked.insert(id, asked);
        self.report.shared += 1;
        self.carry(client);
        id
    }

    fn settle(&mut self, client: ClientId, request: u64, is_taken: bool) {
        let Some(record) = self.client(client) else { return };
        record.real.client.settle(request, is_taken);
        self.carry(client);
    }

    fn ask_for_lease(&mut self, client: ClientId, number: u64, timeout_ns: Option<u64>) {
        let acquire = Acquire {
            name: name("semaphore", number),
            max_leases: LEASES[number as usize],
            registers: true,
            is_lasting: self.rng.chance(30),
            timeout_ns,
        };
        self.ask_shared(client, Asked::Lease(number), Coordination::Acquire(acquire));
    }

    fn ask_for_locks(&mut self, client: ClientId, timeout_ns: Option<u64>) {
        let wanted: BTreeSet<u64> =
            (0..self.rng.between(1, 3)).map(|_| self.rng.below(4)).collect();
        let names: Vec<Key> = wanted.iter().map(|number| name("lock", *number)).collect();
        let is_any = self.rng.chance(30);
        let count = if is_any { 1 } else { names.len() as u32 };
        let asked = if count as usize == wanted.len() {
            Asked::Locks(wanted)
        } else {
            Asked::Locks(BTreeSet::new())
        };
        let acquire = AcquireMany { names, count, timeout_ns };
        self.ask_shared(client, asked, Coordination::AcquireMany(acquire));
    }

    /// Releases a lease or some locks, or takes or gives back items.
    fn let_go_of_one(&mut self, client: ClientId) {
        let Some(record) = self.client(client) else { return };
        if let Some((lease, _)) = record.sharing.granted.pop_first() {
            if self.rng.chance(50) {
                self.ask_shared(client, Asked::Other, Coordination::Release(lease));
            } else {
                self.settle(client, lease, false);
            }
        } else if let Some(request) = record.sharing.unsettled.pop_first() {
            self.settle(client, request, false);
        }
    }

    fn give_up_one(&mut self, client: ClientId) {
        let Some(record) = self.client(client) else { return };
        let Some((request, _)) = record.sharing.asked.pop_first() else { return };
        record.sharing.given_up.insert(request);
        self.settle(client, request, false);
    }

    /// A number, now and then with futures of the client.
    fn random_value(&mut self, client: ClientId) -> SharedValue {
        self.shared.last_item += 1;
        let payload = Bytes::copy_from_slice(&self.shared.last_item.to_le_bytes());
        let mut keys = Vec::new();
        for handle in self.some_futures(client, 20) {
            let future = self.clients.get(&client).and_then(|c| c.futures.get(&handle)).cloned();
            let Some(future) = future.filter(can_be_shared) else { continue };
            keys.push(future.key.clone());
            self.shared.futures.insert(future.key.clone(), future);
        }
        SharedValue { payload, keys }
    }

    fn open_queue(&mut self, client: ClientId, number: u64) {
        let Some(record) = self.client(client) else { return };
        if !record.sharing.opened.insert(number) {
            return;
        }
        let open = OpenQueue { name: name("queue", number), max_size: 2 * number };
        let id = record.real.coordinate(Coordination::OpenQueue(open));
        record.sharing.given_up.insert(id);
        self.carry(client);
    }

    fn put_something(&mut self, client: ClientId, number: u64, timeout_ns: Option<u64>) {
        self.open_queue(client, number);
        let value = self.random_value(client);
        let item = self.shared.last_item;
        let put = PutItem { name: name("queue", number), value, timeout_ns };
        self.ask_shared(client, Asked::Put(item), Coordination::PutItem(put));
    }

    fn get_something(&mut self, client: ClientId, number: u64, timeout_ns: Option<u64>) {
        self.open_queue(client, number);
        let count = [0, 1, 1, 3][self.rng.below(4) as usize];
        let get = GetItems { name: name("queue", number), count, timeout_ns };
        self.ask_shared(client, Asked::Items, Coordination::GetItems(get));
    }

    /// # Errors
    /// Something is held by too many, or was given twice.
    pub fn on_shared_answer(
        &mut self,
        client: ClientId,
        request: u64,
        asked: Asked,
        answer: &Answer,
    ) -> Checked {
        match asked {
            Asked::Lease(_) | Asked::Locks(_) if answer.value == Value::Bool(true) => {
                if let Some(record) = self.client(client) {
                    record.sharing.granted.insert(request, asked);
                }
                self.check_exclusion()
            }
            Asked::Put(item) => {
                let is_put = answer.error_kind.is_empty();
                let list = if is_put { &mut self.shared.put } else { &mut self.shared.refused };
                list.insert(item);
                Ok(())
            }
            Asked::Items if answer.error_kind.is_empty() => {
                if self.rng.chance(20) && client != JANITOR {
                    if let Some(record) = self.client(client) {
                        record.sharing.unsettled.insert(request);
                    }
                    return Ok(());
                }
                for (item, keys) in given_items(&answer.value) {
                    if !self.shared.take(item) {
                        let what = format!("item {item} was refused, or is taken twice");
                        return Err(Broken::new("I3", what));
                    }
                    if let Some(record) = self.client(client) {
                        record.sharing.taken.insert(item);
                    }
                    self.desire_shared(client, &keys)?;
                }
                self.settle(client, request, true);
                Ok(())
            }
            Asked::Value if answer.error_kind.is_empty() => {
                for (_, keys) in given_items(&answer.value) {
                    self.desire_shared(client, &keys)?;
                }
                self.settle(client, request, true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Futures of a value become the client's own, if their tasks are known.
    fn desire_shared(&mut self, client: ClientId, keys: &[(Key, bool)]) -> Checked {
        for (key, is_known) in keys {
            let Some(shared) = self.shared.futures.get(key).filter(|_| *is_known).cloned() else {
                continue;
            };
            self.desire(client, key, &shared)?;
        }
        Ok(())
    }

    fn check_exclusion(&self) -> Checked {
        let alive = || self.clients.values().filter(|client| client.alive);
        let granted: Vec<&Asked> = alive().flat_map(|c| c.sharing.granted.values()).collect();
        for number in 0..NAMES {
            let leases = granted.iter().filter(|a| matches!(a, Asked::Lease(n) if *n == number));
            if leases.count() > LEASES[number as usize] as usize {
                let what = format!("semaphore {number} has too many holders");
                return Err(Broken::new("I9", what));
            }
        }
        let mut held = BTreeSet::new();
        for asked in granted {
            let Asked::Locks(numbers) = asked else { continue };
            if !numbers.iter().all(|number| held.insert(*number)) {
                let what = format!("one of the locks {numbers:?} has two holders");
                return Err(Broken::new("I9", what));
            }
        }
        Ok(())
    }

    /// Everybody lets go of everything, and what is left in queues is taken out.
    ///
    /// # Errors
    /// An item that was put is neither taken nor there.
    pub fn let_go_of_shared(&mut self) -> Checked {
        if !self.trouble.sharing {
            return Ok(());
        }
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            while self.client(client).is_some_and(|record| {
                !record.sharing.granted.is_empty() || !record.sharing.unsettled.is_empty()
            }) {
                self.let_go_of_one(client);
            }
            while self.client(client).is_some_and(|record| !record.sharing.asked.is_empty()) {
                self.give_up_one(client);
            }
        }
        self.live()?;
        let epoch = self.scheduler.epoch();
        self.clients.insert(JANITOR, SimClient::new(JANITOR, false, epoch));
        self.carry(JANITOR);
        for number in 0..NAMES {
            let delete = Coordination::DeleteVariable(name("variable", number));
            self.ask_shared(JANITOR, Asked::Other, delete);
            let unpublish = Coordination::Unpublish(vec![name("dataset", number)]);
            self.ask_shared(JANITOR, Asked::Other, unpublish);
            self.open_queue(JANITOR, number);
            let get = GetItems { name: name("queue", number), count: 0, timeout_ns: Some(0) };
            self.ask_shared(JANITOR, Asked::Items, Coordination::GetItems(get));
        }
        self.live()?;
        let lost = self.shared.put.difference(&self.shared.taken).next();
        let what = |item| Broken::new("I3", format!("item {item} was put and is lost"));
        lost.map_or(Ok(()), |item| Err(what(item)))
    }
}

fn can_be_shared(future: &SimFuture) -> bool {
    future.bound && !future.released && !future.key.as_bytes().starts_with(b"sshared")
}

/// The numbers in an answer, and the futures beside them.
fn given_items(value: &Value) -> Vec<(u64, Vec<(Key, bool)>)> {
    let Value::List(items) = value else { return Vec::new() };
    let item = |item: &Value| {
        let Value::List(parts) = item else { return None };
        let [Value::Bytes(payload), Value::List(keys), Value::List(known)] = parts.as_slice()
        else {
            return None;
        };
        let number = u64::from_le_bytes(payload.as_ref().try_into().ok()?);
        let pair = |(key, known): (&Value, &Value)| match (key, known) {
            (Value::Key(key), Value::Bool(known)) => Some((key.clone(), *known)),
            _ => None,
        };
        Some((number, keys.iter().zip(known).filter_map(pair).collect()))
    };
    items.iter().filter_map(item).collect()
}
