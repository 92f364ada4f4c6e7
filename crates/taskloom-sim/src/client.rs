//! A client: the real one, and what it must know: what it submitted, what it holds, and what it has
//! been told. After each message the two are compared.

use crate::broken::{Broken, Checked};
use crate::real::RealClient;
use crate::sharing::{Asked, Sharing};
use crate::workload::Behaviour;
use std::collections::BTreeMap;
use taskloom_proto::actor::ActorNews;
use taskloom_proto::client::{Answer, Handles, Reply, SchedulerToClient};
use taskloom_runtime::client::{Held, Notice, Outcome};
use taskloom_types::{ClientId, Handle, Key, TaskId, WorkerNo};

/// What a client knows of one of its futures.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    Pending,
    /// The value came with the message.
    Value(u64),
    /// The value is to be fetched there.
    There(TaskId, WorkerNo),
    Erred(String),
    Cancelled(String),
}

/// One future.
#[derive(Debug, Clone)]
pub struct SimFuture {
    pub key: Key,
    /// The value that a sequential run gives.
    pub expected: u64,
    /// The value of the other work that the key may stand for: right after a collision was told.
    pub other: Option<OtherWork>,
    /// In a row.
    pub failed_fetches: u32,
    /// Whether the task, or one that it needs, has a planted error or kills workers.
    pub may_fail: bool,
    /// Whether it is, or needs, scattered data, which cannot be made again.
    pub needs_data: bool,
    pub is_actor: bool,
    /// It is an actor that goes with its worker, or needs an actor: that may be over when it is
    /// needed again.
    pub may_lose_actor: bool,
    /// It, or one that it needs, was asked for by key alone: nobody may ever submit that.
    pub desired: bool,
    /// It was made from a pickled future.
    pub unpickled: bool,
    /// It needs an unpickled one, perhaps by way of others.
    pub needs_unpickled: bool,
    /// Whether the scheduler knows its handle: not while a scatter waits for its plan.
    pub bound: bool,
    pub known: Known,
    /// It was said to have ended once, however.
    pub has_ended: bool,
    /// Its own client has asked to cancel it.
    pub is_cancelling: bool,
    /// Its value was brought into a new session, where the same task may have failed meanwhile.
    pub is_claimed: bool,
    /// Where its value was said to be.
    pub place: Option<(TaskId, WorkerNo)>,
    /// The task whose error it has.
    pub culprit: Option<Key>,
    pub released: bool,
    /// The scheduler was told of its release: what comes of it now is dropped.
    pub gone: bool,
    /// Cancelled by this or another client: then the end is open.
    pub cancel_asked: bool,
}

/// An actor that a client watches, and what it heard last.
#[derive(Debug, Clone)]
pub struct Watched {
    pub key: Key,
    pub news: Option<ActorNews>,
}

pub struct SimClient {
    pub id: ClientId,
    /// What the scheduler knows it as: another one in each session.
    pub session: ClientId,
    /// Sessions that began in the place of others.
    pub sessions: u64,
    /// The scheduler has ended its session, which it does not know yet.
    pub is_given_up: bool,
    pub alive: bool,
    /// Collisions fail its submissions.
    pub strict: bool,
    pub real: RealClient,
    pub last_watch: u64,
    pub futures: BTreeMap<Handle, SimFuture>,
    /// What each key stands for, or stood for last.
    names: BTreeMap<Key, Handle>,
    /// Functions of its next submission serve for that one only.
    pub is_passing: bool,
    /// Requests without an answer, and for scattered values which future gets which.
    pub requests: BTreeMap<u64, Vec<Handle>>,
    pub sharing: Sharing,
    pub watches: BTreeMap<u64, Watched>,
}

/// What a message makes the client do.
pub enum Todo {
    /// Fetch a result from a worker.
    Fetch { handle: Handle, task: TaskId, worker: WorkerNo },
    /// Put values where a plan says.
    Put { handles: Vec<Handle>, answer: Answer },
    /// Go on with what was asked of a shared object.
    Share { request: u64, asked: Asked, answer: Answer },
}

/// Why a strict client's future ended whose key is in use for other work.
const COLLISION: &str = "collision";

