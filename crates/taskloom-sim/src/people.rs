//! What clients do: submit, release, cancel, scatter, ask.

use crate::agenda::Happening;
use crate::broken::{Broken, Checked};
use crate::client::{Known, OtherWork, SimClient, SimFuture, Todo, Watched};
use crate::plan::Deed;
use crate::rng::mix;
use crate::workload::{Behaviour, Call, Node};
use crate::world::{PastGraph, World};
use bytes::Bytes;
use std::collections::BTreeSet;
use taskloom_core::scheduler::Event;
use taskloom_proto::actor::{UnwatchActor, WatchActor};
use taskloom_proto::client::{
    Answer, ClientToScheduler, SchedulerToClient, SubmitBatch, TaskSpec, Ticket,
};
use taskloom_proto::policy::TaskPolicy;
use taskloom_proto::rejoin::Named;
use taskloom_proto::{TaskOptions, Value};
use taskloom_runtime::client::{FunctionSpec, Submission};
use taskloom_types::{Amount, ClientId, FunctionId, Handle, Key, Resources, TaskId, WorkerNo};

/// A future in bytes: whoever reads them gets one of its own.
#[derive(Debug, Clone)]
pub struct Pickle {
    ticket: Ticket,
    /// In which it was made.
    pub session: ClientId,
    pub future: SimFuture,
}

impl World {
    pub fn client(&mut self, client: ClientId) -> Option<&mut SimClient> {
        self.clients.get_mut(&client).filter(|client| client.alive)
    }

    pub fn to_client(&mut self, client: ClientId, message: SchedulerToClient) -> Checked {
        let Some(record) = self.client(client) else { return Ok(()) };
        let todo = record.receive(message)?;
        self.carry(client);
        for todo in todo {
            let travel = self.rng.below(self.latency_us);
            match todo {
                Todo::Fetch { handle, task, worker } => {
                    let travel = travel + self.pause_before_fetch_us(client, handle);
                    let fetch = Happening::ClientFetches { client, handle, task, worker };
                    self.agenda.after_us(travel, fetch);
                }
                Todo::Put { handles, answer } => self.follow_plan(client, &handles, &answer)?,
                Todo::Share { request, asked, answer } => {
                    self.on_shared_answer(client, request, asked, &answer)?;
                }
            }
        }
        Ok(())
    }

    /// The client waits longer each time, as it does where threads fetch.
    fn pause_before_fetch_us(&self, client: ClientId, handle: Handle) -> u64 {
        const FIRST_PAUSE_US: u64 = 200;
        let future = self.clients.get(&client).and_then(|record| record.futures.get(&handle));
        match future.map_or(0, |future| future.failed_fetches) {
            0 | 1 => 0,
            tries => FIRST_PAUSE_US << (tries - 2).min(6),
        }
    }

    pub fn client_fetches(
        &mut self,
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    ) -> Checked {
        let is_cut = self.faults && self.rng.chance(self.cut_percent);
        let value = if is_cut { None } else { self.serve(worker, task)? };
        self.client_has_value(client, handle, task, worker, value)
    }

    /// A worker gave a client a value, or none.
    ///
    /// # Errors
    /// It is the wrong one.
    pub fn client_has_value(
        &mut self,
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
        value: Option<u64>,
    ) -> Checked {
        let Some(record) = self.client(client) else { return Ok(()) };
        let Some(future) = record.futures.get_mut(&handle) else { return Ok(()) };
        if future.known != Known::There(task, worker) || future.released {
            return Ok(());
        }
        if let Some(value) = value {
            future.known = Known::Value(value);
            future.failed_fetches = 0;
            return future.check_value();
        }
        future.known = Known::Pending;
        future.failed_fetches += 1;
        if let Some(entry) = record.real.entry(handle) {
            record.real.client.fetch_failed(entry, task, worker);
        }
        record.check_entry(handle)?;
        self.carry(client);
        Ok(())
    }

