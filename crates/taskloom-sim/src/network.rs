//! Links that do not work, clocks that jump, processes that stop.
//!
//! TCP loses no message silently: a link works, is late, or is gone. A stall is a partition that is
//! shorter than what TCP tolerates: everything that was sent comes later, in order.

use crate::agenda::{Happening, Planned};
use crate::plan::{Misfortune, Way};
use crate::worker::FROZEN;
use crate::world::{TTL_NS, World};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::scheduler::Event;
use taskloom_types::{ClientId, Nanos, WorkerNo};

/// After so long without an answer, whoever waits for data gives up. In us.
const DATA_TIMEOUT_US: u64 = 30_000;

const FOR_GOOD: Nanos = Nanos(u64::MAX);

/// The state of all links.
#[derive(Debug, Default)]
pub struct Network {
    from_worker: BTreeMap<WorkerNo, Nanos>,
    to_worker: BTreeMap<WorkerNo, Nanos>,
    slow: BTreeMap<WorkerNo, (Nanos, u64)>,
    parted: BTreeMap<(WorkerNo, WorkerNo), Nanos>,
    /// Reset, and the worker does not know yet.
    broken: BTreeSet<WorkerNo>,
    /// Sessions of clients that have no connection until then.
    away: BTreeMap<ClientId, Nanos>,
}

impl Network {
    /// Until when this message cannot pass.
    pub fn stalled(&self, happening: &Happening) -> Nanos {
        let until = match happening {
            Happening::ToScheduler(
                Event::WorkerMessage { worker, .. } | Event::WorkerLeft { worker },
            ) => self.from_worker.get(worker),
            Happening::ToWorker(worker, _) => self.to_worker.get(worker),
            Happening::ToScheduler(
                Event::ClientMessage { client, .. } | Event::ClientLeft { client },
            )
            | Happening::ToClient(client, _) => self.away.get(client),
            _ => None,
        };
        until.copied().unwrap_or_default()
    }

    /// How much longer than usual this message takes, in us.
    pub fn slower_us(&self, now: Nanos, happening: &Happening) -> u64 {
        let worker = match happening {
            Happening::ToScheduler(Event::WorkerMessage { worker, .. })
            | Happening::ToWorker(worker, _) => worker,
            _ => return 0,
        };
        self.slow.get(worker).filter(|(until, _)| *until > now).map_or(0, |(_, us)| *us)
    }

    pub fn are_parted(&self, now: Nanos, one: WorkerNo, other: WorkerNo) -> bool {
        let pair = (one.min(other), one.max(other));
        self.parted.get(&pair).is_some_and(|until| *until > now)
    }

    /// Whether what is sent to the worker is lost.
    pub fn is_broken(&self, worker: WorkerNo) -> bool {
        self.broken.contains(&worker)
    }

    /// Until when the worker hears nothing from the scheduler.
    pub fn deaf_until(&self, worker: WorkerNo) -> Nanos {
        self.to_worker.get(&worker).copied().unwrap_or_default()
    }

    /// The session has no connection until then.
    pub fn take_away(&mut self, session: ClientId, until: Nanos) {
        self.away.insert(session, until);
    }

    pub fn is_away(&self, now: Nanos, session: ClientId) -> bool {
        self.away.get(&session).is_some_and(|until| *until > now)
    }

    /// All links work again, but for those that are broken for good. Who is away comes back when
    /// that was to be.
    pub fn heal(&mut self) {
        let Self { broken, away, mut parted, .. } = std::mem::take(self);
        parted.retain(|_, until| *until == FOR_GOOD);
        *self = Self { broken, away, parted, ..Self::default() };
    }

    /// Whether some workers never reach each other again.
    pub fn is_torn(&self) -> bool {
        self.parted.values().any(|until| *until == FOR_GOOD)
    }
}

