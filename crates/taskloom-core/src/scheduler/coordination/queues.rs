//! Queues of values, bounded or not.

use super::super::Map;
use super::desk::{Asker, Claim, Desk, Item, Patience, Place, Turn};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use taskloom_proto::Value;
use taskloom_types::Key;

/// Somebody who waits for items. Those that came already are kept for them, so that a batch may
/// be larger than the queue.
#[derive(Debug)]
pub struct Getter {
    pub asker: Asker,
    pub count: usize,
    pub items: Vec<Item>,
}

#[derive(Debug, Default)]
pub struct Queue {
    /// 0 means without bound.
    pub max_size: usize,
    pub items: VecDeque<Item>,
    pub getters: BTreeMap<Turn, Getter>,
    pub putters: BTreeMap<Turn, (Asker, Item)>,
    /// The requests that opened it and have not closed it.
    pub users: BTreeSet<Asker>,
    /// The requests that were given items which may come back.
    pub given: BTreeSet<Asker>,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.max_size == 0 || self.items.len() < self.max_size
    }
}

#[derive(Debug, Default)]
pub struct Queues {
    pub by_name: Map<Key, Queue>,
}

impl Queues {
    pub fn open(&mut self, desk: &mut Desk, asker: Asker, name: Key, max_size: u64) {
        let max_size = usize::try_from(max_size).unwrap_or(usize::MAX);
        let new = || Queue { max_size, ..Queue::default() };
        self.by_name.entry(name.clone()).or_insert_with(new).users.insert(asker);
        desk.grant(asker, Claim::Open(name));
    }

    /// One object uses the queue no more. `closes`: the last one takes the queue with it;
    /// otherwise one with items stays for those who come later.
    pub fn leave(&mut self, desk: &mut Desk, asker: Asker, name: &Key, closes: bool) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        queue.users.remove(&asker);
        let is_done = closes && queue.users.is_empty();
        if is_done {
            self.delete(desk, name);
        } else {
            self.tidy(name);
        }
    }

    fn delete(&mut self, desk: &mut Desk, name: &Key) {
        let Some(queue) = self.by_name.remove(name) else { return };
        let message = format!("queue {name} was closed");
        for getter in queue.getters.into_values() {
            desk.stop_waiting(getter.asker);
            desk.fail(getter.asker, "gone", message.clone());
            getter.items.iter().for_each(|item| desk.holds.free(item));
        }
        for (asker, item) in queue.putters.into_values() {
            desk.stop_waiting(asker);
            desk.fail(asker, "gone", message.clone());
            desk.holds.free(&item);
        }
        queue.items.iter().for_each(|item| desk.holds.free(item));
    }

    /// Forgets a queue that is empty and that nobody uses.
    fn tidy(&mut self, name: &Key) {
        let says_nothing = |queue: &Queue| {
            queue.users.is_empty()
                && queue.items.is_empty()
                && queue.getters.is_empty()
                && queue.putters.is_empty()
                && queue.given.is_empty()
        };
        if self.by_name.get(name).is_some_and(says_nothing) {
            self.by_name.remove(name);
        }
    }

    /// Puts an item that [`super::desk::Holds`] does not count yet.
    pub fn put(&mut self, desk: &mut Desk, asker: Asker, name: Key, item: Item, how: Patience) {
        let Some(queue) = self.by_name.get_mut(&name) else {
            return fail_unknown(desk, asker, &name);
        };
        if queue.has_room() {
            desk.holds.keep(&item);
            desk.answer(asker, Value::Null);
            queue.items.push_back(item);
            self.pass_on(desk, &name);
        } else if how == Patience::None {
            desk.fail(asker, "timeout", format!("queue {name} is full"));
        } else {
            desk.holds.keep(&item);
            let turn = desk.wait(asker, Place::QueuePut(name), how);
            queue.putters.insert(turn, (asker, item));
        }
    }

    /// `count`: 0 means all that are there.
    pub fn get(&mut self, desk: &mut Desk, asker: Asker, name: Key, count: usize, how: Patience) {
        let Some(queue) = self.by_name.get_mut(&name) else {
            return fail_unknown(desk, asker, &name);
        };
        let is_enough = count == 0 || (queue.items.len() >= count && queue.getters.is_empty());
        if is_enough {
            let count = if count == 0 { queue.items.len() } else { count };
            let items: Vec<_> = queue.items.drain(..count).map(Some).collect();
            if !items.is_empty() {
                queue.given.insert(asker);
            }
            desk.give(asker, items, Some(name.clone()));
            self.pass_on(desk, &name);
            self.tidy(&name);
        } else if how == Patience::None {
            desk.fail(asker, "timeout", format!("queue {name} has too few items"));
        } else {
            let turn = desk.wait(asker, Place::QueueGet(name.clone()), how);
            queue.getters.insert(turn, Getter { asker, count, items: Vec::new() });
            self.pass_on(desk, &name);
        }
    }

    /// Moves items to those who wait for them, and into the room that this makes.
    fn pass_on(&mut self, desk: &mut Desk, name: &Key) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        loop {
            while queue.has_room()
                && let Some((_, (asker, item))) = queue.putters.pop_first()
            {
                desk.stop_waiting(asker);
                desk.answer(asker, Value::Null);
                queue.items.push_back(item);
            }
            let Some(mut first) = queue.getters.first_entry() else { return };
            let getter = first.get_mut();
            let missing = getter.count - getter.items.len();
            let found = missing.min(queue.items.len());
            if found == 0 {
                return;
            }
            getter.items.extend(queue.items.drain(..found));
            if found == missing {
                let getter = first.remove();
                let items = getter.items.into_iter().map(Some).collect();
                queue.given.insert(getter.asker);
                desk.give(getter.asker, items, Some(name.clone()));
            }
        }
    }

    /// Items that were given are taken, or go back to the front in their order.
    pub fn settle(
        &mut self,
        desk: &mut Desk,
        asker: Asker,
        name: &Key,
        items: Vec<Item>,
        is_taken: bool,
    ) {
        // One that was closed meanwhile, or made anew, does not know of them.
        let is_its = self.by_name.get_mut(name).is_some_and(|queue| queue.given.remove(&asker));
        if is_its && !is_taken {
            self.put_back(desk, name, items);
        } else {
            items.iter().for_each(|item| desk.holds.free(item));
        }
        self.tidy(name);
    }

    fn put_back(&mut self, desk: &mut Desk, name: &Key, items: Vec<Item>) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        items.into_iter().rev().for_each(|item| queue.items.push_front(item));
        self.pass_on(desk, name);
    }

    pub fn stop_getting(&mut self, desk: &mut Desk, name: &Key, turn: Turn) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        let Some(getter) = queue.getters.remove(&turn) else { return };
        self.put_back(desk, name, getter.items);
        self.tidy(name);
    }

    pub fn stop_putting(&mut self, desk: &mut Desk, name: &Key, turn: Turn) {
        let Some(queue) = self.by_name.get_mut(name) else { return };
        if let Some((_, item)) = queue.putters.remove(&turn) {
            desk.holds.free(&item);
        }
        self.tidy(name);
    }

    #[must_use]
    pub fn size(&self, name: &Key) -> usize {
        self.by_name.get(name).map_or(0, |queue| queue.items.len())
    }
}

fn fail_unknown(desk: &mut Desk, asker: Asker, name: &Key) {
    desk.fail(asker, "gone", format!("queue {name} was closed"));
}
