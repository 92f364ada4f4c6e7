//! The invariants of shared objects, recounted.

use super::desk::{Asker, Claim, Item, Place};
use super::{Coordinator, Scheduler};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_types::{Key, Nanos, TaskId};

/// What the objects say of the requests.
#[derive(Default)]
struct Found {
    waiting: BTreeSet<(u64, Asker)>,
    leases: BTreeSet<Asker>,
    locks: BTreeSet<Asker>,
    opened: BTreeSet<Asker>,
    /// Per task, how many values name it.
    items: BTreeMap<TaskId, u32>,
}

impl Found {
    fn item(&mut self, item: &Item) {
        item.tasks.iter().for_each(|(_, id)| *self.items.entry(*id).or_default() += 1);
    }
}

fn broken(what: &str, name: &Key, how: &str) -> Result<(), String> {
    Err(format!("{what} {name}: {how}"))
}

impl Coordinator {
    fn check_semaphores(&self, found: &mut Found) -> Result<(), String> {
        for (name, semaphore) in &self.semaphores.by_name {
            let max = semaphore.max_leases as usize;
            if semaphore.leases.len() > max {
                return broken("semaphore", name, "more leases than there are");
            }
            if semaphore.leases.len() < max && !semaphore.waiting.is_empty() {
                return broken("semaphore", name, "somebody waits for a free lease");
            }
            if semaphore.leases.is_empty() && semaphore.users.is_empty() {
                return broken("semaphore", name, "it should have been forgotten");
            }
            found.leases.extend(&semaphore.leases);
            found.waiting.extend(semaphore.waiting.iter().map(|(turn, asker)| (*turn, *asker)));
        }
        Ok(())
    }

    fn check_locks(&self, found: &mut Found) -> Result<(), String> {
        for (name, lock) in &self.locks.locks {
            if lock.holder.is_none() && lock.waiting.is_empty() {
                return broken("lock", name, "it should have been forgotten");
            }
            if let Some(holder) = lock.holder
                && !self.locks.held.get(&holder).is_some_and(|names| names.contains(name))
            {
                return broken("lock", name, "its holder does not know of it");
            }
        }
        for (asker, names) in &self.locks.held {
            let is_holder =
                |name| self.locks.locks.get(name).is_some_and(|lock| lock.holder == Some(*asker));
            if names.is_empty() || !names.iter().all(is_holder) {
                return Err(format!("{asker:?} holds locks that are not its own"));
            }
            found.locks.insert(*asker);
        }
        for (asker, wanted) in &self.locks.wanted {
            let first_at = |name: &&Key| {
                self.locks.locks.get(*name).is_some_and(|lock| {
                    let first = lock.waiting.first_key_value();
                    lock.holder.is_none() && first == Some((&wanted.turn, asker))
                })
            };
            if wanted.names.iter().filter(first_at).count() >= wanted.count {
                return Err(format!("{asker:?} waits for locks that are free"));
            }
            found.waiting.insert((wanted.turn, *asker));
        }
        Ok(())
    }

    fn check_events(&self, found: &mut Found) -> Result<(), String> {
        for (name, flag) in &self.events.by_name {
            if flag.is_set != flag.waiting.is_empty() {
                return broken("event", name, "set and waited for, or neither");
            }
            found.waiting.extend(flag.waiting.iter().map(|(turn, asker)| (*turn, *asker)));
        }
        Ok(())
    }

