//! Requests, scattering, and the end of a run: all is healed, and everything is looked at.

use crate::agenda::Happening;
use crate::broken::{Broken, Checked};
use crate::client::{Known, SimFuture};
use crate::people::scattered_value;
use crate::rng::mix;
use crate::worker::SimWorker;
use crate::world::{Report, World};
use std::collections::{BTreeMap, BTreeSet};
use taskloom_core::scheduler::{Action, Event};
use taskloom_proto::actor::ActorNews;
use taskloom_proto::client::{
    Adapt, ClientToScheduler, Question, Request, RestartWorkers, RetireWorkers, RunEverywhere,
    SchedulerToClient, WaitForWorkers,
};
use taskloom_proto::{ExitKind, Value};
use taskloom_runtime::client::ScatterItem;
use taskloom_types::{ClientId, Key, Nanos, TaskId, WorkerNo};

const QUARTER_SECOND: u64 = 250 * Nanos::MILLISECOND;

impl World {
    fn ask(&mut self, client: ClientId, question: Question) {
        let Some(record) = self.client(client) else { return };
        let id = record.real.ask(question);
        record.requests.insert(id, Vec::new());
        self.report.requests += 1;
        self.carry(client);
    }

    pub fn ask_something(&mut self, client: ClientId) {
        let names = self.names;
        let number = self.rng.below(names);
        let name = format!("worker-{number}");
        let handles = self.some_futures(client, 30);
        let key = self.some_key();
        let question = match self.rng.below(13) {
            0 => Question::Barrier,
            1 => Question::WhoHas(vec![]),
            2 => Question::HasWhat(vec![]),
            3 => Question::Processing(vec![name]),
            4 => Question::SchedulerInfo,
            5 => Question::Story(key),
            6 => Question::Explain(key),
            7 => Question::Locate(handles),
            8..=9 => Question::RunEverywhere(RunEverywhere::default()),
            10 => {
                let timeout_ns = if self.rng.chance(50) { 0 } else { QUARTER_SECOND };
                let count = self.rng.below(names + 1) as u32;
                Question::WaitForWorkers(WaitForWorkers { count, timeout_ns })
            }
            _ => self.control_something(client),
        };
        self.ask(client, question);
    }

    pub fn retire_one(&mut self, client: ClientId) {
        if !self.faults {
            return;
        }
        let number = self.rng.below(self.names);
        let workers = vec![format!("worker-{number}")];
        let close = self.rng.chance(80);
        self.note_retirement(number);
        if !close {
            self.retired.insert(number);
        }
        let question = if close && self.rng.chance(40) {
            Question::Adapt(Adapt { target_ns: QUARTER_SECOND, threads: 1, close: 1, workers })
        } else {
            Question::RetireWorkers(RetireWorkers { workers, close })
        };
        self.ask(client, question);
    }

    pub fn restart_some(&mut self, client: ClientId) {
        if !self.faults {
            return;
        }
        self.report.restarts += 1;
        let name = format!("worker-{}", self.rng.below(self.names));
        let workers = if self.rng.chance(30) { vec![name] } else { vec![] };
        let restart = RestartWorkers { timeout_ns: 0, workers };
        self.ask(client, Question::Restart(restart));
    }

    /// What a retired worker holds goes to others, if there are any.
    fn note_retirement(&mut self, name: u64) {
        let is_other = |worker: &&SimWorker| worker.alive && worker.name != name;
        let mut others = self.workers.values().filter(is_other);
        let has_others = others.any(|worker| self.scheduler.has_worker(worker.number));
        self.ledger.retirements += 1;
        self.ledger.is_data_stranded |= !has_others;
    }

