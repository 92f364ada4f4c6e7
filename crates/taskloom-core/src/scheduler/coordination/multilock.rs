//! Several locks at once, without deadlock.
//!
//! A request stands in the queue of each lock that it names, and enters all of them in one step:
//! so any two requests stand in the same order in every queue that they share. It gets the locks
//! when enough of them are free with nobody before it. The oldest request stands first
//! everywhere, so locks that become free always reach somebody.

use super::super::Map;
use super::desk::{Asker, Claim, Desk, Patience, Place, Turn};
use std::collections::BTreeMap;
use taskloom_proto::Value;
use taskloom_proto::coordination::AcquireMany;
use taskloom_types::Key;

#[derive(Debug, Default)]
pub struct NamedLock {
    pub holder: Option<Asker>,
    pub waiting: BTreeMap<Turn, Asker>,
}

/// What a request that waits asks for.
#[derive(Debug)]
pub struct Wanted {
    pub turn: Turn,
    pub names: Vec<Key>,
    pub count: usize,
}

#[derive(Debug, Default)]
pub struct MultiLocks {
    pub locks: Map<Key, NamedLock>,
    pub wanted: BTreeMap<Asker, Wanted>,
    pub held: BTreeMap<Asker, Vec<Key>>,
}

impl MultiLocks {
    pub fn acquire(&mut self, desk: &mut Desk, asker: Asker, acquire: AcquireMany, how: Patience) {
        let AcquireMany { mut names, count, .. } = acquire;
        names.sort_unstable();
        names.dedup();
        let count = count as usize;
        if count == 0 || count > names.len() {
            let message = format!("{count} of {} different locks cannot be acquired", names.len());
            return desk.fail(asker, "value", message);
        }
        let mut free = self.free_of(&names, Turn::MAX);
        if free.len() >= count {
            free.truncate(count);
            self.take(desk, asker, free);
        } else if how == Patience::None {
            desk.answer(asker, Value::Bool(false));
        } else {
            let turn = desk.wait(asker, Place::MultiLock, how);
            for name in &names {
                self.locks.entry(name.clone()).or_default().waiting.insert(turn, asker);
            }
            self.wanted.insert(asker, Wanted { turn, names, count });
        }
    }

    /// The locks that are free, and that nobody waits for who came before this turn.
    fn free_of(&self, names: &[Key], turn: Turn) -> Vec<Key> {
        let is_free = |name: &&Key| {
            let Some(lock) = self.locks.get(*name) else { return true };
            lock.holder.is_none() && lock.waiting.first_key_value().is_none_or(|(t, _)| *t >= turn)
        };
        names.iter().filter(is_free).cloned().collect()
    }

    fn take(&mut self, desk: &mut Desk, asker: Asker, names: Vec<Key>) {
        for name in &names {
            self.locks.entry(name.clone()).or_default().holder = Some(asker);
        }
        self.held.insert(asker, names);
        desk.grant(asker, Claim::Locks);
    }

    pub fn release(&mut self, desk: &mut Desk, asker: Asker) {
        let names = self.held.remove(&asker).unwrap_or_default();
        for name in &names {
            if let Some(lock) = self.locks.get_mut(name) {
                lock.holder = None;
            }
        }
        self.pass_on(desk, names);
    }

    pub fn withdraw(&mut self, desk: &mut Desk, asker: Asker) {
        let names = self.leave_queues(asker);
        self.pass_on(desk, names);
    }

    /// Takes a request out of all its queues; gives the names.
    fn leave_queues(&mut self, asker: Asker) -> Vec<Key> {
        let Some(wanted) = self.wanted.remove(&asker) else { return Vec::new() };
        for name in &wanted.names {
            if let Some(lock) = self.locks.get_mut(name) {
                lock.waiting.remove(&wanted.turn);
            }
        }
        wanted.names
    }

    /// Something changed at these locks: who stands first there may have enough now.
    fn pass_on(&mut self, desk: &mut Desk, mut changed: Vec<Key>) {
        while let Some(name) = changed.pop() {
            let Some(lock) = self.locks.get(&name) else { continue };
            if lock.holder.is_some() {
                continue;
            }
            let Some((turn, asker)) = lock.waiting.first_key_value().map(|(t, a)| (*t, *a)) else {
                self.locks.remove(&name);
                continue;
            };
            let Some(wanted) = self.wanted.get(&asker) else { continue };
            let mut free = self.free_of(&wanted.names, turn);
            if free.len() >= wanted.count {
                free.truncate(wanted.count);
                changed.extend(self.leave_queues(asker));
                self.take(desk, asker, free);
            }
        }
    }
}
