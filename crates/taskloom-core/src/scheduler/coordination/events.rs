//! Flags that many wait for.

use super::super::Map;
use super::desk::{Asker, Desk, Patience, Place, Turn};
use std::collections::BTreeMap;
use taskloom_proto::Value;
use taskloom_types::Key;

#[derive(Debug, Default)]
pub struct Flag {
    pub is_set: bool,
    pub waiting: BTreeMap<Turn, Asker>,
}

/// The flags that are set or waited for.
#[derive(Debug, Default)]
pub struct Events {
    pub by_name: Map<Key, Flag>,
}

impl Events {
    pub fn wait(&mut self, desk: &mut Desk, asker: Asker, name: Key, how: Patience) {
        if self.is_set(&name) || how == Patience::None {
            let is_set = self.is_set(&name);
            return desk.answer(asker, Value::Bool(is_set));
        }
        let turn = desk.wait(asker, Place::Event(name.clone()), how);
        self.by_name.entry(name).or_default().waiting.insert(turn, asker);
    }

    pub fn set(&mut self, desk: &mut Desk, name: Key) {
        let flag = self.by_name.entry(name).or_default();
        flag.is_set = true;
        for asker in std::mem::take(&mut flag.waiting).into_values() {
            desk.stop_waiting(asker);
            desk.answer(asker, Value::Bool(true));
        }
    }

    pub fn clear(&mut self, name: &Key) {
        if let Some(flag) = self.by_name.get_mut(name) {
            flag.is_set = false;
        }
        self.tidy(name);
    }

    #[must_use]
    pub fn is_set(&self, name: &Key) -> bool {
        self.by_name.get(name).is_some_and(|flag| flag.is_set)
    }

    pub fn withdraw(&mut self, name: &Key, turn: Turn) {
        if let Some(flag) = self.by_name.get_mut(name) {
            flag.waiting.remove(&turn);
        }
        self.tidy(name);
    }

    fn tidy(&mut self, name: &Key) {
        let says_nothing = |flag: &Flag| !flag.is_set && flag.waiting.is_empty();
        if self.by_name.get(name).is_some_and(says_nothing) {
            self.by_name.remove(name);
        }
    }
}
