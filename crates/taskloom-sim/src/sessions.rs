//! Sessions that outlive their connection, and workers that begin a new one with what they have.

use crate::agenda::Happening;
use crate::broken::{Broken, Checked};
use crate::plan::Way;
use crate::world::World;
use taskloom_core::scheduler::{Event, Party};
use taskloom_proto::ExitKind;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Nanos, WorkerNo};

/// How long the scheduler waits for those whose connection is broken.
pub const GRACE_NS: u64 = 60 * Nanos::MILLISECOND;

impl World {
    /// The worker's connection breaks, and another one goes on with the session: nothing is lost.
    /// Sometimes that takes longer than the scheduler waits.
    pub fn break_session(&mut self, number: WorkerNo) {
        let ms = self.rng.between(1, 90);
        let until = self.agenda.now.after(ms * Nanos::MILLISECOND);
        self.stall(number, Way::Both, until);
        let away = Event::Away(Party::Worker(number));
        self.agenda.after_us(0, Happening::ToScheduler(away));
        let back = Event::Back(Party::Worker(number));
        self.agenda.put(until, Happening::ToScheduler(back));
        self.report.breaks += 1;
    }

    /// The worker learns that its session is over.
    ///
    /// # Errors
    /// What it does next breaks an invariant.
    pub fn notice(&mut self, number: WorkerNo) -> Checked {
        if self.rng.chance(60) {
            return self.begin_anew(number);
        }
        self.kill(number, ExitKind::Requested);
        Ok(())
    }

    /// It begins a new session with what it has.
    fn begin_anew(&mut self, number: WorkerNo) -> Checked {
        let is_alive = self.workers.get(&number).is_some_and(|worker| worker.alive);
        let Some(mut worker) = self.workers.remove(&number).filter(|_| is_alive) else {
            return Ok(());
        };
        // The scheduler sees the old connection end, if it has not ended it itself.
        let left = Event::WorkerLeft { worker: number };
        self.send((1, number.0.into()), Happening::ToScheduler(left));
        self.last_number += 1;
        let new = WorkerNo(self.last_number);
        worker.begin_session(new).map_err(|what| Broken::new("I12", what))?;
        let effects = worker.effects();
        let mut register = self.registration(&worker);
        register.returns_from = std::mem::replace(&mut worker.epoch, self.scheduler.epoch());
        self.workers.insert(new, worker);
        self.report.rejoined += 1;
        self.from_worker(new, WorkerToScheduler::Register(register));
        if self.heartbeats {
            self.agenda.after_us(1, Happening::Heartbeat(new));
        }
        self.carry_out(new, effects)
    }
}