/// The futures that a message is about.
fn handles_in(message: &SchedulerToClient) -> Vec<Handle> {
    match message {
        SchedulerToClient::Ready(list) => list.iter().map(|ready| ready.handle).collect(),
        SchedulerToClient::Erred(erred) => erred.handles.clone(),
        SchedulerToClient::Cancelled(cancelled) => cancelled.handles.clone(),
        SchedulerToClient::Pending(pending) => pending.handles.clone(),
        SchedulerToClient::Collision(collision) => vec![collision.handle],
        _ => Vec::new(),
    }
}

/// What simulated tasks return.
fn number_in(raw: &[u8]) -> u64 {
    raw.first_chunk().map_or(0, |raw| u64::from_le_bytes(*raw))
}

impl SimClient {
    pub fn new(id: ClientId, strict: bool, epoch: u64) -> Self {
        Self {
            id,
            session: id,
            sessions: 0,
            is_given_up: false,
            alive: true,
            strict,
            real: RealClient::new(strict, epoch),
            last_watch: 0,
            futures: BTreeMap::new(),
            names: BTreeMap::new(),
            is_passing: false,
            requests: BTreeMap::new(),
            sharing: Sharing::default(),
            watches: BTreeMap::new(),
        }
    }

    /// The user has a future of the client's. Returns its handle, and whether it is a new one.
    ///
    /// # Errors
    /// The key stands for what it must not stand for.
    pub fn take(&mut self, held: Held, new: impl FnOnce() -> SimFuture) -> Checked<(Handle, bool)> {
        let entry = held.entry();
        let (handle, key) = (entry.handle, entry.key.clone());
        if let Some(future) = self.futures.get(&handle) {
            if matches!(future.known, Known::Cancelled(_)) {
                let what = format!("cancelled future {key} stands for new work");
                return Err(Broken::new("I16", what));
            }
            if future.released {
                return Err(Broken::new("I12", format!("{key} is released, and used again")));
            }
            return Ok((handle, false));
        }
        let former = self.names.insert(key.clone(), handle).and_then(|it| self.futures.get(&it));
        if former.is_some_and(|it| !it.released && !matches!(it.known, Known::Cancelled(_))) {
            return Err(Broken::new("I12", format!("the client has forgotten {key}")));
        }
        self.real.keep(held);
        self.futures.insert(handle, new());
        Ok((handle, true))
    }

    pub fn let_go(&mut self, handles: &[Handle]) {
        for handle in handles {
            if let Some(future) = self.futures.get_mut(handle) {
                future.released = true;
            }
            self.real.let_go(*handle);
        }
    }

    /// The client tells the scheduler what it holds no more.
    ///
    /// # Errors
    /// The user holds it, or it was told before.
    pub fn on_release(&mut self, released: &Handles) -> Checked {
        for handle in &released.handles {
            let future = self.futures.get_mut(handle);
            if !future.as_ref().is_some_and(|future| future.released && !future.gone) {
                let what = format!("client {} tells of the release of {handle}", self.id);
                return Err(Broken::new("I12", what));
            }
            future.into_iter().for_each(|future| future.gone = true);
        }
        Ok(())
    }

    /// A message comes: what must be so follows from it, and is so.
    ///
    /// # Errors
    /// The message breaks a promise to the client, or the client takes it wrongly.
    pub fn receive(&mut self, message: SchedulerToClient) -> Checked<Vec<Todo>> {
        let named = handles_in(&message);
        let reply = match &message {
            SchedulerToClient::Reply(reply) => Some(reply.clone()),
            _ => None,
        };
        let collision = match &message {
            SchedulerToClient::Collision(collision) if !self.strict => Some(collision.clone()),
            _ => None,
        };
        let todo = self.on_message(message.clone())?;
        self.real.deliver(message);
        named.iter().try_for_each(|handle| self.check_entry(*handle))?;
        if let Some(Reply { id, answer }) = reply
            && self.real.answer(id) != Some(answer)
        {
            return Err(Broken::new("I1", format!("the answer to request {id} does not arrive")));
        }
        let notices = self.real.client.take_notices();
        if let Some(collision) = collision
            && !notices.contains(&Notice::Collision(collision))
        {
            return Err(Broken::new("I1", "a collision is not told to the user"));
        }
        Ok(todo)
    }

    /// The client knows of a future what it must know, and nothing else.
    ///
    /// # Errors
    /// It does not (I1).
    pub fn check_entry(&self, handle: Handle) -> Checked {
        let Some(future) = self.futures.get(&handle) else { return Ok(()) };
        let Some(outcome) = self.real.outcome(handle) else { return Ok(()) };
        if future.is_known_as(&outcome) {
            return Ok(());
        }
        let what = format!("the client takes {} for {outcome:?}: {:?}", future.key, future.known);
        Err(Broken::new("I1", what))
    }

