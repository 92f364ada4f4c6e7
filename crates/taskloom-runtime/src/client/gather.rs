//! Bringing results to the client: small ones are there, large ones are fetched directly from
//! the workers that hold them, grouped per worker, in parallel.

use super::Client;
use super::entry::{Cancellation, Held, Outcome};
use super::lines::{Lines, Piece, Wanted};
use super::signal::Signal;
use super::wait::Wait;
use crate::data::{FetchError, FetchOutcome, Fetched};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
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
    /// Not looked at yet, to be looked at again, or its task has not ended.
    #[default]
    Open,
    Fetching,
    Done(Gathered),
    /// Its value was given to the caller.
    Taken,
}

/// How far a gather has come.
#[derive(Debug, Default)]
struct Progress {
    slots: Vec<Slot>,
    /// Positions to look at.
    open: Vec<usize>,
    /// Positions of tasks that have not ended, under the wait that says when they have.
    pending: Vec<(Arc<Wait>, Vec<usize>)>,
    lines: Lines,
    /// Positions of values that have come and were not taken.
    arrived: Vec<usize>,
    has_failure: bool,
}

impl Progress {
    /// Tasks that have ended are to be looked at.
    fn open_ended(&mut self) {
        for (_, positions) in self.pending.extract_if(.., |(wait, _)| wait.is_done()) {
            self.open.extend(positions);
        }
    }

    fn set(&mut self, position: usize, slot: Slot) {
        match &slot {
            Slot::Open => self.open.push(position),
            Slot::Done(Gathered::Value(_)) => self.arrived.push(position),
            Slot::Done(gathered) => self.has_failure |= gathered.is_failure(),
            Slot::Fetching | Slot::Taken => {}
        }
        // After the end nobody takes what still comes.
        if let Some(place) = self.slots.get_mut(position) {
            *place = slot;
        }
    }
}

/// Results on their way. Driven by its caller: [`Gather::advance`], [`Gather::take_arrived`], wait,
/// again.
pub struct Gather {
    client: Arc<Client>,
    items: Vec<Held>,
    progress: Mutex<Progress>,
    /// Something has come, or may be looked at again.
    signal: Arc<Signal>,
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

impl Gather {
    /// `stop_on_failure`: the first failure ends it, whatever else is on its way.
    #[must_use]
    pub fn new(client: &Arc<Client>, items: Vec<Held>, stop_on_failure: bool) -> Arc<Self> {
        let progress = Progress {
            slots: items.iter().map(|_| Slot::Open).collect(),
            open: (0..items.len()).collect(),
            ..Progress::default()
        };
        Arc::new(Self {
            client: client.clone(),
            items,
            progress: Mutex::new(progress),
            signal: Arc::default(),
            unreached: Mutex::default(),
            stop_on_failure,
        })
    }

    /// Asks for what is not there. Returns whether it is over; if not, this is to be called again when
    /// the wait is done that `make_wait` returned, which is given the count of it.
    pub fn advance(self: &Arc<Self>, mut make_wait: impl FnMut(usize) -> Arc<Wait>) -> bool {
        loop {
            self.signal.clear();
            let pieces = {
                let mut progress = self.progress.lock();
                let pending = self.look(&mut progress);
                if self.stop_on_failure && progress.has_failure {
                    progress.open.extend(pending);
                    return true;
                }
                let only_tasks = progress.lines.are_empty() && progress.pending.is_empty();
                if only_tasks && pending.is_empty() {
                    return true;
                }
                if only_tasks {
                    self.watch(&mut progress, make_wait(pending.len()), pending);
                    return false;
                }
                if !pending.is_empty() {
                    let (count, stop) = (pending.len(), self.stop_on_failure);
                    let wait = Wait::with_signal(count, stop, self.signal.clone());
                    self.watch(&mut progress, wait, pending);
                }
                progress.lines.next()
            };
            for (worker, piece) in pieces {
                self.fetch(worker, piece);
            }
            if self.signal.arm(&mut make_wait) {
                return false;
            }
        }
    }

    /// Has the ends of tasks count for a wait.
    fn watch(&self, progress: &mut Progress, wait: Arc<Wait>, positions: Vec<usize>) {
        for position in &positions {
            self.items[*position].entry().wait_with(&wait);
        }
        progress.pending.push((wait, positions));
    }

    /// Looks at what is open: takes what is there, puts what is with workers into their lines.
    /// Returns the positions of tasks that have not ended.
    fn look(&self, progress: &mut Progress) -> Vec<usize> {
        progress.open_ended();
        let mut wanted: HashMap<WorkerNo, Vec<Wanted>> = HashMap::new();
        let mut pending = Vec::new();
        for position in std::mem::take(&mut progress.open) {
            let slot = match self.items[position].entry().outcome() {
                Outcome::Pending => {
                    pending.push(position);
                    continue;
                }
                Outcome::Remote { task, worker, size_bytes } => {
                    let one = Wanted { position, task, size_bytes };
                    wanted.entry(worker).or_default().push(one);
                    Slot::Fetching
                }
                Outcome::Inline(value) => Slot::Done(Gathered::Inline(value)),
                Outcome::Erred(error) => Slot::Done(Gathered::Erred(error)),
                Outcome::Cancelled(why) => Slot::Done(Gathered::Cancelled(why)),
                Outcome::Refused(text) => Slot::Done(Gathered::Refused(text)),
            };
            progress.set(position, slot);
        }
        for (worker, wanted) in wanted {
            progress.lines.add(worker, &wanted);
        }
        pending
    }

