//! Calls that every worker makes before its first task: plugins, uploaded files.
//!
//! The present workers make a call when it is registered, all at the same time; a worker that joins
//! makes all registered ones, one after the other in their order, and takes no task meanwhile. One that
//! takes too long counts as failed.

use super::Scheduler;
use super::worker_table::WorkerSlot;
use taskloom_proto::Value;
use taskloom_proto::client::{Notice, RunEverywhere, SchedulerToClient};
use taskloom_proto::control::{EndSetup, Setup};
use taskloom_proto::worker::{RunCall, RunDone, SchedulerToWorker};
use taskloom_types::{ClientId, Nanos, WorkerNo};

#[derive(Debug)]
struct Registered {
    /// Grows: the order of registration.
    number: u64,
    setup: Setup,
}

/// A worker that has not made all calls yet.
#[derive(Debug)]
struct Preparation {
    worker: WorkerNo,
    /// The call under way: the run's number, and the setup's.
    run: u64,
    setup: u64,
    /// Calls registered later are made without this.
    last_setup: u64,
    /// The call under way is given up then.
    until: Nanos,
}

/// The registered calls, and the workers that are at them.
#[derive(Debug, Default)]
pub struct Setups {
    registered: Vec<Registered>,
    last_number: u64,
    preparations: Vec<Preparation>,
}

impl Setups {
    /// Whether the worker is to take no task yet.
    pub fn is_preparing(&self, worker: WorkerNo) -> bool {
        self.preparations.iter().any(|preparation| preparation.worker == worker)
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        self.preparations.iter().map(|preparation| preparation.until).min()
    }

    pub fn names(&self) -> Value {
        let name = |registered: &Registered| Value::from(registered.setup.name.clone());
        Value::List(self.registered.iter().map(name).collect())
    }
}

impl Scheduler {
    pub(super) fn on_setup(&mut self, client: ClientId, request: u64, setup: Setup) {
        let payload = setup.payload.clone();
        let setups = &mut self.setups;
        setups.last_number += 1;
        setups.registered.retain(|other| other.setup.name != setup.name);
        setups.registered.push(Registered { number: setups.last_number, setup });
        let run = RunEverywhere { payload, ..RunEverywhere::default() };
        self.on_run_everywhere(client, request, run);
    }

    pub(super) fn on_end_setup(&mut self, client: ClientId, request: u64, end: EndSetup) {
        let before = self.setups.registered.len();
        self.setups.registered.retain(|other| other.setup.name != end.name);
        if self.setups.registered.len() == before {
            let names = self.setups.names();
            let message = format!(
                "nothing is registered under the name {:?}; registered are: {names:?}",
                end.name
            );
            let answer = taskloom_proto::client::Answer::failed("unknown-name", message);
            self.answer(client, request, answer);
            return;
        }
        let run = RunEverywhere { payload: end.payload, ..RunEverywhere::default() };
        self.on_run_everywhere(client, request, run);
    }

    /// A worker joined: it makes the registered calls first.
    pub(super) fn begin_preparation(&mut self, slot: WorkerSlot) {
        let Some(last) = self.setups.registered.last() else { return };
        let preparation = Preparation {
            worker: self.workers[slot].number,
            run: 0,
            setup: 0,
            last_setup: last.number,
            until: Nanos::default(),
        };
        self.workers[slot].preparing = true;
        self.continue_preparation(slot, preparation);
    }

    /// The next call, or the end.
    fn continue_preparation(&mut self, slot: WorkerSlot, mut preparation: Preparation) {
        let is_next = |registered: &&Registered| {
            registered.number > preparation.setup && registered.number <= preparation.last_setup
        };
        let Some(next) = self.setups.registered.iter().find(is_next) else {
            self.workers[slot].preparing = false;
            self.mark_spare(slot);
            return;
        };
        preparation.setup = next.number;
        let payload = next.setup.payload.clone();
        preparation.run = self.questions.next_run();
        preparation.until = self.now.after(self.config.setup_timeout_ns);
        let call = RunCall { request: preparation.run, payload };
        self.setups.preparations.push(preparation);
        self.outbox.send_worker(&mut self.workers[slot], SchedulerToWorker::Run(call));
    }

    /// Whether the answer was one of these calls'. One that failed is told to all clients: the
    /// worker works without it, since a cluster that shrinks to nothing helps nobody.
    pub(super) fn on_setup_done(&mut self, slot: WorkerSlot, done: &RunDone) -> bool {
        let number = self.workers[slot].number;
        let is_it = |p: &Preparation| p.worker == number && p.run == done.request;
        let Some(position) = self.setups.preparations.iter().position(is_it) else { return false };
        let preparation = self.setups.preparations.swap_remove(position);
        if !done.ok {
            self.report_failed_setup(slot, preparation.setup, error_text(done));
        }
        self.continue_preparation(slot, preparation);
        true
    }

    /// Calls that do not end are given up: no worker is kept from its tasks for ever. What the
    /// worker says of them later is dropped.
    pub(super) fn give_up_overdue_setups(&mut self) {
        let now = self.now;
        let is_overdue = |p: &Preparation| p.until <= now;
        while let Some(position) = self.setups.preparations.iter().position(is_overdue) {
            let preparation = self.setups.preparations.swap_remove(position);
            let Some(slot) = self.workers.slot(preparation.worker) else { continue };
            let limit_s = self.config.setup_timeout_ns as f64 / 1e9;
            let why = format!("it did not end within {limit_s} s, and may still be going on");
            self.report_failed_setup(slot, preparation.setup, why);
            self.continue_preparation(slot, preparation);
        }
    }

    fn report_failed_setup(&mut self, slot: WorkerSlot, setup: u64, why: String) {
        let find = |registered: &&Registered| registered.number == setup;
        let Some(registered) = self.setups.registered.iter().find(find) else { return };
        let name = registered.setup.name.clone();
        let address = self.workers[slot].info.address.clone();
        let text = format!("{name} failed on the new worker {address}, which works without: {why}");
        self.log("ERROR", text.clone());
        let facts = [
            ("worker", Value::from(address)),
            ("name", Value::from(name)),
            ("error", Value::from(why)),
        ];
        self.announce("setup-failed", facts);
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let Some(record) = self.clients.get_mut(&client) else { continue };
            let message = SchedulerToClient::Notice(Notice { message: text.clone() });
            self.outbox.send_client(client, &mut record.last_action, message);
        }
    }

    pub(super) fn forget_preparation_of(&mut self, slot: WorkerSlot) {
        let number = self.workers[slot].number;
        self.setups.preparations.retain(|preparation| preparation.worker != number);
    }

    /// # Errors
    /// A worker waits for calls that nobody has it make.
    pub(super) fn validate_setups(&self) -> Result<(), String> {
        for worker in self.workers.iter() {
            if worker.preparing != self.setups.is_preparing(worker.number) {
                return Err(format!("worker {} waits for no setup", worker.info.name));
            }
        }
        let is_gone = |p: &Preparation| self.workers.slot(p.worker).is_none();
        if self.setups.preparations.iter().any(is_gone) {
            return Err("a worker that is gone is being prepared".into());
        }
        Ok(())
    }
}

/// The error in words, as far as the worker's answer has them.
fn error_text(done: &RunDone) -> String {
    use taskloom_proto::ErrorInfo;
    use taskloom_proto::wire::{Reader, Wire};
    match ErrorInfo::read(&mut Reader::new(&done.payload)) {
        Ok(error) => format!("{}: {}", error.type_name, error.message),
        Err(_) => "it did not say why".into(),
    }
}
