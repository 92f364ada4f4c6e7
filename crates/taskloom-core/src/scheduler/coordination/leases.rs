//! Semaphores; a lock is one with a single lease.

use super::super::Map;
use super::desk::{Asker, Claim, Desk, Patience, Place, Turn};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::Value;
use taskloom_proto::coordination::Acquire;
use taskloom_types::{ClientId, Key};

/// A lease belongs to a request, and so to a connection: it ends with that, and needs no renewal.
#[derive(Debug)]
pub struct Semaphore {
    pub max_leases: u32,
    pub leases: BTreeSet<Asker>,
    pub waiting: BTreeMap<Turn, Asker>,
    /// Connected clients for which it is kept, with its number of leases, when it is idle.
    pub users: BTreeSet<ClientId>,
}

#[derive(Debug, Default)]
pub struct Semaphores {
    pub by_name: Map<Key, Semaphore>,
}

impl Semaphores {
    /// Makes a semaphore, or checks that it has this number of leases. It is kept for its `user`
    /// also when it is idle.
    ///
    /// # Errors
    /// The kind and the message.
    pub fn register(
        &mut self,
        user: Option<ClientId>,
        name: &Key,
        max_leases: u32,
    ) -> Result<&mut Semaphore, (&'static str, String)> {
        if max_leases == 0 {
            return Err(("value", format!("semaphore {name} needs at least one lease")));
        }
        let semaphore = self.by_name.entry(name.clone()).or_insert_with(|| Semaphore {
            max_leases,
            leases: BTreeSet::new(),
            waiting: BTreeMap::new(),
            users: BTreeSet::new(),
        });
        if semaphore.max_leases != max_leases {
            let message = format!(
                "semaphore {name} has {} leases, and is used as one with {max_leases}: choose \
                 another name, or close it first",
                semaphore.max_leases
            );
            return Err(("value", message));
        }
        semaphore.users.extend(user);
        Ok(semaphore)
    }

    pub fn acquire(&mut self, desk: &mut Desk, asker: Asker, acquire: Acquire, how: Patience) {
        let Acquire { name, max_leases, registers, is_lasting, .. } = acquire;
        let user = is_lasting.then_some(asker.client);
        if !registers && !self.by_name.contains_key(&name) {
            return desk.fail(asker, "gone", format!("semaphore or lock {name} was closed"));
        }
        let semaphore = match self.register(user, &name, max_leases) {
            Ok(semaphore) => semaphore,
            Err((kind, message)) => return desk.fail(asker, kind, message),
        };
        if semaphore.leases.len() < semaphore.max_leases as usize {
            semaphore.leases.insert(asker);
            desk.grant(asker, Claim::Lease(name));
        } else if how == Patience::None {
            desk.answer(asker, Value::Bool(false));
        } else {
            let turn = desk.wait(asker, Place::Semaphore(name), how);
            semaphore.waiting.insert(turn, asker);
        }
    }

    /// A lease is free again: the longest waiting gets it.
    pub fn release(&mut self, desk: &mut Desk, asker: Asker, name: &Key) {
        let Some(semaphore) = self.by_name.get_mut(name) else { return };
        semaphore.leases.remove(&asker);
        if let Some((_, next)) = semaphore.waiting.pop_first() {
            semaphore.leases.insert(next);
            desk.grant(next, Claim::Lease(name.clone()));
        }
        self.tidy(name);
    }

    pub fn withdraw(&mut self, name: &Key, turn: Turn) {
        if let Some(semaphore) = self.by_name.get_mut(name) {
            semaphore.waiting.remove(&turn);
        }
        self.tidy(name);
    }

    /// Forgets a semaphore that says nothing: an idle lock, or one whose users have left.
    fn tidy(&mut self, name: &Key) {
        let says_nothing = |semaphore: &Semaphore| {
            semaphore.leases.is_empty()
                && semaphore.waiting.is_empty()
                && semaphore.users.is_empty()
        };
        if self.by_name.get(name).is_some_and(says_nothing) {
            self.by_name.remove(name);
        }
    }

    pub fn count(&self, name: &Key) -> usize {
        self.by_name.get(name).map_or(0, |semaphore| semaphore.leases.len())
    }

    /// Takes a semaphore away from all that use it. Returns how many leases and waits there were.
    pub fn close(&mut self, desk: &mut Desk, name: &Key) -> (usize, usize) {
        let Some(semaphore) = self.by_name.remove(name) else { return (0, 0) };
        for asker in &semaphore.leases {
            desk.claims.remove(asker);
        }
        for asker in semaphore.waiting.values() {
            desk.stop_waiting(*asker);
            desk.fail(*asker, "gone", format!("semaphore or lock {name} was closed"));
        }
        (semaphore.leases.len(), semaphore.waiting.len())
    }

    /// A client left; its leases and waits are gone already.
    pub fn forget_client(&mut self, client: ClientId) {
        let mut names = Vec::new();
        for (name, semaphore) in &mut self.by_name {
            if semaphore.users.remove(&client) {
                names.push(name.clone());
            }
        }
        names.iter().for_each(|name| self.tidy(name));
    }
}
