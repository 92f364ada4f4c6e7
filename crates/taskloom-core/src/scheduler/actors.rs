//! Actors: results that live on one worker, and that calls change. What the scheduler knows of
//! them is where they live, what is left when that worker goes, and who wants to hear of it.
//! Calls take no part in this: they go directly to the worker.

mod hand_over;

use self::hand_over::Move;
use super::planted::Fault;
use super::task::{Kind, State, mark};
use super::transitions::Step;
use super::worker_table::{Executing, WorkerSlot};
use super::{Map, Scheduler, TaskTable};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use taskloom_proto::actor::{
    ActorLife, ActorNews, ActorSnapshot, MAX_SNAPSHOT_BYTES, SnapshotKept, WatchActor,
};
use taskloom_proto::client::{SchedulerToClient, TaskSpec};
use taskloom_proto::worker::SchedulerToWorker;
use taskloom_proto::{Body, ErrorInfo, ExitReason};
use taskloom_types::{ClientId, Key, Nanos, WorkerNo};

/// A client that is told what becomes of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watch {
    client: ClientId,
    number: u64,
    /// The client could not reach the actor, which is not seen to have ended.
    is_doubted: bool,
}

/// What is known of an actor beside its task.
#[derive(Debug)]
pub struct ActorRecord {
    /// The worker where it lives, is made or is queued to be made.
    place: WorkerSlot,
    /// Whether the task's body is the last snapshot.
    has_snapshot: bool,
    /// It was made, and then let go or lost: there is no way to make it again.
    is_over: bool,
    /// On its way from a worker that leaves.
    moving: Move,
    watches: Vec<Watch>,
}

/// The actors by arena index: one record for each task that makes an actor.
#[derive(Debug, Default)]
pub struct Actors {
    records: Map<u32, ActorRecord>,
    /// Those that live, are made or are queued on a worker.
    by_place: Map<WorkerSlot, BTreeSet<u32>>,
    /// Those that are made elsewhere since this worker gave them away.
    by_origin: Map<WorkerNo, BTreeSet<u32>>,
    watched: Map<(ClientId, u64), u32>,
    /// Doubts that are to be answered at a time, in its order.
    doubts: VecDeque<(Nanos, ClientId, u64)>,
    /// Until when lives are to be handed over, in the order of time.
    hand_overs: VecDeque<(Nanos, ActorLife)>,
}

impl Actors {
    pub fn next_deadline(&self) -> Option<Nanos> {
        let doubt = self.doubts.front().map(|(at, _, _)| *at);
        let hand_over = self.hand_overs.front().map(|(at, _)| *at);
        doubt.into_iter().chain(hand_over).min()
    }

    fn add_watch(&mut self, index: u32, watch: Watch) {
        if let Some(record) = self.records.get_mut(&index) {
            record.watches.push(watch);
            self.watched.insert((watch.client, watch.number), index);
        }
    }

    pub fn unwatch(&mut self, client: ClientId, number: u64) {
        let Some(index) = self.watched.remove(&(client, number)) else { return };
        if let Some(record) = self.records.get_mut(&index) {
            record.watches.retain(|watch| (watch.client, watch.number) != (client, number));
        }
    }

    pub fn forget_client(&mut self, client: ClientId) {
        self.watched.retain(|(other, _), _| *other != client);
        for record in self.records.values_mut() {
            record.watches.retain(|watch| watch.client != client);
        }
    }

    fn take_watches(&mut self, index: u32) -> Vec<Watch> {
        let record = self.records.get_mut(&index);
        let watches = record.map(|record| std::mem::take(&mut record.watches)).unwrap_or_default();
        for watch in &watches {
            self.watched.remove(&(watch.client, watch.number));
        }
        watches
    }
}

impl Scheduler {
    /// Whether the task makes an actor.
    pub(super) fn is_actor(&self, index: u32) -> bool {
        self.tasks[index].flags & TaskSpec::ACTOR != 0
    }

    /// A task that makes an actor was submitted.
    pub(super) fn add_actor(&mut self, index: u32) {
        let record = ActorRecord {
            place: WorkerSlot::NONE,
            has_snapshot: false,
            is_over: false,
            moving: Move::None,
            watches: Vec::new(),
        };
        self.actors.records.insert(index, record);
    }

    /// Notes on which worker an actor is, for placing the next. Call at each change.
    pub(super) fn place_actor(&mut self, index: u32, slot: WorkerSlot) {
        let Some(record) = self.actors.records.get_mut(&index) else { return };
        let before = std::mem::replace(&mut record.place, slot);
        remove_from(&mut self.actors.by_place, before, index);
        if slot != WorkerSlot::NONE {
            self.actors.by_place.entry(slot).or_default().insert(index);
        }
        if let Some(worker) = self.workers.get_mut(before) {
            worker.actors -= 1;
        }
        if let Some(worker) = self.workers.get_mut(slot) {
            worker.actors += 1;
        }
    }

