//! Who asked for what: requests that wait, those that were given something, what is to be
//! answered, and which tasks the shared values keep.

use super::super::Map;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use taskloom_proto::Value;
use taskloom_proto::client::Answer;
use taskloom_types::{ClientId, Key, Nanos, TaskId};

use bytes::Bytes;

/// A request of a client. It names what the client waits for or was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    pub client: ClientId,
    pub request: u64,
}

/// Orders those who wait: first come, first served.
pub type Turn = u64;

/// How long a request may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It is answered at once.
    None,
    Until(Nanos),
    Endless,
}

/// The object that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Semaphore(Key),
    MultiLock,
    Event(Key),
    QueueGet(Key),
    QueuePut(Key),
    Variable(Key),
}

/// What a request stands for as long as it is neither answered for good nor settled.
#[derive(Debug, Clone)]
pub enum Claim {
    Waiting {
        place: Place,
        turn: Turn,
        until: Option<Nanos>,
    },
    /// A lease of this semaphore.
    Lease(Key),
    /// Some locks of [`super::multilock`].
    Locks,
    /// An object of the client uses this queue.
    Open(Key),
    /// Items on their way to the client, and the queue that they came from.
    Given {
        items: Vec<Item>,
        queue: Option<Key>,
    },
}

/// A value that the scheduler keeps, and the tasks of the futures in it.
#[derive(Debug, Clone)]
pub struct Item {
    pub payload: Bytes,
    pub tasks: Arc<[(Key, TaskId)]>,
}

/// The tasks that items keep: all items together are one holder of each.
#[derive(Debug, Default)]
pub struct Holds {
    counts: Map<TaskId, Hold>,
    /// What the tasks are still to be told: true to be kept, false to be let go.
    changes: Vec<(TaskId, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    /// How many items name the task.
    items: u32,
    /// The task was dropped for everybody; the items name it in vain.
    is_dropped: bool,
}

impl Holds {
    /// A new value, whose tasks are all known.
    pub fn keep(&mut self, item: &Item) {
        for (_, id) in item.tasks.iter() {
            let hold = self.counts.entry(*id).or_insert(Hold { items: 0, is_dropped: true });
            hold.items += 1;
            if std::mem::take(&mut hold.is_dropped) {
                self.changes.push((*id, true));
            }
        }
    }

    /// One more copy of a value that is kept. What it names in vain stays so.
    pub fn keep_copy(&mut self, item: &Item) {
        for (_, id) in item.tasks.iter() {
            if let Some(hold) = self.counts.get_mut(id) {
                hold.items += 1;
            }
        }
    }

    pub fn free(&mut self, item: &Item) {
        for (_, id) in item.tasks.iter() {
            let Some(hold) = self.counts.get_mut(id) else { continue };
            hold.items -= 1;
            if hold.items == 0 {
                if !hold.is_dropped {
                    self.changes.push((*id, false));
                }
                self.counts.remove(id);
            }
        }
    }

    /// Whether items keep the task.
    pub fn has(&self, id: TaskId) -> bool {
        self.counts.get(&id).is_some_and(|hold| !hold.is_dropped)
    }

    /// The task is dropped for everybody. Returns whether it was kept until now.
    pub fn forget(&mut self, id: TaskId) -> bool {
        let hold = self.counts.get_mut(&id);
        hold.is_some_and(|hold| !std::mem::replace(&mut hold.is_dropped, true))
    }

    pub fn take_changes(&mut self) -> Vec<(TaskId, bool)> {
        std::mem::take(&mut self.changes)
    }

    /// The tasks that items keep.
    pub fn kept(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.counts.iter().filter(|(_, hold)| !hold.is_dropped).map(|(id, _)| *id)
    }