    /// A step of the plan.
    ///
    /// # Errors
    /// The client takes it wrongly.
    pub fn client_does(&mut self, client: ClientId, step: usize, deed: &Deed) -> Checked {
        if self.client(client).is_none() {
            return Ok(());
        }
        match deed {
            Deed::Submit { nodes, outside } => {
                self.past.push(PastGraph { name: step, nodes: nodes.clone() });
                return self.submit(client, step, nodes, *outside);
            }
            Deed::SubmitAgain => return self.submit_past(client),
            Deed::SubmitColliding => return self.submit_colliding(client),
            Deed::Release => self.release_some(client, 50),
            Deed::Cancel => self.cancel_some(client),
            Deed::Retry => return self.retry_some(client),
            Deed::Detach => self.detach_some(client),
            Deed::Desire => return self.desire_some(client),
            Deed::Pickle => return self.pickle_some(client),
            Deed::Unpickle => return self.unpickle_one(client),
            Deed::Scatter => return self.scatter_some(client),
            Deed::Share => self.share_something(client),
            Deed::Watch => self.watch_some(client),
            Deed::Ask => self.ask_something(client),
            Deed::Retire => self.retire_one(client),
            Deed::Restart => self.restart_some(client),
            Deed::PassFunctions => self.pass_functions(client),
            Deed::Vanish => self.client_vanishes(client),
        }
        Ok(())
    }

    /// The key of some task that was submitted, or of none.
    pub fn some_key(&mut self) -> Key {
        let name = self.rng.pick(&self.past).map_or(0, |past| past.name);
        Key::from_text(&format!("g{name}-{}", self.rng.below(2)))
    }

    fn submit_past(&mut self, client: ClientId) -> Checked {
        let Some(past) = self.rng.pick(&self.past).cloned() else { return Ok(()) };
        self.submit(client, past.name, &past.nodes, false)
    }

    /// Sends a graph in random pieces. `outside`: its first task also uses an older future.
    fn submit(&mut self, client: ClientId, name: usize, nodes: &[Node], outside: bool) -> Checked {
        if nodes.is_empty() {
            return Ok(());
        }
        let Some(record) = self.clients.get_mut(&client) else { return Ok(()) };
        let real = record.real.client.clone();
        let number = real.next_submission();
        let usable = |(_, future): &(&Handle, &SimFuture)| {
            !future.released && future.bound && !is_shared(future)
        };
        let older = record.futures.iter().rfind(usable);
        let older = older.filter(|_| outside).map(|(handle, future)| (*handle, future.clone()));
        let salt = if outside { format!("-of-{}-{number}", client.0) } else { String::new() };
        let mut made: Vec<(Handle, SimFuture)> = Vec::new();
        let mut specs = Vec::new();
        let mut options = vec![TaskOptions::default()];
        let mut submission = real.submission();
        for (position, node) in nodes.iter().enumerate() {
            let key = Key::from_text(&format!("g{name}-{position}{salt}"));
            let mut inputs: Vec<&(Handle, SimFuture)> =
                node.deps.iter().map(|dep| &made[*dep]).collect();
            inputs.extend(older.iter().filter(|_| position == 0));
            let value = node.call.value(inputs.iter().map(|(_, input)| input.expected));
            let mut future = SimFuture::new(key.clone(), value);
            future.may_fail = can_fail(node);
            let policy = node.policy.as_ref().map_or(0, |policy| policy.retry.retries);
            self.ledger.allow_retries(&key, node.retries.max(policy));
            for (_, input) in &inputs {
                future.may_fail |= input.may_fail || input.cancel_asked;
                future.needs_data |= input.needs_data;
                future.may_lose_actor |= input.is_actor || input.may_lose_actor;
                future.desired |= input.desired;
                future.needs_unpickled |= input.unpickled || input.needs_unpickled;
                self.dependents.entry(input.key.clone()).or_default().insert(key.clone());
            }
            future.note_actor(node.call.behaviour);
            if let Some(held) = submission.find(&key) {
                let (handle, _) = record.take(held, || future.clone())?;
                made.push((handle, record.futures.get(&handle).cloned().unwrap_or(future)));
                continue;
            }
            options.push(options_of(node));
            let handle = if node.wanted {
                let held = submission.add(key.clone(), node.call.spec_hash());
                self.report.futures += 1;
                record.take(held, || future.clone())?.0
            } else {
                submission.new_handle()
            };
            let wanted = if node.wanted { TaskSpec::WANTED } else { 0 };
            let actor = if node.call.makes_actor() { TaskSpec::ACTOR } else { 0 };
            specs.push(TaskSpec {
                handle,
                flags: wanted | actor | node.call.naming_flags() | TaskSpec::GRAPH,
                key,
                option: options.len() as u32 - 1,
                order: position as u64,
                spec_hash: node.call.spec_hash(),
                functions: [u32::from(node.function)].into_iter().collect(),
                deps: inputs.iter().map(|(handle, _)| *handle).collect(),
                body: node.call.encode(),
                ..TaskSpec::default()
            });
            made.push((handle, future));
        }
        let is_passing = std::mem::take(&mut record.is_passing);
        let functions = functions(is_passing);
        self.send_pieces(&mut submission, number, specs, &options, &functions);
        if is_passing {
            submission.forget(functions.iter().map(|function| function.id).collect());
        }
        submission.flush();
        self.carry(client);
        Ok(())
    }