    /// The worker with the fewest actors, of those that may make this one.
    pub(super) fn worker_for_actor(&self, index: u32) -> Option<WorkerSlot> {
        let class = &self.classes[self.tasks[index].class];
        if !class.resources.is_empty() {
            return None;
        }
        let eligible = class.eligible.iter().filter(|slot| self.workers[**slot].takes_work());
        let cost = |slot: &&WorkerSlot| {
            let worker = &self.workers[**slot];
            (worker.actors, worker.wait_ns(), worker.held_bytes, **slot)
        };
        eligible.min_by_key(cost).copied()
    }

    /// An actor was made. It is never made again from its call: its inputs may go.
    pub(super) fn on_actor_made(&mut self, index: u32) {
        self.set_move(index, Move::None);
        let Some(record) = self.actors.records.get_mut(&index) else { return };
        if !record.has_snapshot {
            self.tasks[index].body = Body::new();
        }
        let id = self.tasks.id(index);
        for position in 0..self.tasks[index].deps.len() {
            // The id stays valid, unlike that of a task that is forgotten.
            let dep = self.tasks[index].deps[position];
            self.tasks[dep].dependents.retain(|dependent| *dependent != id);
        }
        self.drop_lineage(index);
        self.tell_watchers(index);
    }

    /// Nobody needs the actor any more: it ends, and so does what was kept to restart it.
    pub(super) fn on_actor_released(&mut self, index: u32) {
        self.set_move(index, Move::None);
        let Some(record) = self.actors.records.get_mut(&index) else { return };
        record.is_over = true;
        record.has_snapshot = false;
        self.tasks[index].body = Body::new();
        self.send_gone(index, &released_error(&self.tasks[index].key));
    }

    /// The actor's task is forgotten.
    pub(super) fn forget_actor(&mut self, index: u32) {
        self.send_gone(index, &released_error(&self.tasks[index].key));
        self.place_actor(index, WorkerSlot::NONE);
        self.set_move(index, Move::None);
        self.actors.records.remove(&index);
    }

    /// Whether the task made an actor that is over: there is no way to make that again.
    pub(super) fn is_dead_actor(&self, index: u32) -> bool {
        self.is_actor(index) && self.actors.records.get(&index).is_some_and(|r| r.is_over)
    }

    /// A task is to be made that was an actor and is over. Returns whether this was so.
    pub(super) fn refuse_dead_actor(&mut self, index: u32) -> bool {
        let is_over = self.is_dead_actor(index);
        if is_over {
            let error = released_error(&self.tasks[index].key);
            self.tasks[index].kind = Kind::Broken;
            self.set_state(index, State::Waiting);
            self.steps.push(Step::Fail(index, error));
        }
        is_over
    }

    /// Whether this worker's copy of the task's result is a living actor.
    pub(super) fn lives_on(&self, index: u32, slot: WorkerSlot) -> bool {
        let record = self.actors.records.get(&index);
        self.tasks[index].state == State::Memory && record.is_some_and(|r| r.place == slot)
    }

    /// The worker where an actor lives is gone: proxies anywhere mean nothing now. An actor with a
    /// snapshot is made again; another waits in `lost` for the verdict on the worker's end.
    pub(super) fn lose_actor(&mut self, index: u32, lost: &mut Executing) {
        self.drop_copies(index);
        self.give_up_hand_over(index, "the worker ended before it had handed the actor over");
        let has_snapshot = self.actors.records.get(&index).is_some_and(|r| r.has_snapshot);
        if has_snapshot && !self.has(Fault::ActorStaysLost) {
            self.lose_result(index);
            self.tell_watchers(index);
            return;
        }
        if let Some(record) = self.actors.records.get_mut(&index) {
            record.is_over = true;
        }
        self.tasks[index].kind = Kind::Broken;
        self.lose_result(index);
        if !self.tasks[index].is_needed() {
            return;
        }
        self.set_state(index, State::Waiting);
        self.tasks[index].marks |= mark::LIMBO;
        lost.push((self.tasks.id(index), self.tasks[index].attempt));
    }

    /// Whether a task in limbo is an actor that was lost; then it fails.
    pub(super) fn bury_actor(
        &mut self,
        index: u32,
        worker: (&str, &str),
        why: &ExitReason,
    ) -> bool {
        let is_lost = self.is_dead_actor(index);
        if is_lost {
            let error = lost_error(&self.tasks[index].key, worker, why);
            self.steps.push(Step::Fail(index, error));
        }
        is_lost
    }

    // Watches.