    /// Per task, how many items name it.
    pub fn counts(&self) -> BTreeMap<TaskId, u32> {
        self.counts.iter().map(|(id, hold)| (*id, hold.items)).collect()
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Desk {
    pub claims: BTreeMap<Asker, Claim>,
    deadlines: BTreeSet<(Nanos, Asker)>,
    last_turn: Turn,
    answers: Vec<(Asker, Answer)>,
    /// Items that were given to these askers, as an answer that is still to be written.
    given: Vec<(Asker, Vec<Option<Item>>)>,
    pub holds: Holds,
}

impl Desk {
    pub fn answer(&mut self, asker: Asker, value: Value) {
        self.answers.push((asker, Answer::ok(value)));
    }

    pub fn fail(&mut self, asker: Asker, kind: &str, message: String) {
        self.answers.push((asker, Answer::failed(kind, message)));
    }

    /// The request waits from now on. The caller keeps its turn.
    pub fn wait(&mut self, asker: Asker, place: Place, patience: Patience) -> Turn {
        self.last_turn += 1;
        let turn = self.last_turn;
        let until = match patience {
            Patience::Until(until) => Some(until),
            Patience::None | Patience::Endless => None,
        };
        if let Some(until) = until {
            self.deadlines.insert((until, asker));
        }
        self.claims.insert(asker, Claim::Waiting { place, turn, until });
        turn
    }

    /// The request waits no more. Returns its place and turn if it did.
    pub fn stop_waiting(&mut self, asker: Asker) -> Option<(Place, Turn)> {
        if !matches!(self.claims.get(&asker), Some(Claim::Waiting { .. })) {
            return None;
        }
        let Some(Claim::Waiting { place, turn, until }) = self.claims.remove(&asker) else {
            return None;
        };
        if let Some(until) = until {
            self.deadlines.remove(&(until, asker));
        }
        Some((place, turn))
    }

    /// The request gets what it asked for, and keeps it until it is settled.
    pub fn grant(&mut self, asker: Asker, claim: Claim) {
        self.stop_waiting(asker);
        self.claims.insert(asker, claim);
        self.answer(asker, Value::Bool(true));
    }

    /// Hands items over. They are kept until the client has them if they came from a queue, or if
    /// there are futures in them. The caller has counted them in [`Holds`].
    pub fn give(&mut self, asker: Asker, items: Vec<Option<Item>>, queue: Option<Key>) {
        self.stop_waiting(asker);
        self.given.push((asker, items.clone()));
        let items: Vec<Item> = items.into_iter().flatten().collect();
        let is_kept = !items.is_empty()
            && (queue.is_some() || items.iter().any(|item| !item.tasks.is_empty()));
        if is_kept {
            self.claims.insert(asker, Claim::Given { items, queue });
        } else {
            items.iter().for_each(|item| self.holds.free(item));
        }
    }

    pub fn take_answers(&mut self) -> Vec<(Asker, Answer)> {
        let has_task = |holds: &Holds, (key, id): &(Key, TaskId)| {
            (Value::Key(key.clone()), Value::Bool(holds.has(*id)))
        };
        for (asker, items) in std::mem::take(&mut self.given) {
            let entry = |item: Option<Item>| {
                let Some(item) = item else { return Value::Null };
                let tasks = item.tasks.iter().map(|task| has_task(&self.holds, task));
                let (keys, known) = tasks.unzip();
                Value::List(vec![Value::Bytes(item.payload), Value::List(keys), Value::List(known)])
            };
            let answer = Answer::ok(Value::List(items.into_iter().map(entry).collect()));
            self.answers.push((asker, answer));
        }
        std::mem::take(&mut self.answers)
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// A request whose time is over.
    pub fn next_overdue(&self, now: Nanos) -> Option<Asker> {
        self.deadlines.first().filter(|(until, _)| *until <= now).map(|(_, asker)| *asker)
    }

    /// Everything that a client waits for or was given, in the order of its requests.
    pub fn claims_of(&self, client: ClientId) -> Vec<Asker> {
        let first = Asker { client, request: 0 };
        let last = Asker { client, request: u64::MAX };
        self.claims.range(first..=last).map(|(asker, _)| *asker).collect()
    }

    pub fn deadlines(&self) -> &BTreeSet<(Nanos, Asker)> {
        &self.deadlines
    }
}
