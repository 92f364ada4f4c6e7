//! Bringing results to the client: small ones are there, large ones are fetched directly from
//! the workers that hold them, grouped per worker, in parallel.

use super::Client;
use super::entry::{Cancellation, Held, Outcome};
use super::wait::Wait;
use crate::data::{FetchError, FetchOutcome, Fetched};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use taskloom_proto::{ErrorInfo, SmallBytes};
use taskloom_types::{Key, TaskId, WorkerNo};

/// What became of one of the futures.
#[derive(Debug, Clone)]
pub enum Gathered {
    /// The encoded value's segments.
    Value(Vec<Bytes>),
    /// The encoded value, which came with the news that it is there.
    Inline(SmallBytes),
    Erred(Arc<ErrorInfo>),
    Cancelled(Arc<Cancellation>),
    Refused(Arc<str>),
}

impl Gathered {
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Value(_) | Self::Inline(_))
    }
}

#[derive(Debug, Default)]
enum Slot {
    /// Not looked at yet, or to be looked at again.
    #[default]
    Open,
    Fetching,
    Done(Gathered),
}

/// Results on their way. Driven by its caller: [`Gather::advance`], wait, again.
pub struct Gather {
    client: Arc<Client>,
    items: Vec<Held>,
    slots: Mutex<Vec<Slot>>,
    /// How often in a row the worker that holds a result could not be reached, by position.
    unreached: Mutex<HashMap<usize, u32>>,
    stop_on_failure: bool,
}

/// How often in a row a result is asked for at workers that cannot be reached: twice as often as
/// it takes until the scheduler has it made again.
const TRIES: u32 = 16;
/// The pause between the first tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a worker is asked for: positions in the gather and the tasks' numbers.
type Group = Vec<(usize, TaskId)>;

impl Gather {
    /// `stop_on_failure`: the first failure ends it, whatever else is on its way.
    #[must_use]
    pub fn new(client: &Arc<Client>, items: Vec<Held>, stop_on_failure: bool) -> Arc<Self> {
        let slots = items.iter().map(|_| Slot::Open).collect();
        let (client, slots, unreached) = (client.clone(), Mutex::new(slots), Mutex::default());
        Arc::new(Self { client, items, slots, unreached, stop_on_failure })
    }

    /// Takes what is there and asks for what is not. Returns whether all is there; if not,
    /// `make_wait` is given the number of completions after which to call this again.
    pub fn advance(self: &Arc<Self>, make_wait: impl FnOnce(usize) -> Arc<Wait>) -> bool {
        let mut groups: HashMap<WorkerNo, Group> = HashMap::new();
        let mut pending = Vec::new();
        let mut fetching = 0;
        {
            let mut slots = self.slots.lock();
            for (position, slot) in slots.iter_mut().enumerate() {
                match slot {
                    Slot::Open => self.look_at(position, slot, &mut pending, &mut groups),
                    Slot::Fetching => fetching += 1,
                    Slot::Done(_) => {}
                }
                let failed = matches!(slot, Slot::Done(done) if done.is_failure());
                if failed && self.stop_on_failure {
                    return true;
                }
            }
        }
        debug_assert_eq!(fetching, 0, "advance is called when the last round is over");
        if pending.is_empty() && groups.is_empty() {
            return true;
        }
        let wait = make_wait(pending.len() + groups.len());
        for position in pending {
            self.items[position].entry().wait_with(&wait);
        }
        for (worker, group) in groups {
            self.fetch(worker, group, wait.clone());
        }
        false
    }

    /// Results that are to be fetched: position, task, and the address of a worker that holds it.
    #[must_use]
    pub fn places(&self) -> Vec<(usize, TaskId, Arc<str>)> {
        let slots = self.slots.lock();
        let open = slots.iter().enumerate().filter(|(_, slot)| matches!(slot, Slot::Open));
        let place = |(position, _): (usize, &Slot)| match self.items[position].entry().outcome() {
            Outcome::Remote { task, worker, .. } => {
                Some((position, task, self.client.peer_address(worker)?))
            }
            _ => None,
        };
        open.filter_map(place).collect()
    }

    /// The caller has this result by other means: it is not fetched.
    pub fn settle(&self, position: usize) {
        if let Some(slot) = self.slots.lock().get_mut(position) {
            *slot = Slot::Done(Gathered::Value(Vec::new()));
        }
    }

    /// Removes the wait of an unfinished round: its caller has given up.
    pub fn stop_waiting(&self, wait: &Arc<Wait>) {
        self.items.iter().for_each(|held| held.entry().stop_waiting(wait));
    }