    /// Applies a message.
    ///
    /// # Errors
    /// The message breaks a promise to the client.
    fn on_message(&mut self, message: SchedulerToClient) -> Checked<Vec<Todo>> {
        let mut todo = Vec::new();
        match message {
            SchedulerToClient::Ready(list) => {
                for ready in list {
                    let Some(future) = self.open_future(ready.handle, "ready")? else { continue };
                    if matches!(future.known, Known::Erred(_)) {
                        let what = format!("erred future {} was told ready", future.key);
                        return Err(Broken::new("I1", what));
                    }
                    future.has_ended = true;
                    future.is_claimed = false;
                    future.known = match ready.value {
                        Some(value) => Known::Value(number_in(&value)),
                        None => Known::There(ready.task, ready.worker),
                    };
                    future.place = match future.known {
                        Known::There(task, worker) => Some((task, worker)),
                        _ => None,
                    };
                    if let Known::There(task, worker) = future.known {
                        todo.push(Todo::Fetch { handle: ready.handle, task, worker });
                    }
                    future.check_value()?;
                }
            }
            SchedulerToClient::Erred(erred) => {
                for handle in erred.handles {
                    let Some(future) = self.open_future(handle, "erred")? else { continue };
                    let is_finished = matches!(future.known, Known::Value(_) | Known::There(..));
                    if is_finished && !std::mem::take(&mut future.is_claimed) {
                        let what = format!("finished future {} was told erred", future.key);
                        return Err(Broken::new("I1", what));
                    }
                    future.has_ended = true;
                    future.known = Known::Erred(erred.error.type_name.clone());
                    future.culprit.clone_from(&erred.error.origin);
                }
            }
            SchedulerToClient::Cancelled(cancelled) => {
                for handle in cancelled.handles {
                    let future = self.futures.get_mut(&handle).filter(|it| !it.gone);
                    if let Some(future) = future
                        && !matches!(future.known, Known::Cancelled(_))
                    {
                        future.known = Known::Cancelled(cancelled.reason.clone());
                    }
                }
            }
            SchedulerToClient::Pending(list) => {
                for handle in list.handles {
                    if let Some(future) = self.open_future(handle, "pending")? {
                        future.known = Known::Pending;
                        future.is_claimed = false;
                    }
                }
            }
            SchedulerToClient::Collision(collision) => self.on_collision(collision.handle)?,
            SchedulerToClient::Reply(Reply { id: request, answer })
                if self.sharing.asked.contains_key(&request) =>
            {
                if let Some(asked) = self.sharing.asked.remove(&request) {
                    todo.push(Todo::Share { request, asked, answer });
                }
            }
            SchedulerToClient::Reply(reply) if self.sharing.given_up.remove(&reply.id) => {}
            SchedulerToClient::Reply(reply) => {
                let handles = self.requests.remove(&reply.id);
                let what = || format!("request {} is answered twice", reply.id);
                let handles = handles.ok_or_else(|| Broken::new("I1", what()))?;
                if !handles.is_empty() {
                    todo.push(Todo::Put { handles, answer: reply.answer });
                }
            }
            SchedulerToClient::ActorNews(news) => {
                // One that it has stopped watching may still be told of.
                if let Some(watch) = self.watches.get_mut(&news.number) {
                    watch.news = Some(news);
                }
            }
            SchedulerToClient::Peer(_)
            | SchedulerToClient::PeersGone(_)
            | SchedulerToClient::Notice(_)
            | SchedulerToClient::Event(_)
            | SchedulerToClient::Closing(_) => {}
        }
        Ok(todo)
    }

    /// The key stands for the other work.
    fn on_collision(&mut self, handle: Handle) -> Checked {
        let strict = self.strict;
        let future = self.futures.get_mut(&handle);
        let unknown = || Broken::new("I12", format!("collision of unknown handle {handle}"));
        let future = future.ok_or_else(unknown)?;
        if future.other.as_ref().is_none_or(|other| other.is_kept) {
            return Err(Broken::new("I4", format!("{} collides with itself", future.key)));
        }
        future.stand_for_other_work(true);
        if strict && !future.gone {
            future.known = Known::Cancelled(COLLISION.into());
            future.cancel_asked = true;
        }
        Ok(())
    }

