//! The scheduler's process is killed and started again: another run, which knows nobody and nothing.
//! Its workers offer what they hold, its clients claim and submit again what they had.

use crate::agenda::Happening;
use crate::broken::Checked;
use crate::world::World;
use taskloom_core::scheduler::{Event, Party, Scheduler};
use taskloom_proto::supervisor::{RegisterSupervisor, SupervisorToScheduler};
use taskloom_types::{ClientId, ConnId, WorkerNo};

/// Numbers of those who are connected to this run: earlier ones are of an earlier run.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstNumbers {
    worker: u32,
    client: u32,
    supervisor: u64,
}

impl World {
    /// The scheduler is killed, and another run of it is there. Who had a connection sees it break, and
    /// tries again, sooner or later.
    pub fn restart_scheduler(&mut self) {
        if !self.faults {
            return;
        }
        self.note_counters();
        self.report.scheduler_restarts += 1;
        let epoch = self.rng.next();
        self.scheduler = Scheduler::new(self.config.clone(), epoch);
        // What was on its way from it, or to it, was in the buffers of its process for the most part.
        self.agenda.forget(|happening| {
            matches!(happening, Happening::ToScheduler(_) | Happening::ToSupervisor(_))
        });
        self.scheduler_paused_until = self.agenda.now;
        self.first_numbers = FirstNumbers {
            worker: self.last_number + 1,
            client: self.last_session + 1,
            supervisor: self.supervisor.0 + 1,
        };
        self.lose_what_the_scheduler_had();
        self.call_everybody_back();
    }

    fn lose_what_the_scheduler_had(&mut self) {
        self.shared.lose_all();
        self.lose_pickles(|_| true);
        for record in self.clients.values_mut() {
            record.sharing.lose();
            record.is_given_up = true;
        }
    }

    fn call_everybody_back(&mut self) {
        /// Longer than the scheduler waits for who comes back.
        const LATEST_US: u64 = 80_000;
        let alive = self.workers.values().filter(|worker| worker.alive);
        let workers: Vec<WorkerNo> = alive.map(|worker| worker.number).collect();
        // Most come back in time.
        let latest_us = if self.rng.chance(75) { 5_000 } else { LATEST_US };
        for number in workers {
            self.thaw(number);
            let at_us = self.rng.below(latest_us);
            self.agenda.after_us(at_us, Happening::WorkerNotices(number));
        }
        let clients = self.clients.values().filter(|client| client.alive);
        let sessions: Vec<ClientId> = clients.map(|client| client.session).collect();
        for session in sessions {
            let at_us = self.rng.below(latest_us);
            self.agenda.after_us(at_us, Happening::ClientNotices(session));
        }
        if self.supervised {
            self.supervisor = ConnId(self.supervisor.0 + 1);
            let message = SupervisorToScheduler::Register(RegisterSupervisor::default());
            let event = Event::SupervisorMessage { supervisor: self.supervisor, message };
            let at_us = self.rng.below(latest_us);
            self.agenda.after_us(at_us, Happening::ToScheduler(event));
        }
    }

    /// A client sees that this is another run of the scheduler.
    ///
    /// # Errors
    /// It does not go on.
    pub fn client_notices(&mut self, session: ClientId) -> Checked {
        match self.owner(session) {
            Some(client) => self.begin_client_session(client, false),
            None => Ok(()),
        }
    }

    /// Whether it has not noticed yet that this is another run of the scheduler.
    pub fn is_worker_of_another_run(&self, worker: WorkerNo) -> bool {
        worker.0 < self.first_numbers.worker
    }

    /// Whether it was said to an earlier run of the scheduler: a new one never hears it.
    pub fn is_of_another_run(&self, event: &Event) -> bool {
        let first = self.first_numbers;
        match event {
            Event::WorkerMessage { worker, .. } | Event::WorkerLeft { worker } => {
                self.is_worker_of_another_run(*worker)
            }
            Event::ClientMessage { client, .. } | Event::ClientLeft { client } => {
                client.0 < first.client
            }
            Event::SupervisorMessage { supervisor, .. } | Event::SupervisorLeft { supervisor } => {
                supervisor.0 < first.supervisor
            }
            Event::Away(party) | Event::Back(party) => match party {
                Party::Worker(worker) => self.is_worker_of_another_run(*worker),
                Party::Client(client) => client.0 < first.client,
                Party::Supervisor(supervisor) => supervisor.0 < first.supervisor,
            },
        }
    }
}