    fn look_at(
        &self,
        position: usize,
        slot: &mut Slot,
        pending: &mut Vec<usize>,
        groups: &mut HashMap<WorkerNo, Group>,
    ) {
        *slot = match self.items[position].entry().outcome() {
            Outcome::Pending => {
                pending.push(position);
                Slot::Open
            }
            Outcome::Remote { task, worker, .. } => {
                groups.entry(worker).or_default().push((position, task));
                Slot::Fetching
            }
            Outcome::Inline(value) => Slot::Done(Gathered::Inline(value)),
            Outcome::Erred(error) => Slot::Done(Gathered::Erred(error)),
            Outcome::Cancelled(why) => Slot::Done(Gathered::Cancelled(why)),
            Outcome::Refused(text) => Slot::Done(Gathered::Refused(text)),
        };
    }

    fn fetch(self: &Arc<Self>, worker: WorkerNo, group: Group, wait: Arc<Wait>) {
        let Some(address) = self.client.peer_address(worker) else {
            self.take(worker, &group, Err(FetchError::Closed));
            return wait.count_down(false);
        };
        let tasks = group.iter().map(|(_, task)| *task).collect();
        let gather = self.clone();
        let on_reply = Box::new(move |reply| {
            let failed = gather.take(worker, &group, reply);
            wait.count_down(failed);
        });
        self.client.data.fetch(&address, tasks, on_reply);
    }

    /// Stores a worker's answer. Returns whether something failed for good.
    fn take(
        self: &Arc<Self>,
        worker: WorkerNo,
        group: &Group,
        reply: Result<Vec<Fetched>, FetchError>,
    ) -> bool {
        if let Err(error @ (FetchError::Unreachable(_) | FetchError::Lost { .. })) = &reply {
            return self.try_again_later(worker, group, error);
        }
        let mut missing = Vec::new();
        let mut failed = false;
        {
            let mut outcomes = reply.unwrap_or_default().into_iter();
            let mut slots = self.slots.lock();
            for (position, task) in group {
                slots[*position] = match outcomes.next().map(|fetched| fetched.outcome) {
                    Some(FetchOutcome::Value(segments)) => Slot::Done(Gathered::Value(segments)),
                    Some(FetchOutcome::Failed(error)) => {
                        failed = true;
                        Slot::Done(Gathered::Erred(Arc::new(error)))
                    }
                    Some(FetchOutcome::Missing) | None => {
                        missing.push((*position, *task));
                        Slot::Open
                    }
                };
            }
        }
        for (position, task) in missing {
            self.client.fetch_failed(self.items[position].entry(), task, worker);
        }
        failed
    }

    /// A worker could not be reached. The scheduler hears of it, and says where else the results are
    /// or has them made again; who can be reached nowhere ends with an error. Returns whether
    /// something failed for good.
    fn try_again_later(
        self: &Arc<Self>,
        worker: WorkerNo,
        group: &Group,
        error: &FetchError,
    ) -> bool {
        let mut failed = false;
        for (position, task) in group {
            let entry = self.items[*position].entry();
            let tries = {
                let mut unreached = self.unreached.lock();
                let tries = unreached.entry(*position).or_default();
                *tries += 1;
                *tries
            };
            let is_last = tries >= TRIES;
            failed |= is_last;
            let slot = if is_last {
                let error = unreachable_error(&entry.key, tries, error);
                Slot::Done(Gathered::Erred(Arc::new(error)))
            } else {
                Slot::Open
            };
            if let Some(place) = self.slots.lock().get_mut(*position) {
                *place = slot;
            }
            self.client.disbelieve(entry, *task, worker);
            self.report_later(*position, *task, worker, tries);
        }
        failed
    }

    /// The first time at once: most often the worker is gone, and the result is elsewhere.
    fn report_later(self: &Arc<Self>, position: usize, task: TaskId, worker: WorkerNo, tries: u32) {
        let me = self.clone();
        let report = move || {
            me.client.report_failed_fetch(me.items[position].entry(), task, worker);
        };
        match tries {
            0 | 1 => report(),
            _ => {
                let pause = FIRST_PAUSE.saturating_mul(1 << (tries - 2).min(16));
                self.client.timers.after(pause.min(LONGEST_PAUSE), Box::new(report));
            }
        }
    }

    #[must_use]
    pub fn items(&self) -> &[Held] {
        &self.items
    }

    /// The results, in the order of the futures; `None` where it was stopped before. Once.
    #[must_use]
    pub fn take_results(&self) -> Vec<Option<Gathered>> {
        let slots = std::mem::take(&mut *self.slots.lock());
        let results = slots.into_iter().map(|slot| match slot {
            Slot::Done(gathered) => Some(gathered),
            Slot::Open | Slot::Fetching => None,
        });
        results.collect()
    }
}

fn unreachable_error(key: &Key, tries: u32, error: &FetchError) -> ErrorInfo {
    ErrorInfo {
        type_name: "WorkerUnreachableError".into(),
        message: format!(
            "the result of {key} is on a worker that cannot be reached from here, {tries} times in \
             a row: {error}. The result is still there for tasks that need it. Look whether a \
             network or a firewall stands between"
        ),
        origin: Some(key.clone()),
        ..ErrorInfo::default()
    }
}
