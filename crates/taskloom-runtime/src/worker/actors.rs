//! Actors that live here: their queues of calls, and the threads that run them.
//!
//! Methods of one actor run one at a time, in the order in which they came, on whichever actor
//! thread is free: there are as many threads as actors are busy, and none where none is. Reading
//! an attribute waits for no method.

use super::state::Map;
use super::values::LocalObject;
use crate::data::{ActorAnswer, ActorRequest, CallReplier};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use taskloom_proto::actor::{ActorCall, ActorLife};
use taskloom_types::TaskId;

/// Idle actor threads beyond these end.
const SPARE_THREADS: usize = 4;

/// An actor that lives here.
#[derive(Debug)]
pub struct LiveActor<O> {
    pub life: ActorLife,
    pub object: O,
}

/// What an actor thread has to do.
#[derive(Debug)]
pub enum Turn {
    Call(ActorRequest, CallReplier),
    /// Take a snapshot, then give the answer of a call that has ended.
    Save(CallReplier, ActorAnswer),
    /// Give the last state to the scheduler, once no coroutine method is under way.
    HandOver,
}

/// What an actor thread takes.
#[derive(Debug)]
pub struct ActorTurn<O> {
    pub actor: Arc<LiveActor<O>>,
    pub turn: Turn,
    /// Others wait for its end: give it back to [`Actors::try_next`].
    is_exclusive: bool,
}

#[derive(Debug)]
struct Mailbox<O> {
    actor: Arc<LiveActor<O>>,
    turns: VecDeque<Turn>,
    /// A thread is in a turn of it, or it is in the list of those that wait for one.
    is_scheduled: bool,
    /// The worker leaves: no further method begins here.
    is_leaving: bool,
    /// Coroutine methods that have begun and not ended.
    coroutines: usize,
    /// The last state is due when the last of them ends.
    waits_for_coroutines: bool,
    /// Answers that wait until the scheduler has a snapshot of this number.
    held: VecDeque<(u64, CallReplier, ActorAnswer)>,
}

/// One entry of the list of what threads can do.
#[derive(Debug)]
enum Ready {
    /// The actor's next turn.
    Next(TaskId),
    /// A turn beside the others.
    Aside(TaskId, Box<Turn>),
}

#[derive(Debug)]
struct Table<O> {
    living: Map<TaskId, Mailbox<O>>,
    ready: VecDeque<Ready>,
    /// Threads that sleep.
    idle: usize,
    /// Threads that were asked for and have not come.
    starting: usize,
    has_ended: bool,
}

/// What is left of an actor that has ended: drop it without any lock, which tells those that
/// called. Its object is not part of it: that is dropped elsewhere, where objects may be.
#[derive(Debug)]
pub struct Ended {
    _turns: VecDeque<Turn>,
    _held: VecDeque<(u64, CallReplier, ActorAnswer)>,
}

/// The actors of a worker.
#[derive(Debug)]
pub struct Actors<O> {
    table: Mutex<Table<O>>,
    wake: Condvar,
    /// How many live here; read without the lock.
    count: AtomicUsize,
    /// Whether one ever did.
    had_some: AtomicBool,
}

impl<O> Default for Actors<O> {
    fn default() -> Self {
        let table = Table {
            living: Map::default(),
            ready: VecDeque::new(),
            idle: 0,
            starting: 0,
            has_ended: false,
        };
        Self {
            table: Mutex::new(table),
            wake: Condvar::new(),
            count: AtomicUsize::new(0),
            had_some: AtomicBool::new(false),
        }
    }
}

impl<O> Table<O> {
    fn mailbox(&mut self, life: ActorLife) -> Option<&mut Mailbox<O>> {
        self.living.get_mut(&life.task).filter(|mailbox| mailbox.actor.life == life)
    }

    /// Adds a turn to those of an actor; gives it back when that life is over.
    fn queue(&mut self, life: ActorLife, turn: Turn) -> Result<(), Turn> {
        let Some(mailbox) = self.mailbox(life) else { return Err(turn) };
        if mailbox.is_leaving && matches!(turn, Turn::Call(..)) {
            return Err(turn);
        }
        mailbox.turns.push_back(turn);
        if !std::mem::replace(&mut mailbox.is_scheduled, true) {
            self.ready.push_back(Ready::Next(life.task));
        }
        Ok(())
    }