    fn send_pieces(
        &mut self,
        submission: &mut Submission<'_>,
        number: u64,
        mut specs: Vec<TaskSpec>,
        options: &[TaskOptions],
        functions: &[FunctionSpec],
    ) {
        for function in functions {
            match is_passing(function) {
                true => submission.register_once(function),
                false => submission.register(function),
            }
        }
        let fifo_timeout_us = [0, 1_000, 100_000][self.rng.below(3) as usize];
        while !specs.is_empty() {
            let size = 1 + self.rng.below(specs.len() as u64) as usize;
            let rest = specs.split_off(size);
            submission.send(SubmitBatch {
                submission: number,
                last: rest.is_empty(),
                fifo_timeout_us,
                functions: functions.iter().map(|function| function.id).collect(),
                options: options.to_vec(),
                prefixes: vec!["p".into()],
                tasks: specs,
                ..SubmitBatch::default()
            });
            specs = rest;
        }
    }

    /// One of few keys, with one of two works: if the other one is there, that is told.
    fn submit_colliding(&mut self, client: ClientId) -> Checked {
        let (name, which) = (self.rng.below(3), self.rng.below(2));
        let call = |which: u64| Call {
            identity: u64::MAX - 2 * name - which,
            behaviour: Behaviour::Return,
            duration_us: 300,
            size_bytes: if which == 0 { 8 } else { 5_000 },
            gpu_percent: 0,
            pinned: None,
        };
        let Some(record) = self.clients.get_mut(&client) else { return Ok(()) };
        let key = Key::from_text(&format!("shared-{name}"));
        let mut future = SimFuture::new(key.clone(), call(which).value([]));
        future.other = Some(OtherWork { value: call(1 - which).value([]), is_kept: false });
        let real = record.real.client.clone();
        let mut submission = real.submission();
        if let Some(held) = submission.find(&key) {
            // Which work it stands for is not looked at here.
            record.take(held, || future)?;
            // What was let go is told before a submission begins.
            submission.flush();
            self.carry(client);
            return Ok(());
        }
        let held = submission.add(key.clone(), call(which).spec_hash());
        let (handle, _) = record.take(held, || future)?;
        let spec = TaskSpec {
            handle,
            flags: TaskSpec::WANTED,
            key,
            spec_hash: call(which).spec_hash(),
            body: call(which).encode(),
            ..TaskSpec::default()
        };
        self.report.futures += 1;
        let options = [TaskOptions::default()];
        let number = real.next_submission();
        self.send_pieces(&mut submission, number, vec![spec], &options, &functions(false));
        submission.flush();
        self.carry(client);
        Ok(())
    }

