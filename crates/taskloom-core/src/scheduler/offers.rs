//! Results that outlived a session: workers offer them, clients claim them or submit their tasks
//! again, and what fits together is not made again.
//!
//! After a start of the scheduler nobody knows who will come back. For a moment nothing is placed, so
//! that work is not given out again whose result is about to be offered; see
//! `docs/design/sessions.md`.

use super::task::{Kind, State, mark};
use super::transitions::{DropReason, Step};
use super::worker_table::WorkerSlot;
use super::workers::MAX_SIZE_BYTES;
use super::{Map, Scheduler};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use taskloom_proto::client::{KeysCancelled, SchedulerToClient, TaskSpec};
use taskloom_proto::rejoin::{Adopted, Claim, Offered};
use taskloom_proto::worker::SchedulerToWorker;
use taskloom_types::{ClientId, Handle, Key, Nanos, TaskId, WorkerNo};

/// Results that mean nothing in another session, or without their worker.
pub const BOUND: u8 = TaskSpec::ACTOR | TaskSpec::LOCAL | TaskSpec::KEEPS_INPUTS;

/// A result that nobody has claimed yet.
#[derive(Debug, Clone, Copy)]
struct Offer {
    worker: WorkerNo,
    number: u64,
    spec_hash: u64,
    size_bytes: u64,
}

/// Whether placement waits for those who had a session with an earlier run of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Settling {
    #[default]
    NobodyCame,
    Until(Nanos),
    Over,
}

#[derive(Debug, Default)]
pub struct Offers {
    by_key: Map<Key, SmallVec<[Offer; 1]>>,
    /// When the offers of a worker are declined.
    ends: VecDeque<(Nanos, WorkerNo)>,
    /// Claimed results that nobody has offered yet, and until when they are waited for.
    claims: VecDeque<(Nanos, TaskId)>,
    settling: Settling,
}

impl Offers {
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        let settled = match self.settling {
            Settling::Until(at) => Some(at),
            Settling::NobodyCame | Settling::Over => None,
        };
        let end = self.ends.front().map(|(at, _)| *at);
        let claim = self.claims.front().map(|(at, _)| *at);
        [settled, end, claim].into_iter().flatten().min()
    }

    pub fn is_settling(&self) -> bool {
        matches!(self.settling, Settling::Until(_))
    }

    fn take(&mut self, key: &Key, spec_hash: u64) -> SmallVec<[Offer; 1]> {
        let Some(offers) = self.by_key.get_mut(key) else { return SmallVec::new() };
        let (taken, kept): (SmallVec<[Offer; 1]>, SmallVec<[Offer; 1]>) =
            offers.iter().copied().partition(|offer| offer.spec_hash == spec_hash);
        if kept.is_empty() {
            self.by_key.remove(key);
        } else {
            *offers = kept;
        }
        taken
    }

    /// Takes out what a worker has offered; gives its numbers.
    fn forget(&mut self, worker: WorkerNo) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.by_key.retain(|_, offers| {
            offers.retain(|offer| {
                let is_its = offer.worker == worker;
                if is_its {
                    numbers.push(offer.number);
                }
                !is_its
            });
            !offers.is_empty()
        });
        self.ends.retain(|(_, other)| *other != worker);
        numbers.sort_unstable();
        numbers
    }
}

impl Scheduler {
    /// Somebody had a session with that run of the scheduler; 0: with none.
    pub(super) fn note_return(&mut self, from: u64) {
        if from != 0 && from != self.epoch && self.offers.settling == Settling::NobodyCame {
            self.offers.settling = Settling::Until(self.now.after(self.config.settle_ns));
        }
    }

    /// A worker holds results of an earlier session.
    pub(super) fn on_offer(&mut self, slot: WorkerSlot, offered: Vec<Offered>) {
        let worker = self.workers[slot].number;
        for Offered { number, key, spec_hash, size_bytes } in offered {
            let size_bytes = size_bytes.min(MAX_SIZE_BYTES);
            let offer = Offer { worker, number, spec_hash, size_bytes };
            match self.tasks.find(&key) {
                Some(index) if self.is_meant(index, spec_hash) => {
                    self.adopt(index, slot, &offer);
                }
                _ => self.offers.by_key.entry(key).or_default().push(offer),
            }
        }
        let end = self.now.after(self.config.grace_ns.max(self.config.settle_ns));
        self.offers.ends.push_back((end, worker));
    }