impl World {
    /// A misfortune befalls a worker, or the scheduler.
    pub fn befall(&mut self, name: u64, misfortune: Misfortune) {
        let now = self.agenda.now;
        let in_ms = |ms: u64| now.after(ms * Nanos::MILLISECOND);
        match misfortune {
            Misfortune::SchedulerPauses(ms) => {
                self.scheduler_paused_until = self.scheduler_paused_until.max(in_ms(ms));
                return;
            }
            Misfortune::SchedulerClockJumps(ms) => {
                self.scheduler_ahead_ns += ms * Nanos::MILLISECOND;
                self.report.clock_jumps += 1;
                return;
            }
            _ => {}
        }
        let Some(number) = self.number_of(name) else { return };
        match misfortune {
            Misfortune::Dies => self.kill_in_its_sleep(number),
            Misfortune::Pauses(ms) => self.pause(number, in_ms(ms)),
            // Nobody would ever give it up (again), which is what makes a process go on here.
            Misfortune::Freezes
                if self.network.is_broken(number) || self.is_worker_of_another_run(number) =>
            {
                self.pause(number, in_ms(100));
            }
            Misfortune::Freezes => {
                self.pause(number, FROZEN);
                self.report.frozen += 1;
            }
            Misfortune::LinkBreaks if self.rng.chance(60) && self.is_known(number) => {
                self.break_session(number);
            }
            Misfortune::LinkBreaks => self.break_link(number),
            Misfortune::LinkStalls(way, ms) => self.stall(number, way, in_ms(ms)),
            Misfortune::LinkSlows(us) => {
                self.network.slow.insert(number, (in_ms(50), us));
                self.disturb(number, in_ms(50));
                self.report.network_faults += 1;
            }
            Misfortune::PartsFrom(other, ms) => self.part(number, other, in_ms(ms)),
            Misfortune::PartsForGood(other) => self.part(number, other, FOR_GOOD),
            Misfortune::ClockJumps(ms) => {
                if let Some(worker) = self.workers.get_mut(&number) {
                    worker.ahead_ns += ms * Nanos::MILLISECOND;
                    self.report.clock_jumps += 1;
                }
            }
            Misfortune::Measures(more_bytes) => {
                self.agenda.after_us(0, Happening::Measures(name, more_bytes));
            }
            Misfortune::SchedulerPauses(_) | Misfortune::SchedulerClockJumps(_) => {}
        }
    }

    /// The worker and the one of this name do not reach each other until then.
    fn part(&mut self, number: WorkerNo, other: u64, until: Nanos) {
        let Some(other) = self.number_of(other).filter(|other| *other != number) else { return };
        let pair = (number.min(other), number.max(other));
        let longer = self.network.parted.entry(pair).or_default();
        *longer = until.max(*longer);
        self.report.network_faults += 1;
    }

    /// Both ends see it sooner or later; what is on its way is lost, or belongs to a session that
    /// is over.
    fn break_link(&mut self, number: WorkerNo) {
        self.network.broken.insert(number);
        self.thaw(number);
        self.report.network_faults += 1;
        let seen_us = self.rng.below(2 * self.latency_us);
        let left = Event::WorkerLeft { worker: number };
        self.agenda.after_us(seen_us, Happening::ToScheduler(left));
        let noticed_us = self.rng.below(20_000);
        self.agenda.after_us(noticed_us, Happening::WorkerNotices(number));
    }

    fn is_known(&self, number: WorkerNo) -> bool {
        self.scheduler.worker_address(number).is_some()
    }

    pub fn stall(&mut self, number: WorkerNo, way: Way, until: Nanos) {
        let longer = |slot: &mut Nanos| *slot = (*slot).max(until);
        if way != Way::ToWorker {
            longer(self.network.from_worker.entry(number).or_default());
        }
        if way != Way::FromWorker {
            longer(self.network.to_worker.entry(number).or_default());
        }
        self.disturb(number, until);
        self.report.network_faults += 1;
    }

    /// Until then, and a while longer, it is no fault of the scheduler to give the worker up.
    pub fn disturb(&mut self, number: WorkerNo, until: Nanos) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.disturbed_until = worker.disturbed_until.max(until.after(2 * TTL_NS));
        }
    }

    /// Something has to do with a process that does not go on. Others stop waiting for it after a
    /// while; what happens in the process itself waits until it goes on.
    pub fn wait_for_frozen(&mut self, number: WorkerNo, planned: Planned) {
        match planned.happening {
            Happening::PeerAnswers { asker, peer, .. } if peer == number => {
                self.agenda.after_us(DATA_TIMEOUT_US, Happening::PeerTimesOut { asker, peer });
            }
            Happening::ClientFetches { client, handle, task, worker } => {
                let fails = Happening::ClientFetchFails { client, handle, task, worker };
                self.agenda.after_us(DATA_TIMEOUT_US, fails);
            }
            Happening::ClientPuts { client, handle, .. } => self.give_up(client, &[handle]),
            _ => {
                if let Some(worker) = self.workers.get_mut(&number) {
                    worker.parked.push(planned);
                }
            }
        }
    }
}