    /// Watches actors, and things that are none; doubts what it was told, or stops watching.
    fn watch_some(&mut self, client: ClientId) {
        let choice = self.rng.below(3);
        let all = self.clients.values().flat_map(|client| client.futures.values());
        let actors: Vec<Key> =
            all.filter(|future| future.is_actor).map(|future| future.key.clone()).collect();
        let key = self.rng.pick(&actors).cloned().unwrap_or_else(|| Key::from_text("none"));
        let Some(record) = self.clients.get_mut(&client) else { return };
        let last = record.watches.last_key_value().map(|(number, watch)| (*number, watch.clone()));
        let message = match (choice, last) {
            (0, Some((number, _))) => {
                record.watches.remove(&number);
                ClientToScheduler::UnwatchActor(UnwatchActor { number })
            }
            (1, Some((number, Watched { key, news: Some(news) }))) => {
                record.watches.insert(number, Watched { key: key.clone(), news: None });
                ClientToScheduler::WatchActor(WatchActor { number, key, doubted: Some(news.actor) })
            }
            _ => {
                record.last_watch += 1;
                let number = record.last_watch;
                record.watches.insert(number, Watched { key: key.clone(), news: None });
                ClientToScheduler::WatchActor(WatchActor { number, key, doubted: None })
            }
        };
        self.from_client(client, message);
    }

    /// Asks for keys that this or another client holds, or held.
    fn desire_some(&mut self, client: ClientId) -> Checked {
        let all = self.clients.values().flat_map(|client| client.futures.values());
        let known: Vec<SimFuture> = all.filter(|future| !is_shared(future)).cloned().collect();
        for _ in 0..self.rng.between(1, 3) {
            let Some(known) = self.rng.pick(&known).cloned() else { return Ok(()) };
            self.desire(client, &known.key, &known)?;
        }
        Ok(())
    }

    /// The client binds to a key. `known`: a future of that key.
    ///
    /// # Errors
    /// It stands for something else.
    pub fn desire(&mut self, client: ClientId, key: &Key, known: &SimFuture) -> Checked {
        let Some(record) = self.client(client) else { return Ok(()) };
        let real = record.real.client.clone();
        let mut submission = real.submission();
        let held = submission.desire(key);
        let desired = || SimFuture { desired: true, ..known.anew() };
        let (_, is_new) = record.take(held, desired)?;
        submission.flush();
        self.report.futures += u64::from(is_new);
        self.carry(client);
        Ok(())
    }

    /// Puts values where the scheduler said; those that no worker is to get are there already.
    fn follow_plan(&mut self, client: ClientId, handles: &[Handle], answer: &Answer) -> Checked {
        let Value::List(entries) = &answer.value else {
            // No worker came in time.
            self.give_up(client, handles);
            return Ok(());
        };
        for (handle, entry) in handles.iter().zip(entries) {
            if let Some(future) = self.client(client).and_then(|c| c.futures.get_mut(handle)) {
                future.bound = true;
            }
            let senseless = || Broken::new("I6", "a scatter plan makes no sense");
            let (task, workers) = plan_entry(entry).ok_or_else(senseless)?;
            for worker in workers {
                let travel = self.rng.below(self.latency_us);
                let put = Happening::ClientPuts { client, handle: *handle, task, worker };
                self.agenda.after_us(travel, put);
            }
        }
        Ok(())
    }

    pub fn client_puts(
        &mut self,
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    ) -> Checked {
        let Some(record) = self.client(client) else { return Ok(()) };
        let Some(future) = record.futures.get(&handle) else { return Ok(()) };
        let (key, value) = (future.key.clone(), future.expected);
        if !self.store(worker, Named { task, key, spec_hash: 0 }, value)? {
            self.give_up(client, &[handle]);
        }
        Ok(())
    }

    /// The client raises an error to its user, and lets go of what it could not put anywhere.
    pub fn give_up(&mut self, client: ClientId, handles: &[Handle]) {
        self.release(client, handles);
    }

    pub fn some_futures(&mut self, client: ClientId, percent: u64) -> Vec<Handle> {
        let Some(record) = self.clients.get(&client) else { return Vec::new() };
        let live = record.futures.iter().filter(|(_, future)| !future.released);
        let handles: Vec<Handle> = live.map(|(handle, _)| *handle).collect();
        handles.into_iter().filter(|_| self.rng.chance(percent)).collect()
    }

    pub fn release_some(&mut self, client: ClientId, percent: u64) {
        let handles = self.some_futures(client, percent);
        self.release(client, &handles);
    }

    fn release(&mut self, client: ClientId, handles: &[Handle]) {
        if let Some(record) = self.client(client) {
            record.let_go(handles);
            self.carry(client);
        }
    }

