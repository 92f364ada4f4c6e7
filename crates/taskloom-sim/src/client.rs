//! A client: what it submitted, what it holds, and what it has been told.

use crate::broken::{Broken, Checked};
use crate::sharing::{Asked, Sharing};
use crate::workload::Behaviour;
use std::collections::{BTreeMap, BTreeSet};
use taskloom_proto::actor::ActorNews;
use taskloom_proto::client::{Answer, Reply, SchedulerToClient};
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
    pub other: Option<u64>,
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
    /// Whether the scheduler knows its handle: not while a scatter waits for its plan.
    pub bound: bool,
    pub known: Known,
    /// The task whose error it has.
    pub culprit: Option<Key>,
    pub released: bool,
    /// Cancelled by this or another client: then the end is open.
    pub cancel_asked: bool,
}

/// An actor that a client watches, and what it heard last.
#[derive(Debug, Clone)]
pub struct Watched {
    pub key: Key,
    pub news: Option<ActorNews>,
}

#[derive(Debug)]
pub struct SimClient {
    pub id: ClientId,
    pub alive: bool,
    /// Collisions fail its submissions.
    pub strict: bool,
    pub last_handle: u64,
    pub last_submission: u64,
    pub last_request: u64,
    pub futures: BTreeMap<Handle, SimFuture>,
    /// Functions that it believes the scheduler to know.
    pub functions: BTreeSet<u8>,
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

impl SimClient {
    pub fn new(id: ClientId, strict: bool) -> Self {
        Self {
            id,
            alive: true,
            strict,
            last_handle: 0,
            last_submission: 0,
            last_request: 0,
            futures: BTreeMap::new(),
            functions: BTreeSet::new(),
            requests: BTreeMap::new(),
            sharing: Sharing::default(),
            watches: BTreeMap::new(),
        }
    }

    pub fn next_handle(&mut self) -> Handle {
        self.last_handle += 1;
        Handle(self.last_handle)
    }

    /// Applies a message.
    ///
    /// # Errors
    /// The message breaks a promise to the client.
    pub fn on_message(&mut self, message: SchedulerToClient) -> Checked<Vec<Todo>> {
        let mut todo = Vec::new();
        match message {
            SchedulerToClient::Ready(list) => {
                for ready in list {
                    let Some(future) = self.open_future(ready.handle, "ready")? else { continue };
                    if matches!(future.known, Known::Erred(_)) {
                        let what = format!("erred future {} was told ready", future.key);
                        return Err(Broken::new("I1", what));
                    }
                    future.known = match ready.value {
                        Some(value) => {
                            let mut raw = [0; 8];
                            raw.copy_from_slice(&value[..8]);
                            Known::Value(u64::from_le_bytes(raw))
                        }
                        None => Known::There(ready.task, ready.worker),
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
                    if matches!(future.known, Known::Value(_) | Known::There(..)) {
                        let what = format!("finished future {} was told erred", future.key);
                        return Err(Broken::new("I1", what));
                    }
                    future.known = Known::Erred(erred.error.type_name.clone());
                    future.culprit.clone_from(&erred.error.origin);
                }
            }
            SchedulerToClient::Cancelled(cancelled) => {
                for handle in cancelled.handles {
                    if let Some(future) = self.futures.get_mut(&handle) {
                        future.known = Known::Cancelled(cancelled.reason.clone());
                    }
                }
            }
            SchedulerToClient::Pending(list) => {
                for handle in list.handles {
                    if let Some(future) = self.open_future(handle, "pending")? {
                        future.known = Known::Pending;
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
        let other = future.other.take();
        let itself = || Broken::new("I4", format!("{} collides with itself", future.key));
        future.expected = other.ok_or_else(itself)?;
        if strict {
            future.known = Known::Cancelled("collision".into());
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
        if matches!(future.known, Known::Cancelled(_)) {
            let what = format!("cancelled future {} was told {what}", future.key);
            return Err(Broken::new("I16", what));
        }
        Ok(Some(future))
    }
}

impl SimFuture {
    pub fn new(key: Key, expected: u64) -> Self {
        Self {
            key,
            expected,
            other: None,
            may_fail: false,
            needs_data: false,
            is_actor: false,
            may_lose_actor: false,
            desired: false,
            unpickled: false,
            bound: true,
            known: Known::Pending,
            culprit: None,
            released: false,
            cancel_asked: false,
        }
    }

    /// What its task makes, when that is an actor.
    pub fn note_actor(&mut self, behaviour: Behaviour) {
        self.is_actor = matches!(behaviour, Behaviour::Actor | Behaviour::SavedActor);
        self.may_lose_actor |= behaviour == Behaviour::Actor;
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