    /// Whether one more thread is to be started for what is ready; counts it as started.
    fn lacks_thread(&mut self) -> bool {
        let lacks = self.ready.len() > self.idle + self.starting && !self.has_ended;
        self.starting += usize::from(lacks);
        lacks
    }

    fn take(&mut self) -> Option<ActorTurn<O>> {
        while let Some(ready) = self.ready.pop_front() {
            let (task, aside) = match ready {
                Ready::Next(task) => (task, None),
                Ready::Aside(task, turn) => (task, Some(turn)),
            };
            // An actor that has ended meanwhile took its turns with it.
            let Some(mailbox) = self.living.get_mut(&task) else { continue };
            let actor = mailbox.actor.clone();
            if let Some(turn) = aside {
                return Some(ActorTurn { actor, turn: *turn, is_exclusive: false });
            }
            match mailbox.turns.pop_front() {
                Some(turn) => return Some(ActorTurn { actor, turn, is_exclusive: true }),
                None => mailbox.is_scheduled = false,
            }
        }
        None
    }

    /// A turn is over: the next one of that actor may begin.
    fn end_turn(&mut self, life: ActorLife) {
        let Some(mailbox) = self.mailbox(life) else { return };
        mailbox.is_scheduled = !mailbox.turns.is_empty();
        if mailbox.is_scheduled {
            self.ready.push_back(Ready::Next(life.task));
        }
    }
}

/// Names the turn that a thread has ended.
#[derive(Debug, Clone, Copy)]
pub struct TurnEnd(Option<ActorLife>);

impl<O> ActorTurn<O> {
    /// To be given to [`Actors::try_next`] when the turn is over.
    #[must_use]
    pub fn end(&self) -> TurnEnd {
        TurnEnd(self.is_exclusive.then_some(self.actor.life))
    }
}

impl<O: LocalObject> Actors<O> {
    /// An actor was made here.
    pub(super) fn insert(&self, life: ActorLife, object: O) {
        let mut table = self.table.lock();
        let mailbox = Mailbox {
            actor: Arc::new(LiveActor { life, object }),
            turns: VecDeque::new(),
            is_scheduled: false,
            is_leaving: false,
            coroutines: 0,
            waits_for_coroutines: false,
            held: VecDeque::new(),
        };
        table.living.insert(life.task, mailbox);
        self.had_some.store(true, Ordering::Release);
        self.count.store(table.living.len(), Ordering::Release);
    }