    /// Keys, and those of all that needs them.
    pub fn with_dependents(&self, mut open: Vec<Key>) -> BTreeSet<Key> {
        let mut touched: BTreeSet<Key> = BTreeSet::new();
        while let Some(key) = open.pop() {
            if touched.insert(key.clone()) {
                open.extend(self.dependents.get(&key).into_iter().flatten().cloned());
            }
        }
        touched
    }

    fn cancel_some(&mut self, client: ClientId) {
        let handles = self.some_futures(client, 20);
        let force = self.rng.chance(20);
        let Some(record) = self.clients.get(&client) else { return };
        let keys = handles.iter().filter_map(|handle| record.futures.get(handle));
        let touched = self.with_dependents(keys.map(|future| future.key.clone()).collect());
        for other in self.clients.values_mut() {
            let is_all = force || other.id == client;
            for future in other.futures.values_mut() {
                // Who unpickles it only now comes too late to keep it.
                let is_meant = is_all || future.unpickled;
                future.cancel_asked |= is_meant && touched.contains(&future.key);
            }
        }
        if force {
            self.forced.extend(touched);
        }
        if let Some(record) = self.client(client) {
            for handle in &handles {
                let future = record.futures.get_mut(handle);
                future.into_iter().for_each(|future| future.is_cancelling = true);
            }
            let held = record.real.all_held(&handles);
            record.real.client.cancel(&held, force, "", "");
        }
        self.carry(client);
    }

    fn retry_some(&mut self, client: ClientId) -> Checked {
        self.ledger.retried = true;
        let handles = self.some_futures(client, 50);
        let Some(record) = self.client(client) else { return Ok(()) };
        record.real.client.retry(&record.real.all_held(&handles));
        for handle in &handles {
            if let Some(future) = record.futures.get_mut(handle)
                && matches!(future.known, Known::Erred(_))
                && !future.is_cancelling
            {
                future.known = Known::Pending;
            }
            record.check_entry(*handle)?;
        }
        self.carry(client);
        Ok(())
    }

    fn detach_some(&mut self, client: ClientId) {
        let mut handles = self.some_futures(client, 30);
        let Some(record) = self.client(client) else { return };
        // One that waits for a key which nobody submits would be kept for ever, rightly.
        handles.retain(|handle| record.futures.get(handle).is_some_and(|future| !future.desired));
        record.real.client.detach(&record.real.all_held(&handles));
        self.release(client, &handles);
    }

    /// Pickles futures, and lets go of some right away.
    fn pickle_some(&mut self, client: ClientId) -> Checked {
        for handle in self.some_futures(client, 30) {
            let Some(record) = self.clients.get(&client) else { return Ok(()) };
            let Some(future) = record.futures.get(&handle) else { continue };
            if is_shared(future) || !future.bound || matches!(future.known, Known::Cancelled(_)) {
                continue;
            }
            let Some(held) = record.real.held(handle) else { continue };
            let ticket = self.pickles.len() as Ticket + 1;
            record.real.client.deposit(&held, ticket);
            if record.is_given_up {
                // The scheduler never hears of it.
                self.lost_pickles.insert(future.key.clone());
            }
            self.pickles.push(Pickle { ticket, session: record.session, future: future.clone() });
            self.carry(client);
            // The bytes may be faster than the news of them.
            let readers: Vec<ClientId> = self.clients.keys().copied().collect();
            let reader = self.rng.pick(&readers).copied().filter(|_| self.rng.chance(60));
            if let Some(reader) = reader.filter(|reader| self.clients[reader].alive) {
                self.unpickle(reader, self.pickles.len() - 1)?;
            }
            if self.rng.chance(50) {
                self.release(client, &[handle]);
            }
        }
        Ok(())
    }

    fn unpickle_one(&mut self, client: ClientId) -> Checked {
        if self.pickles.is_empty() {
            return Ok(());
        }
        let which = self.rng.below(self.pickles.len() as u64) as usize;
        self.unpickle(client, which)
    }