    pub(super) fn on_watch_actor(&mut self, client: ClientId, watch: WatchActor) {
        self.actors.unwatch(client, watch.number);
        let index = self.tasks.find(&watch.key).filter(|index| self.is_actor(*index));
        let Some(index) = index else {
            let error = released_error(&watch.key);
            self.send_news(client, gone(watch.number, &error));
            return;
        };
        let mut added = Watch { client, number: watch.number, is_doubted: false };
        match self.tasks[index].state {
            // Where it lives next is said when it is there; calls that have begun are answered.
            _ if self.moves_in_order(index) => {}
            State::Memory if watch.doubted == Some(self.life(index)) => {
                added.is_doubted = true;
                let until = self.now.after(self.config.exit_report_ns);
                self.actors.doubts.push_back((until, client, watch.number));
            }
            State::Memory => self.send_news(client, self.alive(index, watch.number)),
            State::Erred => {
                let error = self.tasks[index].error.clone().unwrap_or_default();
                self.send_news(client, gone(watch.number, &error));
                return;
            }
            State::Released => {
                let error = released_error(&watch.key);
                self.send_news(client, gone(watch.number, &error));
                return;
            }
            // The verdict comes soon.
            _ if self.tasks[index].has(mark::LIMBO) => {}
            _ => self.send_news(client, pending(watch.number)),
        }
        self.actors.add_watch(index, added);
    }

    /// Doubts that were not confirmed in time: as far as can be seen from here, the actor lives.
    pub(super) fn answer_doubts(&mut self) {
        while let Some((at, client, number)) = self.actors.doubts.front().copied() {
            if at > self.now {
                return;
            }
            self.actors.doubts.pop_front();
            let Some(index) = self.actors.watched.get(&(client, number)).copied() else { continue };
            let Some(record) = self.actors.records.get_mut(&index) else { continue };
            let is_it = |watch: &&mut Watch| (watch.client, watch.number) == (client, number);
            let Some(watch) = record.watches.iter_mut().find(is_it) else { continue };
            if std::mem::take(&mut watch.is_doubted) {
                self.send_news(client, self.alive(index, number));
            }
        }
    }

    /// Tells those that watch where the actor lives now, or that it is being made.
    fn tell_watchers(&mut self, index: u32) {
        let Some(record) = self.actors.records.get_mut(&index) else { return };
        let mut watches = Vec::with_capacity(record.watches.len());
        for watch in &mut record.watches {
            watch.is_doubted = false;
            watches.push(*watch);
        }
        for watch in watches {
            let is_alive = self.tasks[index].state == State::Memory;
            let news =
                if is_alive { self.alive(index, watch.number) } else { pending(watch.number) };
            self.send_news(watch.client, news);
        }
    }

    /// There is no such actor any more.
    pub(super) fn send_gone(&mut self, index: u32, error: &ErrorInfo) {
        for watch in self.actors.take_watches(index) {
            self.send_news(watch.client, gone(watch.number, error));
        }
    }

