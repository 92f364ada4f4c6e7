//! Parties whose connection is broken. Their sessions wait for another one: a worker keeps its
//! tasks and its results, a client its futures, and only when the grace time is over are they gone.

use super::planted::Fault;
use super::{Action, Map, Scheduler};
use std::collections::BTreeSet;
use taskloom_types::{ClientId, ConnId, Nanos, WorkerNo};

/// One who has a session with the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    Client(ClientId),
    Worker(WorkerNo),
    Supervisor(ConnId),
}

/// Who is away, and until when that is nobody's loss.
#[derive(Debug, Default)]
pub struct Absences {
    until: Map<Party, Nanos>,
    due: BTreeSet<(Nanos, Party)>,
}

impl Absences {
    fn insert(&mut self, party: Party, until: Nanos) {
        self.remove(party);
        self.until.insert(party, until);
        self.due.insert((until, party));
    }

    /// Returns whether the party was away.
    fn remove(&mut self, party: Party) -> bool {
        let until = self.until.remove(&party);
        until.is_some_and(|until| self.due.remove(&(until, party)))
    }

    /// Nobody's time ends before this: the scheduler itself was stopped, and could hear nobody.
    pub fn extend(&mut self, least: Nanos) {
        while let Some((until, party)) = self.due.first().copied().filter(|(at, _)| *at < least) {
            self.due.remove(&(until, party));
            self.due.insert((least, party));
            self.until.insert(party, least);
        }
    }
}

impl Scheduler {
    /// Where a worker serves its data.
    #[must_use]
    pub fn worker_address(&self, worker: WorkerNo) -> Option<&str> {
        let slot = self.workers.slot(worker)?;
        Some(&self.workers[slot].info.address)
    }

    pub(super) fn on_away(&mut self, party: Party) {
        if let Party::Worker(number) = party
            && let Some(slot) = self.workers.slot(number)
        {
            self.workers[slot].away = true;
            self.free_reservation(slot);
        }
        // Also of those who have not introduced themselves yet: their sessions end in time too.
        self.absences.insert(party, self.now.after(self.config.grace_ns));
    }

    pub(super) fn on_back(&mut self, party: Party) {
        if self.has(Fault::ReturnIgnored) && matches!(party, Party::Client(_)) {
            return;
        }
        if !self.absences.remove(party) {
            self.counters.stale_messages += 1;
            return;
        }
        self.counters.sessions_resumed += 1;
        if let Party::Worker(number) = party
            && let Some(slot) = self.workers.slot(number)
        {
            self.workers[slot].away = false;
            self.workers[slot].last_seen = self.now;
            self.mark_spare(slot);
        }
    }

    pub(super) fn on_supervisor_left(&mut self, supervisor: ConnId) {
        self.supervisors.remove(&supervisor);
        self.forget_absence(Party::Supervisor(supervisor));
    }

    /// The party is gone for good.
    pub(super) fn forget_absence(&mut self, party: Party) {
        self.absences.remove(party);
    }

    pub(super) fn next_absence_deadline(&self) -> Option<Nanos> {
        let (until, _) = self.absences.due.first()?;
        // Sooner than that, to notice by its absence that the scheduler itself was stopped.
        Some((*until).min(self.last_poll.after(self.config.worker_ttl_ns / 4)))
    }

    /// Those who did not come back in time.
    pub(super) fn end_absences(&mut self) {
        while let Some((until, party)) = self.absences.due.first().copied() {
            if until > self.now {
                return;
            }
            self.absences.remove(party);
            let grace_s = self.config.grace_ns as f64 / 1e9;
            let reason = format!("its connection was broken for {grace_s} s");
            let action = match party {
                Party::Client(client) => {
                    self.on_client_left(client);
                    Action::CloseClient(client, reason)
                }
                Party::Worker(number) => {
                    self.on_worker_left(number, false);
                    Action::CutWorker(number, reason)
                }
                Party::Supervisor(supervisor) => {
                    self.on_supervisor_left(supervisor);
                    Action::CloseSupervisor(supervisor, reason)
                }
            };
            self.outbox.push(action);
        }
    }

    /// # Errors
    /// Somebody is away who is not here, or is thought to be here.
    pub(super) fn validate_absences(&self) -> Result<(), String> {
        let absences = &self.absences;
        if absences.until.len() != absences.due.len() {
            return Err("an absence without an end".into());
        }
        for (until, party) in &absences.due {
            let is_here = match party {
                Party::Worker(number) => {
                    self.workers.slot(*number).is_some_and(|slot| !self.workers[slot].away)
                }
                Party::Client(_) | Party::Supervisor(_) => false,
            };
            if is_here || absences.until.get(party) != Some(until) {
                return Err(format!("{party:?} is thought to be away"));
            }
        }
        let is_away = |number: &WorkerNo| absences.until.contains_key(&Party::Worker(*number));
        let mut away = self.workers.iter().filter(|worker| worker.away);
        away.find(|worker| !is_away(&worker.number))
            .map_or(Ok(()), |worker| Err(format!("worker {} is away for ever", worker.number)))
    }
}