    /// Reads a pickle, which others may have read before. The result must still be there.
    fn unpickle(&mut self, client: ClientId, which: usize) -> Checked {
        let Pickle { ticket, future: pickled, .. } = self.pickles[which].clone();
        // Who asked to cancel it meanwhile is known to those who held it.
        let all = self.clients.values().flat_map(|client| client.futures.values());
        let same = all.filter(|future| future.key == pickled.key);
        let cancel_asked = same.fold(pickled.cancel_asked, |asked, it| asked | it.cancel_asked);
        let Some(record) = self.clients.get_mut(&client) else { return Ok(()) };
        let real = record.real.client.clone();
        let mut submission = real.submission();
        let held = submission.collect(&pickled.key, ticket);
        let read = || SimFuture { unpickled: true, cancel_asked, ..pickled.anew() };
        let (_, is_new) = record.take(held, read)?;
        submission.flush();
        self.report.futures += u64::from(is_new);
        self.report.unpickled += 1;
        self.carry(client);
        Ok(())
    }

    /// What the client submits next brings functions that nothing else uses.
    fn pass_functions(&mut self, client: ClientId) {
        if let Some(record) = self.client(client) {
            record.is_passing = true;
        }
    }

    fn client_vanishes(&mut self, client: ClientId) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        record.alive = false;
        let session = record.session;
        let left = Event::ClientLeft { client: session };
        self.send((0, session.0.into()), Happening::ToScheduler(left));
    }
}

/// Those of passing submissions have ids from here on.
const PASSING: u128 = 100;

/// All functions that a submission may name. `is_passing`: they serve for it only.
fn functions(is_passing: bool) -> Vec<FunctionSpec> {
    let first = if is_passing { PASSING } else { 1 };
    let function = |number| FunctionSpec {
        id: FunctionId(first + number),
        name: format!("f{number}"),
        payload: Bytes::new(),
        is_coroutine: false,
    };
    (0..4).map(function).collect()
}

fn is_passing(function: &FunctionSpec) -> bool {
    function.id.0 >= PASSING
}

/// Whether its key may stand for either of two works.
fn is_shared(future: &SimFuture) -> bool {
    future.key.as_bytes().starts_with(b"sshared")
}

/// A value of the n-th scattered key.
pub fn scattered_value(name: u64) -> u64 {
    mix(name ^ 0xda7a)
}

fn plan_entry(entry: &Value) -> Option<(TaskId, Vec<WorkerNo>)> {
    let Value::List(parts) = entry else { return None };
    let [Value::Int(task), Value::List(addresses)] = parts.as_slice() else { return None };
    let number = |address: &Value| {
        let Value::Text(address) = address else { return None };
        address.strip_prefix("sim://")?.parse().ok().map(WorkerNo)
    };
    Some((TaskId::from_u64(*task as u64), addresses.iter().filter_map(number).collect()))
}

fn can_fail(node: &Node) -> bool {
    let has_limits = |policy: &TaskPolicy| policy.timeout_ns > 0 || policy.hard_timeout_ns > 0;
    if node.policy.as_ref().is_some_and(has_limits) {
        return true;
    }
    match node.call.behaviour {
        Behaviour::RaiseAlways | Behaviour::KillAlways | Behaviour::KillFirst(_) => true,
        Behaviour::RaiseFirst(n) => {
            let retry = node.policy.as_ref().map(|policy| &policy.retry);
            let is_tried_again = retry.is_none_or(|retry| retry.covers(&["Planted".to_string()]));
            u32::from(n) > node.retries || !is_tried_again
        }
        Behaviour::Hang | Behaviour::Stuck => true,
        Behaviour::Return | Behaviour::RescheduleOnce | Behaviour::Secede => false,
        Behaviour::Actor | Behaviour::SavedActor | Behaviour::Restored => false,
    }
}

fn options_of(node: &Node) -> TaskOptions {
    let amount = Amount::from_f64(f64::from(node.call.gpu_percent) / 100.0);
    let gpu = amount.filter(|amount| amount.0 > 0).map(|amount| ("GPU".to_string(), amount));
    TaskOptions {
        workers: node.pinned.map(|name| format!("worker-{name}")).into_iter().collect(),
        allow_other_workers: node.others,
        resources: Resources::new(gpu.into_iter().collect()),
        retries: node.retries,
        priority: node.priority,
        policy: node.policy.clone().map(Box::new),
    }
}