    /// A task came, or a claim: somebody may have offered its result.
    pub(super) fn adopt_offers(&mut self, index: u32) {
        if self.offers.is_empty() || !self.tasks.is_live(index) {
            return;
        }
        let key = self.tasks[index].key.clone();
        let first = self.offers.by_key.get(&key).and_then(|offers| offers.first());
        // Whoever only knows the key means whatever is there.
        let spec_hash = match first {
            Some(offer) if self.is_meant(index, offer.spec_hash) => offer.spec_hash,
            _ => self.tasks[index].spec_hash,
        };
        for offer in self.offers.take(&key, spec_hash) {
            if let Some(slot) = self.workers.slot(offer.worker) {
                self.adopt(index, slot, &offer);
            }
        }
    }

    /// Whether a result of this work would be the task's.
    fn is_meant(&self, index: u32, spec_hash: u64) -> bool {
        let task = &self.tasks[index];
        task.spec_hash == spec_hash || (task.kind == Kind::Unknown && task.spec_hash == 0)
    }

    /// Takes an offered result for a task's, if that is of use.
    fn adopt(&mut self, index: u32, slot: WorkerSlot, offer: &Offer) {
        self.run_steps();
        let is_useful = self.tasks.is_live(index)
            && self.tasks[index].is_needed()
            && self.tasks[index].flags & BOUND == 0
            && match self.tasks[index].kind {
                Kind::Call | Kind::Data | Kind::Unknown => self.make_room_for_result(index),
                Kind::Broken => false,
            };
        if !is_useful {
            let message = SchedulerToWorker::Decline(vec![offer.number]);
            self.outbox.send_worker(&mut self.workers[slot], message);
            return;
        }
        self.tasks[index].spec_hash = offer.spec_hash;
        let adopted = Adopted { number: offer.number, task: self.tasks.id(index) };
        let message = SchedulerToWorker::Adopt(vec![adopted]);
        self.outbox.send_worker(&mut self.workers[slot], message);
        if self.tasks[index].state == State::Memory {
            self.add_replica(index, slot, offer.size_bytes);
        } else {
            self.finish(index, slot, offer.size_bytes, None);
        }
        self.counters.results_adopted += 1;
        self.run_steps();
    }

    /// Takes a task back from wherever it waits or runs, so that a result can be put in. False if
    /// it has failed or is not wanted.
    fn make_room_for_result(&mut self, index: u32) -> bool {
        if self.tasks[index].state == State::Processing {
            self.steps.push(Step::Recall(index));
            self.run_steps();
        }
        match self.tasks[index].state {
            State::Memory | State::Waiting => true,
            State::Queued | State::NoWorker => {
                self.unqueue(index);
                self.set_state(index, State::Waiting);
                true
            }
            State::Released if self.tasks[index].kind == Kind::Unknown => {
                // Nobody has submitted it: once lost, it is lost.
                self.tasks[index].kind = Kind::Data;
                self.set_state(index, State::Waiting);
                true
            }
            State::Released | State::Processing | State::Erred => false,
        }
    }

    /// A client holds results of an earlier session, or did when it submitted what needs them.
    pub(super) fn on_claim(&mut self, client: ClientId, claims: Vec<Claim>) {
        let settles = self.offers.is_settling();
        let in_the_end = self.now.after(self.config.grace_ns.max(self.config.settle_ns));
        for Claim { handle, key, spec_hash, value } in claims {
            let index = match self.tasks.find(&key) {
                Some(index) if !self.is_claimed_work(index, spec_hash) => {
                    match value {
                        Some(value) => self.keep_unnamed(client, handle, (key, spec_hash), value),
                        None => self.refuse_claim(client, handle, index),
                    }
                    continue;
                }
                Some(index) => index,
                None => {
                    let index = self.insert_task(key);
                    self.tasks[index].kind = Kind::Unknown;
                    index
                }
            };
            if self.tasks[index].kind == Kind::Unknown && spec_hash != 0 {
                self.tasks[index].spec_hash = spec_hash;
            }
            let is_rest_of_lineage =
                self.tasks[index].kind == Kind::Data && self.tasks[index].state == State::Released;
            if value.is_some() && is_rest_of_lineage {
                // It was gone, and is not lost after all.
                self.tasks[index].kind = Kind::Unknown;
            }
            self.bind(client, 0, handle, index, true);
            // What a client has it does not lose with the workers that have it too.
            if let Some(value) = value {
                self.have_back(index, value);
            }
            self.adopt_offers(index);
            if !self.is_missing(index) {
                continue;
            }
            // Every worker that comes back has offered what it holds, or will in this time; and so
            // has the client that submits what this one only knows by its key.
            if settles || spec_hash == 0 {
                self.offers.claims.push_back((in_the_end, self.tasks.id(index)));
            } else {
                self.offers.claims.push_front((self.now, self.tasks.id(index)));
            }
        }
    }