    fn check_queues(&self, found: &mut Found) -> Result<(), String> {
        for (name, queue) in &self.queues.by_name {
            if !queue.items.is_empty() && !queue.getters.is_empty() {
                return broken("queue", name, "somebody waits for items that are there");
            }
            let is_full = queue.max_size > 0 && queue.items.len() >= queue.max_size;
            if !queue.putters.is_empty() && !is_full {
                return broken("queue", name, "somebody waits for room that is there");
            }
            let is_used = !(queue.users.is_empty() && queue.given.is_empty());
            if !is_used && queue.items.is_empty() && queue.getters.is_empty() {
                return broken("queue", name, "it should have been forgotten");
            }
            let is_given = |asker| matches!(self.desk.claims.get(asker), Some(Claim::Given { .. }));
            if !queue.given.iter().all(is_given) {
                return broken("queue", name, "it waits for the word on items that nobody has");
            }
            found.opened.extend(&queue.users);
            queue.items.iter().for_each(|item| found.item(item));
            for (turn, getter) in &queue.getters {
                if getter.items.len() >= getter.count {
                    return broken("queue", name, "somebody waits who has enough");
                }
                found.waiting.insert((*turn, getter.asker));
                getter.items.iter().for_each(|item| found.item(item));
            }
            for (turn, (asker, item)) in &queue.putters {
                found.waiting.insert((*turn, *asker));
                found.item(item);
            }
        }
        Ok(())
    }

    fn check_variables(&self, found: &mut Found) -> Result<(), String> {
        for (name, variable) in &self.variables.by_name {
            if variable.value.is_some() != variable.waiting.is_empty() {
                return broken("variable", name, "set and waited for, or neither");
            }
            variable.value.iter().for_each(|item| found.item(item));
            found.waiting.extend(variable.waiting.iter().map(|(turn, asker)| (*turn, *asker)));
        }
        self.datasets.by_name.values().for_each(|item| found.item(item));
        Ok(())
    }

    /// Objects and requests agree.
    fn check(&self) -> Result<(), String> {
        let mut found = Found::default();
        self.check_semaphores(&mut found)?;
        self.check_locks(&mut found)?;
        self.check_events(&mut found)?;
        self.check_queues(&mut found)?;
        self.check_variables(&mut found)?;
        let mut claimed = Found::default();
        let mut deadlines: BTreeSet<(Nanos, Asker)> = BTreeSet::new();
        for (asker, claim) in &self.desk.claims {
            match claim {
                Claim::Waiting { turn, until, place } => {
                    claimed.waiting.insert((*turn, *asker));
                    deadlines.extend(until.map(|until| (until, *asker)));
                    let is_elsewhere =
                        matches!(place, Place::MultiLock) != self.locks.wanted.contains_key(asker);
                    if is_elsewhere {
                        return Err(format!("{asker:?} waits in the wrong place"));
                    }
                }
                Claim::Lease(_) => _ = claimed.leases.insert(*asker),
                Claim::Locks => _ = claimed.locks.insert(*asker),
                Claim::Open(_) => _ = claimed.opened.insert(*asker),
                Claim::Given { items, .. } => items.iter().for_each(|item| found.item(item)),
            }
        }
        let agree = found.waiting == claimed.waiting
            && found.leases == claimed.leases
            && found.locks == claimed.locks
            && found.opened == claimed.opened
            && deadlines == *self.desk.deadlines();
        if !agree {
            return Err("shared objects and the requests for them disagree".into());
        }
        if found.items != self.desk.holds.counts() {
            return Err("shared values count the tasks that they name wrongly".into());
        }
        Ok(())
    }
}

impl Scheduler {
    pub(in super::super) fn validate_coordination(&self) -> Result<(), String> {
        self.coordinator.check()?;
        for asker in self.coordinator.desk.claims.keys() {
            if !self.clients.contains_key(&asker.client) {
                return Err(format!("{asker:?} is gone, and yet it waits or holds something"));
            }
        }
        for id in self.coordinator.desk.holds.kept() {
            if self.tasks.get(id).is_none_or(|index| self.tasks[index].holds == 0) {
                return Err(format!("task {id} is shared and yet not kept"));
            }
        }
        Ok(())
    }

    /// How many shared values, as one holder, keep a task.
    pub(in super::super) fn shared_holds(&self, id: TaskId) -> u32 {
        u32::from(self.coordinator.keeps(id))
    }
}
