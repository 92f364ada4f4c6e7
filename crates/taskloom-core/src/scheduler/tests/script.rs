//! A scheduler with people around it who have names.

use super::task::Task;
use super::words::Words;
use super::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::actor::*;
use taskloom_proto::client::*;
use taskloom_proto::hand_over::ActorHandedOver;
use taskloom_proto::policy::StuckRun;
use taskloom_proto::supervisor::{RegisterSupervisor, WorkerExited};
use taskloom_proto::worker::*;
use taskloom_proto::{ErrorInfo, ExitKind, ExitReason, SmallBytes, Value};
use taskloom_types::{Attempt, FunctionId, Handle, Key, Resources, TaskId};

/// A scheduler under test: names for events, words for actions, and the invariants recounted
/// after each step.
pub struct Script {
    pub scheduler: Scheduler,
    pub now: Nanos,
    pub words: Words,
    clients: BTreeMap<String, ClientId>,
    handles: BTreeMap<(ClientId, String), Handle>,
    registered: BTreeSet<(ClientId, &'static str)>,
    last_number: u32,
    last_handle: u64,
    last_submission: u64,
    last_request: u64,
}

/// How a run ended, as its worker reports.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub size_bytes: u64,
    pub duration_ns: u64,
    pub inline: bool,
}

impl Default for Outcome {
    /// A result that stays at the worker, of a task so long that nothing is sent ahead of a free
    /// thread behind its like.
    fn default() -> Self {
        Self { size_bytes: 10_000, duration_ns: 100 * Nanos::MILLISECOND, inline: false }
    }
}

impl Outcome {
    pub fn inline() -> Self {
        Self { size_bytes: 8, inline: true, ..Self::default() }
    }

    pub fn of_bytes(size_bytes: u64) -> Self {
        Self { size_bytes, ..Self::default() }
    }

    pub fn after_us(self, micros: u64) -> Self {
        Self { duration_ns: micros * Nanos::MICROSECOND, ..self }
    }
}

/// A worker that is about to join.
pub struct Joining(RegisterWorker);

/// `worker("alice").threads(2)`.
pub fn worker(name: &str) -> Joining {
    Joining(RegisterWorker {
        name: name.into(),
        address: format!("tcp://{name}:1"),
        host: "here".into(),
        nthreads: 1,
        pid: 7,
        ..RegisterWorker::default()
    })
}

impl Joining {
    pub fn threads(mut self, threads: u32) -> Self {
        self.0.nthreads = threads;
        self
    }

    pub fn memory(mut self, limit_bytes: u64) -> Self {
        self.0.memory_limit = limit_bytes;
        self.thresholds(0.6, 0.8)
    }

    /// Fractions of the limit; 0: never.
    pub fn thresholds(mut self, target: f64, pause: f64) -> Self {
        let part = |fraction: f64| (self.0.memory_limit as f64 * fraction) as u64;
        (self.0.target_bytes, self.0.pause_bytes) = (part(target), part(pause));
        self
    }

    pub fn with(mut self, resources: Resources) -> Self {
        self.0.resources = resources;
        self
    }

    /// A supervisor will tell how it ends.
    pub fn supervised(mut self) -> Self {
        self.0.supervised = true;
        self
    }

    /// It had a session with that run of the scheduler.
    pub fn returning_from(mut self, epoch: u64) -> Self {
        self.0.returns_from = epoch;
        self
    }

    pub fn at(mut self, address: &str, host: &str) -> Self {
        self.0.address = address.into();
        self.0.host = host.into();
        self
    }
}

impl From<&str> for Joining {
    fn from(name: &str) -> Self {
        worker(name)
    }
}

/// The supervisor of all workers.
pub const SUPERVISOR: ConnId = ConnId(900);