    /// The future of a handle, if it was not released. A cancelled one hears nothing more (I16).
    fn open_future(&mut self, handle: Handle, what: &str) -> Checked<Option<&mut SimFuture>> {
        let Some(future) = self.futures.get_mut(&handle) else {
            let what = format!("client {} was told {what} of unknown handle {handle}", self.id);
            return Err(Broken::new("I12", what));
        };
        // What was released is submitted again with the rest of its submission, for a moment.
        let is_again = future.gone && self.sessions > 0;
        if matches!(future.known, Known::Cancelled(_)) && !is_again {
            let what = format!("cancelled future {} was told {what}", future.key);
            return Err(Broken::new("I16", what));
        }
        Ok((!future.gone).then_some(future))
    }
}

/// What the key of a future may stand for instead.
#[derive(Debug, Clone)]
pub struct OtherWork {
    pub value: u64,
    /// It does.
    pub is_kept: bool,
}

impl SimFuture {
    /// From now on its key stands for what was submitted, or for the other work.
    pub fn stand_for_other_work(&mut self, is_kept: bool) {
        if let Some(other) = self.other.as_mut().filter(|other| other.is_kept != is_kept) {
            other.is_kept = is_kept;
            std::mem::swap(&mut other.value, &mut self.expected);
        }
    }

    pub fn new(key: Key, expected: u64) -> Self {
        Self {
            key,
            expected,
            other: None,
            failed_fetches: 0,
            may_fail: false,
            needs_data: false,
            is_actor: false,
            may_lose_actor: false,
            desired: false,
            unpickled: false,
            needs_unpickled: false,
            bound: true,
            known: Known::Pending,
            has_ended: false,
            is_claimed: false,
            is_cancelling: false,
            place: None,
            culprit: None,
            released: false,
            gone: false,
            cancel_asked: false,
        }
    }

    /// What its task makes, when that is an actor.
    pub fn note_actor(&mut self, behaviour: Behaviour) {
        self.is_actor = matches!(behaviour, Behaviour::Actor | Behaviour::SavedActor);
        self.may_lose_actor |= behaviour == Behaviour::Actor;
    }

    /// The same work, in the hands of somebody who has heard nothing of it.
    pub fn anew(&self) -> Self {
        let known = Known::Pending;
        let (place, released, gone, bound) = (None, false, false, true);
        let (has_ended, is_claimed, is_cancelling) = (false, false, false);
        Self {
            known,
            has_ended,
            is_claimed,
            is_cancelling,
            place,
            released,
            gone,
            bound,
            ..self.clone()
        }
    }

    /// Whether it is a value that was scattered.
    pub fn is_data(&self) -> bool {
        self.key.as_bytes().starts_with(b"sdata-")
    }

    /// Whether the client's view is what it should be.
    fn is_known_as(&self, outcome: &Outcome) -> bool {
        match (&self.known, outcome) {
            (Known::Pending, Outcome::Pending) => true,
            (Known::Value(value), Outcome::Inline(raw)) => {
                self.place.is_none() && *value == number_in(raw)
            }
            // A value that was fetched stays where it was, too.
            (Known::Value(_) | Known::There(..), Outcome::Remote { task, worker, .. }) => {
                self.place == Some((*task, *worker))
            }
            (Known::Erred(kind), Outcome::Erred(error)) => *kind == error.type_name,
            (Known::Cancelled(reason), Outcome::Cancelled(why)) => *reason == why.reason,
            (Known::Cancelled(reason), Outcome::Refused(_)) => reason == COLLISION,
            _ => false,
        }
    }

    /// # Errors
    /// The value is wrong (I4).
    pub fn check_value(&self) -> Checked {
        match self.known {
            Known::Value(value) if value != self.expected => {
                Err(Broken::new("I4", format!("future {} has the wrong value", self.key)))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// The future did not end, or ended as it must not.
    pub fn check_end(&self) -> Checked {
        if self.released {
            return Ok(());
        }
        match &self.known {
            Known::Value(_) => self.check_value(),
            Known::Pending | Known::There(..) => {
                let what = format!("future {} never ended: {:?}", self.key, self.known);
                Err(Broken::new("I1", what))
            }
            Known::Erred(_) | Known::Cancelled(_) if self.may_fail || self.cancel_asked => Ok(()),
            end => {
                let what = format!("future {} ended as {end:?} for no reason", self.key);
                Err(Broken::new("I1", what))
            }
        }
    }
}