    /// Results that are to be fetched: position, task, and the address of a worker that holds it.
    #[must_use]
    pub fn places(&self) -> Vec<(usize, TaskId, Arc<str>)> {
        let mut progress = self.progress.lock();
        progress.open_ended();
        let place = |position: &usize| match self.items[*position].entry().outcome() {
            Outcome::Remote { task, worker, .. } => {
                Some((*position, task, self.client.peer_address(worker)?))
            }
            _ => None,
        };
        progress.open.iter().filter_map(place).collect()
    }

    /// The caller has these results by other means: they are not fetched.
    pub fn settle(&self, positions: &HashSet<usize>) {
        let mut progress = self.progress.lock();
        progress.open.retain(|position| !positions.contains(position));
        for position in positions {
            progress.set(*position, Slot::Taken);
        }
    }

    /// Values that have come since the last call, with their positions. Their short segments are parts
    /// of what came with them, and keep all of that: read them soon.
    #[must_use]
    pub fn take_arrived(&self) -> Vec<(usize, Vec<Bytes>)> {
        let mut progress = self.progress.lock();
        let arrived = std::mem::take(&mut progress.arrived);
        let take = |position: usize| match progress.slots.get_mut(position).map(std::mem::take) {
            Some(Slot::Done(Gathered::Value(segments))) => Some((position, segments)),
            _ => None,
        };
        arrived.into_iter().filter_map(take).collect()
    }

    /// The caller waits no more. It may go on with [`Gather::advance`] all the same.
    pub fn give_up(&self) {
        self.signal.disarm();
        let pending = std::mem::take(&mut self.progress.lock().pending);
        for (wait, positions) in pending {
            for position in &positions {
                self.items[*position].entry().stop_waiting(&wait);
            }
            self.progress.lock().open.extend(positions);
        }
    }

    fn fetch(self: &Arc<Self>, worker: WorkerNo, piece: Piece) {
        let Some(address) = self.client.peer_address(worker) else {
            return self.take(worker, &piece, Err(FetchError::Closed));
        };
        let tasks = piece.results.iter().map(|(_, task)| *task).collect();
        let gather = self.clone();
        let on_reply = Box::new(move |reply| gather.take(worker, &piece, reply));
        self.client.data.fetch_to_read(&address, tasks, on_reply);
    }

    /// Stores a worker's answer.
    fn take(
        self: &Arc<Self>,
        worker: WorkerNo,
        piece: &Piece,
        reply: Result<Vec<Fetched>, FetchError>,
    ) {
        if let Err(error @ (FetchError::Unreachable(_) | FetchError::Lost { .. })) = &reply {
            self.try_again_later(worker, piece, error);
        } else {
            self.store(worker, piece, reply.unwrap_or_default());
        }
        self.progress.lock().lines.end(worker, piece);
        self.signal.raise();
    }

    fn store(&self, worker: WorkerNo, piece: &Piece, fetched: Vec<Fetched>) {
        let mut missing = Vec::new();
        {
            let mut outcomes = fetched.into_iter();
            let mut progress = self.progress.lock();
            for &(position, task) in &piece.results {
                let slot = match outcomes.next().map(|fetched| fetched.outcome) {
                    Some(FetchOutcome::Value(segments)) => Slot::Done(Gathered::Value(segments)),
                    Some(FetchOutcome::Failed(error)) => {
                        Slot::Done(Gathered::Erred(Arc::new(error)))
                    }
                    Some(FetchOutcome::Missing) | None => {
                        missing.push((position, task));
                        continue;
                    }
                };
                progress.set(position, slot);
            }
        }
        for &(position, task) in &missing {
            self.client.fetch_failed(self.items[position].entry(), task, worker);
        }
        let mut progress = self.progress.lock();
        missing.into_iter().for_each(|(position, _)| progress.set(position, Slot::Open));
    }

    /// A worker could not be reached. The scheduler hears of it, and says where else the results are
    /// or has them made again; who can be reached nowhere ends with an error.
    fn try_again_later(self: &Arc<Self>, worker: WorkerNo, piece: &Piece, error: &FetchError) {
        for &(position, task) in &piece.results {
            let entry = self.items[position].entry();
            let tries = {
                let mut unreached = self.unreached.lock();
                let tries = unreached.entry(position).or_default();
                *tries += 1;
                *tries
            };
            let slot = if tries >= TRIES {
                let error = unreachable_error(&entry.key, tries, error);
                Slot::Done(Gathered::Erred(Arc::new(error)))
            } else {
                Slot::Open
            };
            self.client.disbelieve(entry, task, worker);
            self.progress.lock().set(position, slot);
            self.report_later(position, task, worker, tries);
        }
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

    /// The results that [`Gather::take_arrived`] did not give, in the order of the futures; `None` for
    /// those, and where it was stopped before. Once.
    #[must_use]
    pub fn take_results(&self) -> Vec<Option<Gathered>> {
        let slots = std::mem::take(&mut self.progress.lock().slots);
        let results = slots.into_iter().map(|slot| match slot {
            Slot::Done(gathered) => Some(gathered),
            Slot::Open | Slot::Fetching | Slot::Taken => None,
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