    /// Scatters new values, and now and then one that was scattered before.
    ///
    /// # Errors
    /// The client takes a key for something else.
    pub fn scatter_some(&mut self, client: ClientId) -> Checked {
        let mut names = Vec::new();
        for _ in 0..self.rng.between(1, 3) {
            let is_old = self.scattered > 0 && self.rng.chance(30);
            let name = if is_old { self.rng.below(self.scattered) } else { self.scattered };
            self.scattered = self.scattered.max(name + 1);
            names.push(name);
        }
        let broadcast = self.rng.chance(30);
        let Some(record) = self.client(client) else { return Ok(()) };
        let key = |name: &u64| Key::from_text(&format!("data-{name}"));
        let item = |name| ScatterItem { key: key(name), size_bytes: 8_000, segments: Vec::new() };
        let items = names.iter().map(item).collect();
        let (request, held) = record.real.scatter(items, broadcast, QUARTER_SECOND);
        let mut waiting = Vec::new();
        for (name, held) in names.iter().zip(held) {
            let mut future = SimFuture::new(key(name), scattered_value(*name));
            future.needs_data = true;
            future.bound = false;
            let (handle, is_new) = record.take(held, || future)?;
            waiting.extend(is_new.then_some(handle));
        }
        let count = waiting.len() as u64;
        record.requests.insert(request, waiting);
        self.report.futures += count;
        self.report.scattered += count;
        self.report.requests += 1;
        self.carry(client);
        Ok(())
    }