    /// Whether only claims name the task, and nobody has its result.
    fn is_missing(&self, index: u32) -> bool {
        self.tasks.is_live(index)
            && self.tasks[index].kind == Kind::Unknown
            && self.tasks[index].state == State::Released
    }

    /// Whether the key still names the claimed work. A claim without a hash is of a key that somebody
    /// else made.
    fn is_claimed_work(&mut self, index: u32, spec_hash: u64) -> bool {
        let is_unknown = self.tasks[index].kind == Kind::Unknown;
        is_unknown || spec_hash == 0 || self.tasks[index].is_or_becomes(spec_hash)
    }

    fn refuse_claim(&mut self, client: ClientId, handle: Handle, index: u32) {
        let message = format!("{} was used for other work meanwhile", self.tasks[index].key);
        let Some(record) = self.clients.get_mut(&client) else { return };
        let (handles, reason, lost) = (vec![handle], "lost".into(), true);
        let cancelled = KeysCancelled { handles, reason, message, lost };
        let message = SchedulerToClient::Cancelled(cancelled);
        self.outbox.send_client(client, &mut record.last_action, message);
    }

    /// What a client has itself it keeps, although its key is in use for other work meanwhile.
    fn keep_unnamed(
        &mut self,
        client: ClientId,
        handle: Handle,
        (key, spec_hash): (Key, u64),
        value: taskloom_proto::SmallBytes,
    ) {
        let index = self.insert_task(key);
        self.shadow(index);
        let task = &mut self.tasks[index];
        task.kind = Kind::Unknown;
        task.spec_hash = spec_hash;
        self.bind(client, 0, handle, index, true);
        self.take_back_value(index, value);
    }

    fn have_back(&mut self, index: u32, value: taskloom_proto::SmallBytes) {
        let task = &self.tasks[index];
        if self.is_missing(index) {
            self.take_back_value(index, value);
        } else if task.kind == Kind::Data && task.state == State::Memory && task.value.is_none() {
            self.keep_inline(index, Some(value));
        }
    }

    /// A client gives a small result back to the scheduler, which keeps it as scattered data.
    fn take_back_value(&mut self, index: u32, value: taskloom_proto::SmallBytes) {
        self.tasks[index].kind = Kind::Data;
        if self.tasks[index].spec_hash == 0 {
            self.tasks[index].marks |= mark::ANY_WORK;
        }
        self.set_state(index, State::Waiting);
        self.finish_inline(index, value);
        self.run_steps();
    }

    /// A worker is gone, and its offers with it.
    pub(super) fn forget_offers_of(&mut self, worker: WorkerNo) {
        if !self.offers.ends.is_empty() {
            self.offers.forget(worker);
        }
    }

    pub(super) fn end_offers(&mut self) {
        if let Settling::Until(at) = self.offers.settling
            && at <= self.now
        {
            self.offers.settling = Settling::Over;
            self.placement_due = true;
        }
        while let Some((at, worker)) = self.offers.ends.front().copied()
            && at <= self.now
        {
            let numbers = self.offers.forget(worker);
            if let Some(slot) = self.workers.slot(worker).filter(|_| !numbers.is_empty()) {
                let message = SchedulerToWorker::Decline(numbers);
                self.outbox.send_worker(&mut self.workers[slot], message);
            }
        }
        while let Some((at, id)) = self.offers.claims.front().copied()
            && at <= self.now
        {
            self.offers.claims.pop_front();
            self.give_up_claim(id);
        }
    }

    /// Nobody has offered a claimed result.
    fn give_up_claim(&mut self, id: TaskId) {
        let Some(index) = self.tasks.get(id) else { return };
        let task = &self.tasks[index];
        if task.kind != Kind::Unknown || task.state != State::Released {
            return;
        }
        let why = DropReason {
            reason: "lost".into(),
            message: format!(
                "the result of {} is gone: the session in which it was made is over (the scheduler \
                 was started again, or the client was away for too long), no worker that came back \
                 holds it, and the client does not keep the calls of finished tasks; submit it \
                 again",
                task.key
            ),
            lost: true,
            ..DropReason::default()
        };
        self.steps.push(Step::Drop(index, Arc::new(why)));
        self.run_steps();
    }

    /// # Errors
    /// An offer that will never end.
    pub(super) fn validate_offers(&self) -> Result<(), String> {
        let ends = |worker: &WorkerNo| self.offers.ends.iter().any(|(_, other)| other == worker);
        let offers = self.offers.by_key.values().flatten();
        match offers.map(|offer| offer.worker).find(|w| !ends(w) || self.workers.slot(*w).is_none())
        {
            Some(worker) => Err(format!("the offers of worker {worker} never end")),
            None => Ok(()),
        }
    }
}
