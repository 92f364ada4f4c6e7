//! Requests of clients. Some are answered at once, some when something has happened.

use super::clients::ClientRecord;
use super::planted::Fault;
use super::supervisors::Errand;
use super::worker_table::{WorkerRecord, WorkerSlot};
use super::{Action, Scheduler};
use bytes::Bytes;
use taskloom_proto::Value;
use taskloom_proto::client::{
    Answer, Closing, Question, Reply, Request, RestartWorkers, RetireWorkers, RunEverywhere,
    SchedulerToClient, WaitForWorkers,
};
use taskloom_proto::supervisor::SchedulerToSupervisor;
use taskloom_proto::worker::{RunCall, RunDone, SchedulerToWorker};
use taskloom_types::{ClientId, Nanos, WorkerNo};

/// A call that runs on many workers.
#[derive(Debug)]
struct OpenRun {
    number: u64,
    client: ClientId,
    request: u64,
    missing: Vec<WorkerSlot>,
    answers: Vec<(Value, Value)>,
}

/// What a waiting client waits for.
#[derive(Debug)]
enum Condition {
    Workers(usize),
    /// New sessions of these workers, by name; their old numbers are below `newer_than`.
    Restarted {
        names: Vec<String>,
        newer_than: WorkerNo,
    },
    /// These workers are gone.
    Gone {
        numbers: Vec<WorkerNo>,
        answer: Value,
    },
    /// These workers have nothing to do and hold nothing alone.
    Evacuated {
        numbers: Vec<WorkerNo>,
        answer: Value,
    },
}

#[derive(Debug)]
struct OpenWait {
    client: ClientId,
    request: u64,
    condition: Condition,
    until: Option<Nanos>,
}

/// What becomes of a retired worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    Stay,
    Close,
    /// Its process ends, and another takes its place.
    Replace,
}

/// Retiring workers that finish what they run before they close.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) number: WorkerNo,
    pub(super) afterwards: Afterwards,
    /// It leaves by its own wish.
    pub(super) asked_itself: bool,
    /// Copies of what only it holds are on their way.
    evacuation: Option<u64>,
    /// How often that was tried; what could not be copied is made again where it is needed.
    rounds: u8,
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
pub struct OpenQuestions {
    runs: Vec<OpenRun>,
    waits: Vec<OpenWait>,
    pub(super) retiring: Vec<Retiring>,
    last_run: u64,
}

impl OpenQuestions {
    /// A number for a call on workers.
    pub fn next_run(&mut self) -> u64 {
        self.last_run += 1;
        self.last_run
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        self.waits.iter().filter_map(|wait| wait.until).min()
    }
}