    /// No more faults: every worker starts, everything comes to its end and is checked; then
    /// everything is released, and nothing may be left.
    pub fn heal_and_check(&mut self) -> Checked {
        self.begin(mix(self.plan.steps.len() as u64));
        self.faults = false;
        self.network.heal();
        self.heal_memory();
        for name in std::mem::take(&mut self.retired) {
            // It was told to rest, and would for ever.
            if let Some(number) = self.number_of(name) {
                self.ledger.is_data_stranded = true;
                self.kill(number, ExitKind::Requested);
            }
        }
        for name in 0..self.names {
            self.agenda.after_us(1, Happening::WorkerStarts(name));
        }
        self.live()?;
        if self.settings.trace {
            self.print_unfinished();
        }
        self.scheduler.validate()?;
        self.check_views()?;
        self.check_clients()?;
        self.let_go_of_shared()?;
        self.check_watches()?;
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            self.release_some(client, 100);
        }
        self.live()?;
        self.check_nothing_is_left()?;
        self.check_watches_are_over()?;
        self.note_counters();
        Ok(())
    }

    /// This run of the scheduler is over: what it has counted.
    pub fn note_counters(&mut self) {
        let counters = self.scheduler.counters();
        let report = &mut self.report;
        report.stale_messages += counters.stale_messages;
        report.results_adopted += counters.results_adopted;
        report.recomputed += counters.recomputed;
        report.stolen += counters.stolen;
        report.retracted += counters.retracted;
        report.run_ahead += counters.run_ahead;
        report.collisions += counters.collisions;
        report.processes_replaced += counters.processes_replaced;
        report.spared_copies += counters.spared_copies;
    }

    fn check_clients(&mut self) -> Checked {
        let alive = self.clients.values().filter(|client| client.alive);
        let mut futures = Vec::new();
        for client in alive {
            if let Some(request) = client.requests.keys().next() {
                let what = format!("request {request} of client {} has no answer", client.id);
                return Err(Broken::new("I1", what));
            }
            client.futures.keys().try_for_each(|handle| client.check_entry(*handle))?;
            let own = client.futures.values().filter(|future| !future.released);
            futures.extend(own.map(|future| (client.id, future.clone())));
        }
        futures.iter().try_for_each(|(client, future)| self.check_future(*client, future))
    }

    /// Every future ended, as it should or with an excuse.
    fn check_future(&mut self, client: ClientId, future: &SimFuture) -> Checked {
        let is_gone = match &future.known {
            Known::Cancelled(reason) => reason == "lost",
            Known::Erred(kind) => kind == "CancelledError",
            _ => false,
        };
        if is_gone && self.may_have_gone(client, future) {
            return Ok(());
        }
        let is_data_lost = future.desired || self.may_have_lost_data();
        let is_excused = match &future.known {
            Known::Erred(kind) if kind == "KilledWorker" => {
                return self.ledger.check_blame(future);
            }
            Known::Erred(kind) if kind == "WorkerUnreachableError" => {
                self.network.is_torn() || (future.needs_data && is_data_lost)
            }
            Known::Erred(kind) if kind == "NoValidWorkerError" => {
                self.trouble.no_worker_ms.is_some()
            }
            // What all have released, and what went with its worker.
            Known::Cancelled(reason) if reason == "lost" => {
                // It may have been pickled when its task was gone already, or for too long, or by
                // one who went before the task was on its way.
                let is_pickle_over = self.report.restarts + self.report.client_breaks > 0
                    || self.report.clock_jumps > 0
                    || future.cancel_asked;
                let was_pickled = future.unpickled || future.needs_unpickled;
                (future.needs_data && is_data_lost) || (was_pickled && is_pickle_over)
            }
            Known::Erred(kind) if kind == "ActorLostError" => {
                future.may_lose_actor
                    || self.may_have_gone(client, future)
                    || future.desired
                    || future.unpickled
                    || self.is_shared_key(&future.key)
            }
            Known::Cancelled(reason) if reason == "scheduler-restart" => self.report.restarts > 0,
            Known::Erred(kind) if kind == "CancelledError" => {
                self.report.restarts > 0 || (future.needs_data && is_data_lost)
            }
            _ => false,
        };
        if is_excused || self.forced.contains(&future.key) {
            return Ok(());
        }
        if future.desired && future.known == Known::Pending {
            return match self.waits_for_unknown(client, &future.key) {
                true => Ok(()),
                false => Err(Broken::new("I1", format!("{} waits for nothing", future.key))),
            };
        }
        future.check_end()
    }

    /// Whether results, or data that cannot be made again, may be gone for good.
    fn may_have_lost_data(&self) -> bool {
        let Report { restarts, scheduler_restarts, network_faults, .. } = self.report;
        let Report { clock_jumps, worker_pauses, processes_replaced, .. } = self.report;
        let is_disturbed =
            restarts + network_faults + clock_jumps + worker_pauses > 0 || scheduler_restarts > 0;
        // Many broken transfers in a row look as if the data were gone.
        let is_cut = self.cut_percent > 10 || (self.cut_percent > 0 && self.ledger.retirements > 0);
        let is_replaced = processes_replaced + self.scheduler.counters().processes_replaced > 0;
        let is_unreadable = self.report.disk_losses > 0;
        is_disturbed || is_cut || is_replaced || is_unreadable || self.ledger.may_have_lost_data()
    }

    /// Whether the key has had several futures: then an earlier one may have ended the actor.
    fn is_shared_key(&self, key: &Key) -> bool {
        let all = self.clients.values().flat_map(|client| client.futures.values());
        all.filter(|future| future.key == *key).count() > 1
    }

    /// Every watched actor lives where it is said to, or is said to be gone.
    fn check_watches(&self) -> Checked {
        let alive = self.clients.values().filter(|client| client.alive);
        for (number, watch) in alive.flat_map(|client| &client.watches) {
            let Some(news) = &watch.news else {
                let what = format!("watch {number} of {} was never answered", watch.key);
                return Err(Broken::new("I1", what));
            };
            let mut addresses = self.workers.values().filter(|w| w.alive).map(SimWorker::address);
            if news.state == ActorNews::ALIVE && !addresses.any(|a| a == news.address) {
                let what = format!("{} is said to live at {}", watch.key, news.address);
                return Err(Broken::new("I6", what));
            }
        }
        Ok(())
    }

    fn check_watches_are_over(&self) -> Checked {
        let alive = self.clients.values().filter(|client| client.alive);
        for watch in alive.flat_map(|client| client.watches.values()) {
            if watch.news.as_ref().is_none_or(|news| news.state != ActorNews::GONE) {
                let what = format!("{} is not said to be gone: {:?}", watch.key, watch.news);
                return Err(Broken::new("I1", what));
            }
        }
        Ok(())
    }

    /// Whether a task is, or waits for, one that nobody has submitted.
    fn waits_for_unknown(&mut self, client: ClientId, key: &Key) -> bool {
        let answer = self.explain(client, key);
        if answer.get("reason") == Some(&Value::from("not-submitted")) {
            return true;
        }
        let missing = missing_inputs(&answer);
        missing.iter().any(|input| self.waits_for_unknown(client, input))
    }

    /// At rest, scheduler and workers agree on who holds what and who runs what (I6).
    fn check_views(&self) -> Checked {
        let mut said: BTreeMap<WorkerNo, BTreeSet<TaskId>> = BTreeMap::new();
        for (task, worker) in self.scheduler.holdings() {
            said.entry(worker).or_default().insert(task);
        }
        let alive = |number: &WorkerNo| self.workers.get(number).is_some_and(|w| w.alive);
        if let Some(number) = said.keys().find(|number| !alive(number)) {
            return Err(Broken::new("I6", format!("worker {number} is gone and holds results")));
        }
        for worker in self.workers.values().filter(|worker| worker.alive) {
            let held: BTreeSet<TaskId> = worker.rules.held_tasks().collect();
            let said = said.remove(&worker.number).unwrap_or_default();
            if let Some(task) = held.symmetric_difference(&said).next() {
                let who = if held.contains(task) { "the worker" } else { "the scheduler" };
                let what = format!("only {who} thinks that worker {} holds {task}", worker.number);
                return Err(Broken::new("I6", what));
            }
            let missing = held.iter().find(|task| !worker.has(**task));
            if let Some(task) = missing {
                let what = format!("worker {} has no value of {task}", worker.number);
                return Err(Broken::new("I6", what));
            }
        }
        Ok(())
    }

    fn check_nothing_is_left(&mut self) -> Checked {
        if self.scheduler.task_count() > 0 {
            let alive = self.clients.values().find(|client| client.alive).map(|client| client.id);
            let left = alive.map(|client| self.look_up(client, Question::WhoHas(vec![])));
            let what = format!("{} tasks are left: {left:?}", self.scheduler.task_count());
            return Err(Broken::new("I10", what));
        }
        self.scheduler.validate_empty().map_err(|what| Broken::new("I10", what))?;
        for worker in self.workers.values().filter(|worker| worker.alive) {
            let number = worker.number;
            let values = worker.values.len() + worker.on_disk.len() + worker.kept.len();
            let known = worker.rules.task_count();
            if values + known > 0 {
                let what = format!("worker {number} keeps {values} values and knows {known} tasks");
                return Err(Broken::new("I10", what));
            }
        }
        Ok(())
    }

    /// What the scheduler says of futures that did not end.
    fn print_unfinished(&mut self) {
        let mut pending: Vec<(ClientId, Key)> = Vec::new();
        for client in self.clients.values().filter(|client| client.alive) {
            let futures = client.futures.values().filter(|future| !future.released);
            let open = futures.filter(|future| future.known == Known::Pending);
            pending.extend(open.map(|future| (client.id, future.key.clone())));
        }
        let mut seen = BTreeSet::new();
        for (client, key) in pending {
            self.print_reasons(client, &key, &mut seen);
        }
    }

    /// Prints why a task waits, and why what it waits for does. Each task once.
    fn print_reasons(&mut self, client: ClientId, key: &Key, seen: &mut BTreeSet<Key>) {
        if !seen.insert(key.clone()) {
            return;
        }
        let answer = self.explain(client, key);
        println!("{answer:?}");
        let missing = missing_inputs(&answer);
        missing.iter().for_each(|input| self.print_reasons(client, input, seen));
    }

    fn explain(&mut self, client: ClientId, key: &Key) -> Value {
        self.look_up(client, Question::Explain(key.clone()))
    }

    /// Asks at once, past the network.
    fn look_up(&mut self, client: ClientId, question: Question) -> Value {
        let request = Request { id: 0, question };
        let message = ClientToScheduler::Request(request);
        let now = self.scheduler_now();
        let session = self.clients.get(&client).map_or(client, |record| record.session);
        self.scheduler.handle(now, Event::ClientMessage { client: session, message });
        let mut value = Value::Null;
        for action in self.scheduler.poll(now) {
            if let Action::ToClient(_, SchedulerToClient::Reply(reply)) = action {
                value = reply.answer.value;
            }
        }
        value
    }
}

/// The keys that an explanation names as missing.
fn missing_inputs(explanation: &Value) -> Vec<Key> {
    let Some(Value::List(entries)) = explanation.get("missing_dependencies") else {
        return Vec::new();
    };
    let key = |entry: &Value| match entry {
        Value::List(parts) => match parts.first() {
            Some(Value::Key(key)) => Some(key.clone()),
            _ => None,
        },
        _ => None,
    };
    entries.iter().filter_map(key).collect()
}
