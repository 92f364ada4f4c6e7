//! A new session: nothing that the scheduler has said counts any more. What is here of named results
//! is offered; all else goes.

use super::data::Remaking;
use super::memory::Place;
use super::{Action, Map, Worker};
use taskloom_proto::rejoin::{Adopted, Offered};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Key, TaskId};

/// What a value is, across sessions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    pub(super) key: Key,
    pub(super) spec_hash: u64,
}

/// Results of earlier sessions, by the number they are offered under: size in bytes and name.
#[derive(Debug, Default)]
pub(super) struct Kept {
    values: Map<u64, (u64, Name)>,
    last_number: u64,
}

impl Kept {
    fn offers(&self) -> Vec<Offered> {
        let offer = |(number, (size_bytes, name)): (&u64, &(u64, Name))| {
            let Name { key, spec_hash } = name.clone();
            Offered { number: *number, key, spec_hash, size_bytes: *size_bytes }
        };
        let mut offers: Vec<Offered> = self.values.iter().map(offer).collect();
        offers.sort_unstable_by_key(|offer| offer.number);
        offers
    }
}

impl Worker {
    /// Forgets all tasks. Runs that a thread is in are abandoned to it. Sends the offers; call it
    /// when what is sent goes to the new session.
    pub fn begin_session(&mut self) {
        let fresh = Self::new(self.config);
        let mut old = std::mem::replace(self, fresh);
        self.actions = std::mem::take(&mut old.actions);
        // What it had to say, and to ask of peers, belongs to the old session.
        self.actions.retain(|action| {
            !matches!(action, Action::Send(_) | Action::ReportDone { .. } | Action::Fetch { .. })
        });
        (self.last_serial, self.counters) = (old.last_serial, old.counters);
        self.abandon_all(old.running);
        self.kept = old.kept;
        self.managed_bytes = self.kept_bytes();
        self.memory.go_on_from(&old.memory);
        let mut tasks: Vec<_> = old.tasks.into_iter().collect();
        tasks.sort_unstable_by_key(|(task, _)| *task);
        // What the last session did not decide about is offered again.
        let mut offers = self.kept.offers();
        for (task, local) in tasks {
            let Some(data) = local.data else { continue };
            // Bringing a value back from disk for nobody in particular is not worth it.
            let is_offered = data.reported && matches!(data.place, Place::Memory | Place::Both);
            match local.name.filter(|_| is_offered) {
                Some(name) => offers.push(self.keep(task, name, data.size_bytes)),
                None => self.actions.push(Action::DropValue(task)),
            }
        }
        if !offers.is_empty() {
            self.send(WorkerToScheduler::Offer(offers));
        }
    }

    fn abandon_all(&mut self, running: Map<(TaskId, u32), super::Running>) {
        self.running = running;
        let mut runs: Vec<_> = self.running.iter_mut().collect();
        runs.sort_unstable_by_key(|(run, _)| **run);
        for ((task, attempt), run) in runs {
            // Of its end the new session has nothing to hear.
            run.has_resources = false;
            if !std::mem::replace(&mut run.abandoned, true) {
                self.actions.push(Action::Abandoned { task: *task, attempt: *attempt });
            }
        }
    }

    fn keep(&mut self, task: TaskId, name: Name, size_bytes: u64) -> Offered {
        self.kept.last_number += 1;
        let number = self.kept.last_number;
        let (key, spec_hash) = (name.key.clone(), name.spec_hash);
        self.kept.values.insert(number, (size_bytes, name));
        self.managed_bytes = self.managed_bytes.saturating_add(size_bytes);
        self.actions.push(Action::KeepValue { task, number });
        Offered { number, key, spec_hash, size_bytes }
    }

    /// The scheduler takes offers for the results of these tasks.
    pub fn on_adopt(&mut self, adopted: Vec<Adopted>) {
        for Adopted { number, task } in adopted {
            let Some((size_bytes, name)) = self.kept.values.remove(&number) else {
                self.counters.unknown_tasks += 1;
                continue;
            };
            self.managed_bytes -= size_bytes;
            self.actions.push(Action::TakeKept { number, task });
            self.finish_unstarted(task, size_bytes);
            self.value_is_here(task, size_bytes, true);
            // Who could make it again may not have come back.
            self.note_remaking(task, Remaking::IMPOSSIBLE);
            self.set_name(task, name);
        }
    }

    /// Nobody wants these.
    pub fn on_decline(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some((size_bytes, _)) = self.kept.values.remove(number) {
                self.managed_bytes -= size_bytes;
                self.actions.push(Action::DropKept(*number));
            }
        }
    }

    pub(super) fn set_name(&mut self, task: TaskId, name: Name) {
        if let Some(local) = self.tasks.get_mut(&task).filter(|local| local.data.is_some()) {
            local.name = Some(name);
        }
    }

    /// Bytes of the values that are kept for offers.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.values.values().map(|(size_bytes, _)| size_bytes).sum()
    }
}