impl Scheduler {
    pub(super) fn answer(&mut self, client: ClientId, id: u64, answer: Answer) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        let ClientRecord { last_action, .. } = record;
        let message = SchedulerToClient::Reply(Reply { id, answer });
        self.outbox.send_client(client, last_action, message);
    }

    pub(super) fn on_request(&mut self, client: ClientId, request: Request) {
        let id = request.id;
        match request.question {
            Question::PlanScatter(plan) => self.on_plan_scatter(client, id, plan),
            Question::RunEverywhere(run) => self.on_run_everywhere(client, id, run),
            Question::WaitForWorkers(wait) => self.on_wait_for_workers(client, id, &wait),
            Question::Restart(restart) => self.on_restart(client, id, &restart),
            Question::RetireWorkers(retire) => self.on_retire(client, id, &retire),
            Question::Adapt(adapt) => {
                let answer = self.adapt(&adapt);
                self.answer(client, id, answer);
            }
            Question::Shutdown => self.on_shutdown(client, id),
            Question::Replay(ask) => {
                let answer = self.replay(&ask);
                self.answer(client, id, answer);
            }
            Question::Control(question) => self.on_control(client, id, question),
            Question::Coordinate(what) => self.on_coordinate(client, id, what),
            question => {
                let answer = self.look_up(client, question);
                self.answer(client, id, answer);
            }
        }
    }

    pub(super) fn on_run_everywhere(&mut self, client: ClientId, request: u64, run: RunEverywhere) {
        let slots = self.workers.called(&run.workers);
        if slots.is_empty() && !run.workers.is_empty() {
            let message = format!("none of the workers {:?} is connected", run.workers);
            self.answer(client, request, Answer::failed("unknown", message));
            return;
        }
        let number = self.questions.next_run();
        for slot in &slots {
            let call = RunCall { request: number, payload: run.payload.clone() };
            self.outbox.send_worker(&mut self.workers[*slot], SchedulerToWorker::Run(call));
        }
        if run.no_wait || slots.is_empty() {
            self.answer(client, request, Answer::ok(Value::Map(vec![])));
            return;
        }
        let open = OpenRun { number, client, request, missing: slots, answers: vec![] };
        self.questions.runs.push(open);
    }

    pub(super) fn on_run_done(&mut self, slot: WorkerSlot, done: RunDone) {
        if !self.on_setup_done(slot, &done) {
            self.add_run_answer(slot, Some(done.request), done.ok, done.payload);
        }
    }

    /// A worker left: its part of open calls is answered with an error (no payload).
    pub(super) fn forget_run_on(&mut self, slot: WorkerSlot) {
        self.add_run_answer(slot, None, false, Bytes::new());
    }

    fn add_run_answer(&mut self, slot: WorkerSlot, only: Option<u64>, ok: bool, payload: Bytes) {
        let address = Value::from(self.workers[slot].info.address.clone());
        for run in &mut self.questions.runs {
            if only.is_some_and(|number| number != run.number) || !run.missing.contains(&slot) {
                continue;
            }
            run.missing.retain(|other| *other != slot);
            let answer = Value::List(vec![Value::Bool(ok), Value::Bytes(payload.clone())]);
            run.answers.push((address.clone(), answer));
        }
        let runs = std::mem::take(&mut self.questions.runs);
        for run in runs {
            if run.missing.is_empty() {
                self.answer(run.client, run.request, Answer::ok(Value::Map(run.answers)));
            } else {
                self.questions.runs.push(run);
            }
        }
    }

    fn on_wait_for_workers(&mut self, client: ClientId, request: u64, wait: &WaitForWorkers) {
        let until = (wait.timeout_ns > 0).then(|| self.now.after(wait.timeout_ns));
        let condition = Condition::Workers(wait.count as usize);
        self.questions.waits.push(OpenWait { client, request, condition, until });
    }

    /// New processes for supervised workers; all tasks are forgotten unless workers are named.
    fn on_restart(&mut self, client: ClientId, request: u64, restart: &RestartWorkers) {
        let slots = self.workers.called(&restart.workers);
        if slots.is_empty() && !restart.workers.is_empty() {
            let message = format!("none of the workers {:?} is connected", restart.workers);
            self.answer(client, request, Answer::failed("unknown", message));
            return;
        }
        if restart.workers.is_empty() {
            self.forget_everything("scheduler-restart", "the cluster was restarted by a client");
            self.log("INFO", "restart: all tasks are forgotten".into());
            self.announce("restart", []);
        }
        let mut names = Vec::new();
        let mut newest = WorkerNo(0);
        for slot in slots {
            let worker = &mut self.workers[slot];
            newest = newest.max(worker.number);
            if !worker.info.supervised {
                continue;
            }
            worker.end_expected = true;
            names.push(worker.info.name.clone());
            self.ask_supervisors(slot, Errand::Replace);
        }
        let until = (restart.timeout_ns > 0).then(|| self.now.after(restart.timeout_ns));
        let condition = Condition::Restarted { names, newer_than: newest };
        self.questions.waits.push(OpenWait { client, request, condition, until });
    }

    /// The workers finish what runs, get nothing new, give copies of what only they hold to others,
    /// and leave. What cannot be copied is made again where it is needed.
    fn on_retire(&mut self, client: ClientId, request: u64, retire: &RetireWorkers) {
        let slots = if retire.workers.is_empty() {
            let idle = |slot: &WorkerSlot| {
                let worker = &self.workers[*slot];
                worker.processing.is_empty() && worker.held.is_empty()
            };
            self.workers.slots().filter(idle).collect()
        } else {
            self.workers.called(&retire.workers)
        };
        let mut numbers = Vec::new();
        let mut answer = Vec::new();
        for slot in slots {
            answer.push((
                Value::from(self.workers[slot].info.address.clone()),
                self.describe_worker(slot),
            ));
            numbers.push(self.workers[slot].number);
            let afterwards = if retire.close { Afterwards::Close } else { Afterwards::Stay };
            self.retire(slot, afterwards);
        }
        let condition = if retire.close {
            Condition::Gone { numbers, answer: Value::Map(answer) }
        } else {
            Condition::Evacuated { numbers, answer: Value::Map(answer) }
        };
        self.questions.waits.push(OpenWait { client, request, condition, until: None });
    }

    /// The worker gets nothing new, gives away what only it holds, and ends after what it runs.
    pub(super) fn retire(&mut self, slot: WorkerSlot, afterwards: Afterwards) {
        let worker = &mut self.workers[slot];
        worker.end_expected = true;
        let number = worker.number;
        let retiring =
            Retiring { number, afterwards, asked_itself: false, evacuation: None, rounds: 0 };
        self.questions.retiring.push(retiring);
        self.stop_using(slot);
        self.ask_for_actors(slot);
    }

    fn on_shutdown(&mut self, client: ClientId, request: u64) {
        self.answer(client, request, Answer::ok(Value::Null));
        let closing = Closing { reason: "a client shut the cluster down".into() };
        for supervisor in self.all_supervisors() {
            let message = SchedulerToSupervisor::Close(closing.clone());
            self.outbox.push(Action::ToSupervisor(supervisor, message));
        }
        for slot in self.workers.slots().collect::<Vec<_>>() {
            let worker = &mut self.workers[slot];
            worker.end_expected = true;
            self.outbox.send_worker(worker, SchedulerToWorker::Close(closing.clone()));
        }
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let message = SchedulerToClient::Closing(closing.clone());
            self.outbox.push(Action::ToClient(client, message));
        }
        self.outbox.push(Action::Stop);
    }

    /// Answers what has come true, and what is overdue.
    pub(super) fn answer_open_questions(&mut self) {
        self.close_retired();
        self.fail_overdue_scatters();
        if self.questions.waits.is_empty() {
            return;
        }
        for wait in std::mem::take(&mut self.questions.waits) {
            if let Some(value) = self.come_true(&wait.condition) {
                self.answer(wait.client, wait.request, Answer::ok(value));
            } else if wait.until.is_some_and(|until| until <= self.now) {
                let message = self.overdue_message(&wait.condition);
                self.answer(wait.client, wait.request, Answer::failed("timeout", message));
            } else {
                self.questions.waits.push(wait);
            }
        }
    }

    fn come_true(&self, condition: &Condition) -> Option<Value> {
        match condition {
            Condition::Workers(count) => {
                let is_ready = |w: &&WorkerRecord| !w.leaving && !w.preparing;
                let running = self.workers.iter().filter(is_ready).count();
                (running >= *count).then_some(Value::Null)
            }
            Condition::Restarted { names, newer_than } => {
                let is_back = |name: &String| {
                    self.workers.iter().any(|worker| {
                        let is_new = worker.number > *newer_than && !worker.preparing;
                        is_new && worker.info.name == *name
                    })
                };
                names.iter().all(is_back).then_some(Value::Null)
            }
            Condition::Gone { numbers, answer } => numbers
                .iter()
                .all(|number| self.workers.slot(*number).is_none())
                .then(|| answer.clone()),
            Condition::Evacuated { numbers, answer } => {
                let is_at_it = |retiring: &Retiring| numbers.contains(&retiring.number);
                (!self.questions.retiring.iter().any(is_at_it)).then(|| answer.clone())
            }
        }
    }

    fn overdue_message(&self, condition: &Condition) -> String {
        match condition {
            Condition::Workers(count) => format!(
                "only {} of {count} workers arrived in time",
                self.workers.iter().filter(|worker| !worker.leaving).count()
            ),
            Condition::Restarted { .. } => "the workers did not come back in time".into(),
            Condition::Gone { .. } | Condition::Evacuated { .. } => {
                "the workers did not leave in time".into()
            }
        }
    }

    /// Retired workers that have nothing left to run are closed.
    fn close_retired(&mut self) {
        for mut retiring in std::mem::take(&mut self.questions.retiring) {
            let Some(slot) = self.workers.slot(retiring.number) else { continue };
            if self.is_still_of_use(slot, &mut retiring) {
                self.questions.retiring.push(retiring);
                continue;
            }
            match retiring.afterwards {
                Afterwards::Stay => continue,
                Afterwards::Replace => {
                    self.ask_for_new_process(slot);
                    continue;
                }
                Afterwards::Close => {}
            }
            let worker = &mut self.workers[slot];
            let closing = Closing { reason: "the worker was retired".into() };
            self.outbox.send_worker(worker, SchedulerToWorker::Close(closing));
            if retiring.asked_itself {
                // Its process ends by itself, and a signal would hurry it.
                continue;
            }
            self.ask_supervisors(slot, Errand::Stop);
        }
    }

    /// Whether a retiring worker still runs something, hands an actor over, or gives away what only it
    /// holds.
    fn is_still_of_use(&mut self, slot: WorkerSlot, retiring: &mut Retiring) -> bool {
        const ROUNDS: u8 = 3;
        if self.ask_for_actors(slot) || self.awaits_successors(retiring.number) {
            return true;
        }
        let runs_something = !self.workers[slot].processing.is_empty();
        if self.has(Fault::LateResultsStayBehind) && retiring.rounds > 0 {
            return runs_something;
        }
        if runs_something && !self.has(Fault::LateResultsStayBehind) {
            return true;
        }
        if retiring.evacuation.is_some_and(|job| self.replication.has_job(job)) {
            return true;
        }
        retiring.evacuation = None;
        if retiring.rounds < ROUNDS {
            retiring.rounds += 1;
            retiring.evacuation = self.evacuate(slot);
        }
        retiring.evacuation.is_some()
    }

    pub(super) fn forget_questions_of(&mut self, client: ClientId) {
        self.questions.runs.retain(|run| run.client != client);
        self.questions.waits.retain(|wait| wait.client != client);
        self.forget_scatters_of(client);
        self.forget_coordination_of(client);
    }
}