    /// Ends the actor that a task made, if it made one.
    pub(super) fn end(&self, task: TaskId) -> Option<(O, Ended)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut table = self.table.lock();
        let Mailbox { actor, turns, held, .. } = table.living.remove(&task)?;
        self.count.store(table.living.len(), Ordering::Release);
        Some((actor.object.clone(), Ended { _turns: turns, _held: held }))
    }

    /// Ends all of them, and the threads.
    pub(super) fn end_all(&self) -> Vec<(O, Ended)> {
        let (living, ready) = {
            let mut table = self.table.lock();
            table.has_ended = true;
            self.count.store(0, Ordering::Release);
            (std::mem::take(&mut table.living), std::mem::take(&mut table.ready))
        };
        self.wake.notify_all();
        drop(ready);
        let end = |mailbox: Mailbox<O>| {
            let Mailbox { actor, turns, held, .. } = mailbox;
            (actor.object.clone(), Ended { _turns: turns, _held: held })
        };
        living.into_values().map(end).collect()
    }

    /// A call came. Returns whether a thread is to be started for it. Where that life of the
    /// actor is over, the dropped `reply` says so.
    #[must_use]
    pub(super) fn call(&self, life: ActorLife, request: ActorRequest, reply: CallReplier) -> bool {
        let mut table = self.table.lock();
        let is_method = request.kind == ActorCall::METHOD;
        let turn = Turn::Call(request, reply);
        let refused = match is_method {
            true => table.queue(life, turn).err(),
            false if table.mailbox(life).is_some() => {
                table.ready.push_back(Ready::Aside(life.task, Box::new(turn)));
                None
            }
            false => Some(turn),
        };
        let lacks_thread = table.lacks_thread();
        drop(table);
        drop(refused);
        self.wake.notify_one();
        lacks_thread
    }

    /// A method has ended outside its turn, and a snapshot is due before it is answered. Returns
    /// whether a thread is to be started.
    #[must_use]
    pub fn save(&self, life: ActorLife, reply: CallReplier, answer: ActorAnswer) -> bool {
        let mut table = self.table.lock();
        let refused = table.queue(life, Turn::Save(reply, answer)).err();
        let lacks_thread = table.lacks_thread();
        drop(table);
        drop(refused);
        self.wake.notify_one();
        lacks_thread
    }

    /// The worker leaves: methods that have not begun are given back by being dropped, and when
    /// the others have ended the last state is due. Returns whether a thread is to be started.
    #[must_use]
    pub(super) fn hand_over(&self, life: ActorLife) -> bool {
        let mut table = self.table.lock();
        let Some(mailbox) = table.mailbox(life) else { return false };
        if std::mem::replace(&mut mailbox.is_leaving, true) {
            return false;
        }
        let is_call = |turn: &Turn| matches!(turn, Turn::Call(..));
        let (calls, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut mailbox.turns).into_iter().partition(is_call);
        mailbox.turns = others;
        let refused = table.queue(life, Turn::HandOver).err();
        let lacks_thread = table.lacks_thread();
        drop(table);
        drop((calls, refused));
        self.wake.notify_one();
        lacks_thread
    }

    /// Whether the last state may be taken now. If not, it is due when the last coroutine ends.
    #[must_use]
    pub fn is_at_rest(&self, life: ActorLife) -> bool {
        let mut table = self.table.lock();
        let Some(mailbox) = table.mailbox(life) else { return false };
        mailbox.waits_for_coroutines = mailbox.coroutines > 0;
        !mailbox.waits_for_coroutines
    }

    /// A coroutine method goes on on the event loop.
    pub fn coroutine_began(&self, life: ActorLife) {
        if let Some(mailbox) = self.table.lock().mailbox(life) {
            mailbox.coroutines += 1;
        }
    }

    /// It has ended, and its answer is given or in the queue. Returns whether a thread is to be
    /// started.
    #[must_use]
    pub fn coroutine_ended(&self, life: ActorLife) -> bool {
        let mut table = self.table.lock();
        let Some(mailbox) = table.mailbox(life) else { return false };
        mailbox.coroutines = mailbox.coroutines.saturating_sub(1);
        if mailbox.coroutines > 0 || !std::mem::take(&mut mailbox.waits_for_coroutines) {
            return false;
        }
        let refused = table.queue(life, Turn::HandOver).err();
        let lacks_thread = table.lacks_thread();
        drop(table);
        drop(refused);
        self.wake.notify_one();
        lacks_thread
    }

    /// Whether an actor lives here, or has lived here.
    pub(super) fn had_some(&self) -> bool {
        self.had_some.load(Ordering::Acquire)
    }

    /// Whether none lives here.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Keeps an answer until the scheduler has the snapshot of this number.
    pub fn hold(&self, life: ActorLife, number: u64, reply: CallReplier, answer: ActorAnswer) {
        let mut table = self.table.lock();
        if let Some(mailbox) = table.mailbox(life) {
            mailbox.held.push_back((number, reply, answer));
        }
    }

    /// The scheduler has a snapshot: gives the answers that waited for it.
    pub(super) fn on_kept(&self, life: ActorLife, number: u64) {
        let mut released = Vec::new();
        {
            let mut table = self.table.lock();
            let Some(mailbox) = table.mailbox(life) else { return };
            while mailbox.held.front().is_some_and(|(wanted, ..)| *wanted <= number) {
                released.extend(mailbox.held.pop_front());
            }
        }
        for (_, reply, answer) in released {
            reply.reply(answer);
        }
    }

    /// A thread that was asked for has come.
    pub fn thread_started(&self) {
        let mut table = self.table.lock();
        table.starting = table.starting.saturating_sub(1);
    }

    /// Ends a thread's turn, if any, and takes the next when there is one. Never blocks.
    #[must_use]
    pub fn try_next(&self, ended: Option<TurnEnd>) -> Option<ActorTurn<O>> {
        let mut table = self.table.lock();
        if let Some(TurnEnd(Some(life))) = ended {
            table.end_turn(life);
        }
        table.take()
    }

    /// Blocks until there may be something to do. False: the thread is to end.
    #[must_use]
    pub fn wait(&self) -> bool {
        let mut table = self.table.lock();
        while table.ready.is_empty() {
            if table.has_ended || table.idle >= SPARE_THREADS {
                return false;
            }
            table.idle += 1;
            self.wake.wait(&mut table);
            table.idle -= 1;
        }
        !table.has_ended
    }
}