    fn send_news(&mut self, client: ClientId, news: ActorNews) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        let message = SchedulerToClient::ActorNews(news);
        self.outbox.send_client(client, &mut record.last_action, message);
    }

    fn life(&self, index: u32) -> ActorLife {
        ActorLife { task: self.tasks.id(index), attempt: self.tasks[index].attempt }
    }

    fn alive(&self, index: u32, number: u64) -> ActorNews {
        let place = self.actors.records.get(&index).map_or(WorkerSlot::NONE, |r| r.place);
        let address = self.workers.get(place).map(|worker| worker.info.address.clone());
        let (state, actor) = (ActorNews::ALIVE, self.life(index));
        ActorNews { number, state, actor, address: address.unwrap_or_default(), error: None }
    }

    // Snapshots.

    /// A worker keeps an actor's state safe. From now on the actor can be made again from it.
    pub(super) fn on_actor_snapshot(&mut self, slot: WorkerSlot, snapshot: ActorSnapshot) {
        let ActorSnapshot { actor, number, state } = snapshot;
        let index = self.tasks.get(actor.task).filter(|index| {
            let task = &self.tasks[*index];
            let is_made = task.state == State::Processing && task.worker == slot;
            let is_here = is_made || self.lives_on(*index, slot);
            is_here && task.attempt == actor.attempt && state.len() <= MAX_SNAPSHOT_BYTES
        });
        let record = index.and_then(|index| self.actors.records.get_mut(&index));
        let (Some(index), Some(record)) = (index, record) else {
            self.counters.stale_messages += 1;
            return;
        };
        record.has_snapshot = true;
        self.tasks[index].body = Body::from_slice(&state);
        let message = SchedulerToWorker::SnapshotKept(SnapshotKept { actor, number });
        self.outbox.send_worker(&mut self.workers[slot], message);
    }

    // Invariants.

    pub(super) fn validate_actors(&self) -> Result<(), String> {
        let mut counts: Map<WorkerSlot, u32> = Map::default();
        for (index, record) in &self.actors.records {
            if !self.tasks.is_live(*index) || !self.is_actor(*index) {
                return Err(format!("{index} is kept as an actor and is none"));
            }
            self.validate_actor(*index, record)?;
            *counts.entry(record.place).or_default() += 1;
        }
        for slot in self.workers.slots() {
            if counts.get(&slot).copied().unwrap_or(0) != self.workers[slot].actors {
                return Err(format!("worker {slot:?} counts its actors wrongly"));
            }
        }
        self.validate_places()?;
        for ((client, number), index) in &self.actors.watched {
            let record = self.actors.records.get(index);
            let is_it = |watch: &Watch| (watch.client, watch.number) == (*client, *number);
            if !self.clients.contains_key(client)
                || !record.is_some_and(|r| r.watches.iter().any(is_it))
            {
                return Err(format!("client {client}: watch {number} is of nothing"));
            }
        }
        validate_coverage(&self.tasks, &self.actors)
    }

    fn validate_actor(&self, index: u32, record: &ActorRecord) -> Result<(), String> {
        let task = &self.tasks[index];
        let broken = |what: &str| Err(format!("actor {} ({:?}): {what}", task.key, task.state));
        let is_placed = self.workers.get(record.place).is_some();
        self.validate_move(index, record)?;
        match task.state {
            State::Memory if !is_placed => return broken("it lives nowhere"),
            State::Memory if !task.replicas.contains(&record.place) => {
                return broken("its worker does not hold it");
            }
            State::Memory if !task.deps.is_empty() => return broken("it keeps its inputs"),
            State::Processing if record.place != task.worker => {
                return broken("its place and its worker disagree");
            }
            State::Released | State::Waiting | State::Erred | State::NoWorker if is_placed => {
                return broken("it is nowhere, and yet counted");
            }
            _ => {}
        }
        let is_running = matches!(task.state, State::Processing | State::Memory | State::Queued);
        if record.is_over && is_running {
            return broken("it is over, and yet made again");
        }
        if task.state == State::Erred && !record.watches.is_empty() {
            return broken("somebody still watches it");
        }
        Ok(())
    }
}

/// Takes an actor out of the set of that name; empty sets go.
fn remove_from<K: Copy + Eq + std::hash::Hash>(
    sets: &mut Map<K, BTreeSet<u32>>,
    name: K,
    index: u32,
) {
    let Some(set) = sets.get_mut(&name) else { return };
    set.remove(&index);
    if set.is_empty() {
        sets.remove(&name);
    }
}

fn validate_coverage(tasks: &TaskTable, actors: &Actors) -> Result<(), String> {
    let makes_actor = |index: &u32| {
        let task = &tasks[*index];
        task.flags & TaskSpec::ACTOR != 0 && task.kind != Kind::Unknown
    };
    let missing = tasks.iter().filter(makes_actor).find(|i| !actors.records.contains_key(i));
    missing.map_or(Ok(()), |index| Err(format!("{} is an actor without record", tasks[index].key)))
}

fn gone(number: u64, error: &ErrorInfo) -> ActorNews {
    let (state, error) = (ActorNews::GONE, Some(Box::new(error.clone())));
    ActorNews { number, state, error, ..ActorNews::default() }
}

fn pending(number: u64) -> ActorNews {
    ActorNews { number, state: ActorNews::PENDING, ..ActorNews::default() }
}

/// The error of an actor whose worker was lost.
fn lost_error(key: &Key, worker: (&str, &str), why: &ExitReason) -> Arc<ErrorInfo> {
    let (name, address) = worker;
    let mut message = format!(
        "the actor {key} lived on worker {name} at {address}, which is gone: {why}. Its state is \
         lost with it. Submit it again, or let it be restarted from snapshots: see taskloom.actor"
    );
    let tail = why.stderr_tail.trim_end();
    if !tail.is_empty() {
        message.push_str("\nThe last lines of the worker's standard error:\n");
        message.push_str(tail);
    }
    actor_error(key, message, address)
}

/// The error of an actor that is over by its users' will.
fn released_error(key: &Key) -> Arc<ErrorInfo> {
    let message = format!(
        "there is no actor {key}: it was released or cancelled, or was never submitted. An actor \
         lives as long as a future or a proxy in a client refers to it"
    );
    actor_error(key, message, "")
}

fn actor_error(key: &Key, message: String, worker: &str) -> Arc<ErrorInfo> {
    Arc::new(ErrorInfo {
        type_name: "ActorLostError".into(),
        message,
        origin: Some(key.clone()),
        worker: worker.into(),
        ..ErrorInfo::default()
    })
}