impl Script {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// A scheduler with other settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self {
            scheduler: Scheduler::new(config, 1),
            now: Nanos(Nanos::SECOND),
            words: Words::default(),
            clients: BTreeMap::new(),
            handles: BTreeMap::new(),
            registered: BTreeSet::new(),
            last_number: 0,
            last_handle: 0,
            last_submission: 0,
            last_request: 0,
        }
    }

    /// The usual cast: client anna, and these workers with a thread each.
    pub fn anna_and<const N: usize>(workers: [&str; N]) -> Self {
        let mut script = Self::new();
        script.client("anna");
        for name in workers {
            script.join(name);
        }
        script
    }

    // Time and events.

    /// Applies an event without placing anything: more come in the same batch.
    pub fn apply(&mut self, event: Event) {
        self.scheduler.handle(self.now, event);
        self.check();
    }

    /// Ends a batch: what is sent, in words.
    pub fn poll(&mut self) -> Vec<String> {
        let actions = self.scheduler.poll(self.now);
        self.check();
        self.words.tell(actions)
    }

    #[track_caller]
    fn check(&mut self) {
        for index in self.scheduler.tasks.iter() {
            let id = self.scheduler.tasks.id(index);
            self.words.task(id, &self.scheduler.tasks[index].key);
        }
        self.scheduler.validate().unwrap();
    }

    pub fn event(&mut self, event: Event) -> Vec<String> {
        self.apply(event);
        self.poll()
    }

    /// Lets time pass, with a poll at each deadline, as the shell does.
    pub fn pass(&mut self, nanos: u64) -> Vec<String> {
        let end = self.now.after(nanos);
        let mut said = Vec::new();
        for _ in 0..100_000 {
            let Some(at) = self.scheduler.next_deadline().filter(|at| *at <= end) else {
                self.now = end;
                said.extend(self.poll());
                return said;
            };
            self.now = self.now.max(at);
            said.extend(self.poll());
        }
        panic!("deadlines come without end");
    }

    // Clients.

    pub fn client(&mut self, name: &str) -> Vec<String> {
        self.client_with(name, false)
    }

    pub fn strict_client(&mut self, name: &str) -> Vec<String> {
        self.client_with(name, true)
    }

    /// The client of a worker's tasks.
    pub fn client_of_worker(&mut self, name: &str, worker: &str) -> Vec<String> {
        let worker = format!("tcp://{worker}:1");
        self.joining_client(name, RegisterClient { worker, ..RegisterClient::default() })
    }

    fn client_with(&mut self, name: &str, strict: bool) -> Vec<String> {
        self.joining_client(name, RegisterClient { strict, ..RegisterClient::default() })
    }

    pub fn joining_client(&mut self, name: &str, register: RegisterClient) -> Vec<String> {
        let register = RegisterClient { name: name.into(), ..register };
        self.last_number += 1;
        let client = ClientId(self.last_number);
        self.clients.insert(name.into(), client);
        self.words.client(client, name);
        self.say(name, ClientToScheduler::Register(register))
    }

    pub fn say(&mut self, client: &str, message: ClientToScheduler) -> Vec<String> {
        let client = self.clients[client];
        self.event(Event::ClientMessage { client, message })
    }

    pub fn client_number(&self, name: &str) -> ClientId {
        self.clients[name]
    }

    pub fn client_leaves(&mut self, name: &str) -> Vec<String> {
        let client = self.clients[name];
        self.event(Event::ClientLeft { client })
    }

    /// The client's last handle of a key.
    pub fn handle(&self, client: &str, key: &str) -> Handle {
        let client = self.clients[client];
        *self.handles.get(&(client, key.into())).unwrap_or(&Handle(u64::MAX))
    }

    pub fn handles(&self, client: &str, keys: &[&str]) -> Handles {
        Handles { handles: keys.iter().map(|key| self.handle(client, key)).collect() }
    }

    pub fn new_handle(&mut self, client: &str, key: &str) -> Handle {
        self.last_handle += 1;
        let handle = Handle(self.last_handle);
        let client = self.clients[client];
        self.handles.insert((client, key.into()), handle);
        self.words.handle(client, handle, key);
        handle
    }

    /// A whole submission.
    pub fn submit<const N: usize>(&mut self, client: &str, tasks: [Task; N]) -> Vec<String> {
        self.submit_all(client, tasks.into())
    }

    pub fn submit_all(&mut self, client: &str, tasks: Vec<Task>) -> Vec<String> {
        self.last_submission += 1;
        self.piece(client, self.last_submission, true, tasks)
    }

    /// The first piece of a submission, and the number by which [`Script::piece`] goes on.
    pub fn begin<const N: usize>(&mut self, client: &str, tasks: [Task; N]) -> u64 {
        self.last_submission += 1;
        self.piece(client, self.last_submission, false, tasks.into());
        self.last_submission
    }

    pub fn piece(
        &mut self,
        client: &str,
        submission: u64,
        last: bool,
        tasks: Vec<Task>,
    ) -> Vec<String> {
        let batch = self.batch(client, submission, last, tasks);
        self.say(client, ClientToScheduler::Submit(batch))
    }

    pub fn batch(
        &mut self,
        client: &str,
        submission: u64,
        last: bool,
        tasks: Vec<Task>,
    ) -> SubmitBatch {
        let mut batch = SubmitBatch { submission, last, ..SubmitBatch::default() };
        for (position, task) in tasks.into_iter().enumerate() {
            let functions = task.function.map(|name| {
                self.register(client, name);
                batch.functions.push(function_id(name));
                batch.functions.len() as u32 - 1
            });
            batch.options.push(task.options.clone());
            batch.prefixes.push(task.prefix.clone());
            let deps = task.inputs.iter().map(|input| self.handle(client, input)).collect();
            batch.tasks.push(TaskSpec {
                handle: self.new_handle(client, &task.key),
                flags: task.flags,
                key: Key::from_text(&task.key),
                prefix: position as u32,
                option: position as u32,
                order: task.order.unwrap_or(position as u64),
                spec_hash: spec_hash(&task),
                functions: functions.into_iter().collect(),
                deps,
                ..TaskSpec::default()
            });
        }
        batch
    }

    fn register(&mut self, client: &str, name: &'static str) {
        if self.registered.insert((self.clients[client], name)) {
            let function = RegisterFunction {
                id: function_id(name),
                name: name.into(),
                payload: Bytes::from_static(name.as_bytes()),
            };
            self.say(client, ClientToScheduler::RegisterFunction(function));
        }
    }

    pub fn forget_functions(&mut self, client: &str, names: &[&'static str]) -> Vec<String> {
        let id = self.clients[client];
        names.iter().for_each(|name| {
            self.registered.remove(&(id, name));
        });
        let ids = names.iter().map(|name| function_id(name)).collect();
        self.say(client, ClientToScheduler::ForgetFunctions(Functions { ids }))
    }

    pub fn desire(&mut self, client: &str, key: &str) -> Vec<String> {
        let handle = self.new_handle(client, key);
        self.say(client, ClientToScheduler::Desire(Desire { handle, key: Key::from_text(key) }))
    }

    pub fn pickles(&mut self, client: &str, key: &str, ticket: u128) -> Vec<String> {
        let handle = self.handle(client, key);
        self.say(client, ClientToScheduler::Deposit(Deposit { handle, ticket }))
    }

    pub fn unpickles(&mut self, client: &str, key: &str, ticket: u128) -> Vec<String> {
        let handle = self.new_handle(client, key);
        let key = Key::from_text(key);
        self.say(client, ClientToScheduler::Collect(Collect { ticket, handle, key }))
    }

    pub fn release(&mut self, client: &str, keys: &[&str]) -> Vec<String> {
        let handles = self.handles(client, keys);
        self.say(client, ClientToScheduler::Release(handles))
    }

    pub fn detach(&mut self, client: &str, keys: &[&str]) -> Vec<String> {
        let handles = self.handles(client, keys);
        self.say(client, ClientToScheduler::Detach(handles))
    }

    pub fn retry(&mut self, client: &str, keys: &[&str]) -> Vec<String> {
        let handles = self.handles(client, keys);
        self.say(client, ClientToScheduler::Retry(handles))
    }

    pub fn cancel(&mut self, client: &str, keys: &[&str]) -> Vec<String> {
        self.cancel_with(client, keys, false)
    }

    pub fn cancel_by_force(&mut self, client: &str, keys: &[&str]) -> Vec<String> {
        self.cancel_with(client, keys, true)
    }

    fn cancel_with(&mut self, client: &str, keys: &[&str], force: bool) -> Vec<String> {
        let Handles { handles } = self.handles(client, keys);
        let cancel = Cancel { handles, force, reason: "cancelled".into(), ..Cancel::default() };
        self.say(client, ClientToScheduler::Cancel(cancel))
    }

    pub fn cannot_fetch(&mut self, client: &str, key: &str, from: &str) -> Vec<String> {
        let handle = self.handle(client, key);
        let (task, worker) = (self.id(key), self.number(from));
        let failed = FetchFailed { handle, task, workers: vec![worker] };
        self.say(client, ClientToScheduler::FetchFailed(failed))
    }

    pub fn watch(&mut self, client: &str, key: &str) -> Vec<String> {
        self.watch_with(client, key, None)
    }

    /// The client could not reach the life of an actor that was made there.
    pub fn doubt(&mut self, client: &str, worker: &str, key: &str) -> Vec<String> {
        let TaskAttempt { task, attempt } = self.run(worker, key);
        self.watch_with(client, key, Some(ActorLife { task, attempt }))
    }

    fn watch_with(&mut self, client: &str, key: &str, doubted: Option<ActorLife>) -> Vec<String> {
        let number = self.words.watch(key);
        let watch = WatchActor { number, key: Key::from_text(key), doubted };
        self.say(client, ClientToScheduler::WatchActor(watch))
    }

    pub fn unwatch(&mut self, client: &str, key: &str) -> Vec<String> {
        let number = self.words.watch(key);
        self.say(client, ClientToScheduler::UnwatchActor(UnwatchActor { number }))
    }

    /// Asks; the lines of all that was sent by it, the answer among them.
    pub fn request(&mut self, client: &str, question: Question) -> Vec<String> {
        self.last_request += 1;
        let request = Request { id: self.last_request, question };
        self.say(client, ClientToScheduler::Request(request))
    }

    /// The number of the last request.
    pub fn last_request(&self) -> u64 {
        self.last_request
    }

    /// The answer to a request, once.
    pub fn answer_to(&mut self, request: u64) -> Option<Answer> {
        self.words.answers.remove(&request)
    }

    /// The answer to the last request, once it came.
    pub fn answer(&mut self) -> Option<Answer> {
        self.words.answers.remove(&self.last_request)
    }

    /// Asks a question that is answered at once.
    #[track_caller]
    pub fn ask(&mut self, client: &str, question: Question) -> Value {
        self.request(client, question);
        self.answer().expect("an answer at once").value
    }

    /// `explain(key)`'s reason.
    pub fn reason(&mut self, key: &str) -> String {
        let name = self.clients.keys().next().cloned().expect("a client");
        let answer = self.ask(&name, Question::Explain(Key::from_text(key)));
        match answer.get("reason") {
            Some(Value::Text(reason)) => reason.clone(),
            other => panic!("explain gave {other:?}"),
        }
    }

    // Workers.

    pub fn join(&mut self, joining: impl Into<Joining>) -> Vec<String> {
        let Joining(register) = joining.into();
        self.last_number += 1;
        let number = WorkerNo(self.last_number);
        self.words.worker(number, &register.name);
        let message = WorkerToScheduler::Register(register);
        self.event(Event::WorkerMessage { worker: number, message })
    }

    /// The worker's present session.
    pub fn number(&self, name: &str) -> WorkerNo {
        self.words.worker_called(name)
    }

    pub fn report(&mut self, worker: &str, message: WorkerToScheduler) -> Vec<String> {
        let worker = self.number(worker);
        self.event(Event::WorkerMessage { worker, message })
    }

    /// The last run of a task that this worker was sent.
    pub fn run(&self, worker: &str, key: &str) -> TaskAttempt {
        self.words.run(self.number(worker), key)
    }

    pub fn done(&mut self, worker: &str, key: &str) -> Vec<String> {
        self.done_with(worker, key, Outcome::default())
    }

    pub fn done_with(&mut self, worker: &str, key: &str, outcome: Outcome) -> Vec<String> {
        let run = self.run(worker, key);
        self.done_as(worker, run.task, run.attempt, outcome)
    }

    pub fn done_as(
        &mut self,
        worker: &str,
        task: TaskId,
        attempt: Attempt,
        outcome: Outcome,
    ) -> Vec<String> {
        let Outcome { size_bytes, duration_ns, inline } = outcome;
        let value = inline.then(|| SmallBytes::copy_of(b"value"));
        let done = TaskDone { task, attempt, size_bytes, duration_ns, value };
        self.report(worker, WorkerToScheduler::Done(vec![done]))
    }

    pub fn raises(&mut self, worker: &str, key: &str) -> Vec<String> {
        let TaskAttempt { task, attempt } = self.run(worker, key);
        let error = ErrorInfo { type_name: "ValueError".into(), ..ErrorInfo::default() };
        let erred = TaskErred { task, attempt, duration_ns: 1, error };
        self.report(worker, WorkerToScheduler::Erred(erred))
    }

    /// The run raised this exception: the type and its bases.
    pub fn raises_one_of(&mut self, worker: &str, key: &str, types: &[&str]) -> Vec<String> {
        let TaskAttempt { task, attempt } = self.run(worker, key);
        let types = types.iter().map(ToString::to_string).collect();
        let error = ErrorInfo { type_name: "Odd".into(), types, ..ErrorInfo::default() };
        let erred = TaskErred { task, attempt, duration_ns: 1, error };
        self.report(worker, WorkerToScheduler::Erred(erred))
    }

    /// The run does not end.
    pub fn is_stuck(&mut self, worker: &str, key: &str) -> Vec<String> {
        let TaskAttempt { task, attempt } = self.run(worker, key);
        let stuck = StuckRun { task, attempt, running_ns: 1_500 * Nanos::MILLISECOND };
        self.report(worker, WorkerToScheduler::Stuck(stuck))
    }

    pub fn reschedules(&mut self, worker: &str, key: &str) -> Vec<String> {
        let run = self.run(worker, key);
        self.report(worker, WorkerToScheduler::Rescheduled(run))
    }

    pub fn secedes(&mut self, worker: &str, key: &str) -> Vec<String> {
        let run = self.run(worker, key);
        self.report(worker, WorkerToScheduler::Seceded(run))
    }

    pub fn rejoins(&mut self, worker: &str, key: &str) -> Vec<String> {
        let run = self.run(worker, key);
        self.report(worker, WorkerToScheduler::Rejoined(run))
    }

    pub fn fetched(&mut self, worker: &str, keys: &[&str]) -> Vec<String> {
        let tasks = keys.iter().map(|key| self.id(key)).collect();
        self.report(worker, WorkerToScheduler::Fetched(tasks))
    }

    pub fn stored(&mut self, worker: &str, key: &str) -> Vec<String> {
        let task = self.id(key);
        self.report(worker, WorkerToScheduler::Stored(vec![(task, 5_000)]))
    }

    pub fn misses(&mut self, worker: &str, key: &str, asked: &[&str]) -> Vec<String> {
        let asked = asked.iter().map(|name| self.number(name)).collect();
        let missing = DepMissing { dep: self.id(key), asked, is_silence: false };
        self.report(worker, WorkerToScheduler::DepMissing(missing))
    }

    /// As [`Script::misses`], where nobody refused and nobody answered.
    pub fn waits_in_vain(&mut self, worker: &str, key: &str, asked: &[&str]) -> Vec<String> {
        let asked = asked.iter().map(|name| self.number(name)).collect();
        let missing = DepMissing { dep: self.id(key), asked, is_silence: true };
        self.report(worker, WorkerToScheduler::DepMissing(missing))
    }

    pub fn gives_back(&mut self, worker: &str, key: &str) -> Vec<String> {
        self.retracted(worker, key, true)
    }

    pub fn keeps(&mut self, worker: &str, key: &str) -> Vec<String> {
        self.retracted(worker, key, false)
    }

    fn retracted(&mut self, worker: &str, key: &str, given_back: bool) -> Vec<String> {
        let TaskAttempt { task, attempt } = self.run(worker, key);
        self.report(worker, WorkerToScheduler::Retracted(Retracted { task, attempt, given_back }))
    }

    /// The worker keeps the state of an actor that lives there safe.
    pub fn saves(&mut self, worker: &str, key: &str, number: u64) -> Vec<String> {
        let run = self.run(worker, key);
        self.saves_as(worker, run, number)
    }

    pub fn saves_as(&mut self, worker: &str, run: TaskAttempt, number: u64) -> Vec<String> {
        let actor = ActorLife { task: run.task, attempt: run.attempt };
        let state = Bytes::from(format!("snapshot {number}"));
        let snapshot = ActorSnapshot { actor, number, state };
        self.report(worker, WorkerToScheduler::ActorSnapshot(snapshot))
    }

    /// The worker gives the last state of an actor, or says why there is none.
    pub fn hands_over(&mut self, worker: &str, key: &str, end: Result<&str, &str>) -> Vec<String> {
        let run = self.run(worker, key);
        let actor = ActorLife { task: run.task, attempt: run.attempt };
        let state = Bytes::from(end.unwrap_or_default().to_string());
        let error = end.err().unwrap_or_default().to_string();
        let message = ActorHandedOver { actor, state, error };
        self.report(worker, WorkerToScheduler::ActorHandedOver(message))
    }

    pub fn run_ended(&mut self, worker: &str, key: &str) -> Vec<String> {
        let run = self.run(worker, key);
        self.report(worker, WorkerToScheduler::RunEnded(run))
    }

    pub fn closes(&mut self, worker: &str) -> Vec<String> {
        self.report(worker, WorkerToScheduler::Closing(Closing::default()))
    }

    pub fn heartbeat(&mut self, worker: &str) -> Vec<String> {
        self.report(worker, WorkerToScheduler::Heartbeat(Heartbeat::default()))
    }

    pub fn worker_leaves(&mut self, name: &str) -> Vec<String> {
        let worker = self.number(name);
        self.event(Event::WorkerLeft { worker })
    }

    // Supervisor.

    pub fn supervisor(&mut self) -> Vec<String> {
        let register = RegisterSupervisor::default();
        let message = SupervisorToScheduler::Register(register);
        self.event(Event::SupervisorMessage { supervisor: SUPERVISOR, message })
    }

    /// The supervisor's word: a process ended while it executed these tasks.
    pub fn exited(&mut self, worker: &str, kind: ExitKind, executing: &[&str]) -> Vec<String> {
        let executing = executing
            .iter()
            .map(|key| self.run(worker, key))
            .map(|run| (run.task, run.attempt))
            .collect();
        let exited = WorkerExited {
            name: worker.into(),
            pid: 7,
            reason: ExitReason { kind, stderr_tail: "last words".into(), ..ExitReason::default() },
            executing,
            restarting: true,
        };
        self.exit_report(exited)
    }

    pub fn exit_report(&mut self, exited: WorkerExited) -> Vec<String> {
        let message = SupervisorToScheduler::WorkerExited(exited);
        self.event(Event::SupervisorMessage { supervisor: SUPERVISOR, message })
    }

    // What the scheduler knows.

    #[track_caller]
    pub fn index(&self, key: &str) -> u32 {
        self.scheduler.tasks.find(&Key::from_text(key)).expect("a known key")
    }

    #[track_caller]
    pub fn id(&self, key: &str) -> TaskId {
        self.scheduler.tasks.id(self.index(key))
    }

    /// The state of a key's task; `None` when it is forgotten.
    pub fn state(&self, key: &str) -> Option<State> {
        let index = self.scheduler.tasks.find(&Key::from_text(key))?;
        Some(self.scheduler.tasks[index].state)
    }

    #[track_caller]
    pub fn body(&self, key: &str) -> &[u8] {
        &self.scheduler.tasks[self.index(key)].body
    }

    /// The transitions of a key so far.
    pub fn story(&self, key: &str) -> Vec<(State, State)> {
        let story = self.scheduler.story.of(&Key::from_text(key));
        story.map(|chapter| (chapter.from, chapter.to)).collect()
    }

    pub fn counters(&self) -> Counters {
        self.scheduler.counters()
    }

    /// How many runs a worker has been sent and not ended.
    pub fn processing(&self, worker: &str) -> Vec<String> {
        let slot = self.scheduler.workers.slot(self.number(worker)).expect("a connected worker");
        let processing = self.scheduler.workers[slot].processing.iter();
        let mut keys: Vec<String> =
            processing.map(|index| self.scheduler.tasks[*index].key.to_string()).collect();
        keys.sort();
        keys
    }
}

fn function_id(name: &str) -> FunctionId {
    FunctionId(name.bytes().fold(7, |hash, byte| hash * 257 + u128::from(byte)))
}

/// Equal for equal function and arguments.
pub fn spec_hash(task: &Task) -> u64 {
    let function = task.function.map_or(0, |name| function_id(name).0 as u64);
    function ^ task.arguments.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 1
}
