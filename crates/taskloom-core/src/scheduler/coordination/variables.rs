//! Variables, and the datasets that clients publish: values by name.

use super::super::Map;
use super::desk::{Asker, Desk, Item, Patience, Place, Turn};
use std::collections::BTreeMap;
use taskloom_proto::Value;
use taskloom_types::Key;

/// A variable that has a value, or that somebody waits for.
#[derive(Debug, Default)]
pub struct Variable {
    pub value: Option<Item>,
    pub waiting: BTreeMap<Turn, Asker>,
}

#[derive(Debug, Default)]
pub struct Variables {
    pub by_name: Map<Key, Variable>,
}

impl Variables {
    /// Sets a value that [`super::desk::Holds`] does not count yet.
    pub fn set(&mut self, desk: &mut Desk, name: Key, item: Item) {
        let variable = self.by_name.entry(name).or_default();
        desk.holds.keep(&item);
        for asker in std::mem::take(&mut variable.waiting).into_values() {
            desk.holds.keep_copy(&item);
            desk.give(asker, vec![Some(item.clone())], None);
        }
        if let Some(before) = variable.value.replace(item) {
            desk.holds.free(&before);
        }
    }

    pub fn get(&mut self, desk: &mut Desk, asker: Asker, name: Key, how: Patience) {
        if let Some(item) = self.by_name.get(&name).and_then(|variable| variable.value.clone()) {
            desk.holds.keep_copy(&item);
            desk.give(asker, vec![Some(item)], None);
        } else if how == Patience::None {
            desk.fail(asker, "timeout", format!("variable {name} has no value"));
        } else {
            let turn = desk.wait(asker, Place::Variable(name.clone()), how);
            self.by_name.entry(name).or_default().waiting.insert(turn, asker);
        }
    }

    pub fn delete(&mut self, desk: &mut Desk, name: &Key) {
        let value = self.by_name.get_mut(name).and_then(|variable| variable.value.take());
        if let Some(item) = value {
            desk.holds.free(&item);
        }
        self.tidy(name);
    }

    pub fn withdraw(&mut self, name: &Key, turn: Turn) {
        if let Some(variable) = self.by_name.get_mut(name) {
            variable.waiting.remove(&turn);
        }
        self.tidy(name);
    }

    fn tidy(&mut self, name: &Key) {
        let says_nothing = |v: &Variable| v.value.is_none() && v.waiting.is_empty();
        if self.by_name.get(name).is_some_and(says_nothing) {
            self.by_name.remove(name);
        }
    }
}

/// Published datasets outlive the clients that published them.
#[derive(Debug, Default)]
pub struct Datasets {
    pub by_name: BTreeMap<Key, Item>,
}

impl Datasets {
    /// All of them, or none if one of the names is used.
    pub fn publish(
        &mut self,
        desk: &mut Desk,
        asker: Asker,
        entries: Vec<(Key, Item)>,
        replaces: bool,
    ) {
        let used = entries.iter().find(|(name, _)| self.by_name.contains_key(name));
        if let Some((name, _)) = used.filter(|_| !replaces) {
            return desk.fail(asker, "key", format!("Dataset {name} already exists"));
        }
        for (name, item) in entries {
            desk.holds.keep(&item);
            if let Some(before) = self.by_name.insert(name, item) {
                desk.holds.free(&before);
            }
        }
        desk.answer(asker, Value::Null);
    }

    pub fn get(&self, desk: &mut Desk, asker: Asker, names: &[Key]) {
        let items: Vec<Option<Item>> =
            names.iter().map(|name| self.by_name.get(name).cloned()).collect();
        items.iter().flatten().for_each(|item| desk.holds.keep_copy(item));
        desk.give(asker, items, None);
    }

    pub fn unpublish(&mut self, desk: &mut Desk, names: &[Key]) {
        for item in names.iter().filter_map(|name| self.by_name.remove(name)).collect::<Vec<_>>() {
            desk.holds.free(&item);
        }
    }

    pub fn names(&self) -> Value {
        Value::List(self.by_name.keys().cloned().map(Value::Key).collect())
    }
}
