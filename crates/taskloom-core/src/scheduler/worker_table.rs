//! What the scheduler knows of workers, and of the classes of tasks that they may run.

use super::memory::Unmanaged;
use super::queue::Queue;
use super::standing::Place;
use super::supervisors::Errand;
use super::{Map, Set};
use taskloom_proto::worker::{Heartbeat, RegisterWorker};
use taskloom_types::{Attempt, FunctionNo, Nanos, Resources, TaskId, WorkerNo};

/// A worker's place in the table; reused after it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerSlot(pub u32);

impl WorkerSlot {
    pub const NONE: Self = Self(u32::MAX);
}

/// A connected, registered worker.
#[derive(Debug)]
pub struct WorkerRecord {
    pub number: WorkerNo,
    pub info: RegisterWorker,
    /// What is left of `info.resources`.
    pub available: Resources,
    /// Resources of freed runs that may still be under way.
    pub ghosts: Vec<(TaskId, Attempt, Resources)>,
    pub last_seen: Nanos,
    /// When it last got work while idle, or reported an end.
    pub last_progress: Nanos,
    pub metrics: Heartbeat,
    pub unmanaged: Unmanaged,
    /// Tasks assigned to it, in no order.
    pub processing: Vec<u32>,
    /// Those of `processing` that take or will take a slot (not seceded).
    pub active: u32,
    /// Those of `active` that cannot start yet, since an input is still to be made.
    pub blocked: u32,
    /// Sum of what the active tasks are expected to take, in ns.
    pub occupancy_ns: u64,
    /// Tasks that would best run here; others may take them.
    pub queue: Queue,
    /// Tasks whose results it holds.
    pub held: Set<u32>,
    pub held_bytes: u64,
    /// Actors that live here, or are on their way here.
    pub actors: u32,
    pub functions: Set<FunctionNo>,
    /// Workers and their addresses that it has been told of.
    pub peers: Set<WorkerNo>,
    /// Classes of tasks that it may run, class 0 (no restrictions) first.
    pub classes: Vec<u32>,
    /// Gets no new tasks: reserved for a suspect, or about to leave.
    pub reserved: bool,
    pub leaving: bool,
    /// All workers end together: nobody takes over what lives there.
    pub ends_with_all: bool,
    /// Makes the calls that come before its first task.
    pub preparing: bool,
    /// Why it starts nothing, if its memory is short.
    pub paused: Option<String>,
    /// Something waits until it has more memory.
    pub holds_back: bool,
    /// What it was told to discard, and has not said that it did: until then nothing that it tells of
    /// these counts.
    pub discarding: Vec<TaskId>,
    /// Its connection is broken: it keeps what it has.
    pub away: bool,
    /// Whether its end was asked for: then nothing that ran there is to blame.
    pub end_expected: bool,
    /// What its supervisor was asked to do with its process.
    pub errand: Option<Errand>,
    /// Where it stands among those that look for work.
    pub place: Place,
    /// Whether it is in `Scheduler::victims`, and in `Scheduler::overfull`.
    pub is_victim: bool,
    pub is_overfull: bool,
    /// Where its last message of this turn is; see `Outbox`.
    pub last_action: usize,
}

impl WorkerRecord {
    pub fn new(number: WorkerNo, info: RegisterWorker, now: Nanos) -> Self {
        Self {
            number,
            available: info.resources.clone(),
            info,
            ghosts: Vec::new(),
            last_seen: now,
            last_progress: now,
            metrics: Heartbeat::default(),
            unmanaged: Unmanaged::default(),
            processing: Vec::new(),
            active: 0,
            blocked: 0,
            occupancy_ns: 0,
            queue: Queue::default(),
            held: Set::default(),
            held_bytes: 0,
            actors: 0,
            functions: Set::default(),
            peers: Set::default(),
            classes: Vec::new(),
            reserved: false,
            leaving: false,
            ends_with_all: false,
            preparing: false,
            paused: None,
            holds_back: false,
            discarding: Vec::new(),
            away: false,
            end_expected: false,
            errand: None,
            place: Place::default(),
            is_victim: false,
            is_overfull: false,
            last_action: usize::MAX,
        }
    }

    /// Expected time until a thread is free, in ns.
    pub fn wait_ns(&self) -> u64 {
        self.occupancy_ns / u64::from(self.info.nthreads.max(1))
    }

    /// Whether a thread has nothing to do.
    pub fn has_free_slot(&self) -> bool {
        self.active - self.blocked < self.info.nthreads && self.takes_work()
    }

    pub fn takes_work(&self) -> bool {
        let is_paused = self.paused.is_some() || self.away;
        !self.reserved && !self.leaving && !self.preparing && !is_paused
    }

    /// Whether results may be put there.
    pub fn takes_copies(&self) -> bool {
        !self.leaving && !self.away && self.paused.is_none()
    }

    /// Whether a user's word for a worker means this one.
    pub fn is_called(&self, word: &str) -> bool {
        word == self.info.address
            || word == self.info.name
            || word == self.info.host
            || host_of(&self.info.address) == word
    }
}

/// `tcp://10.0.0.1:8786` gives `10.0.0.1`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.rsplit_once(':').map_or(rest, |(host, _)| host)
}

/// The workers, by slot and by number.
#[derive(Debug, Default)]
pub struct WorkerTable {
    slots: Vec<Option<Box<WorkerRecord>>>,
    /// Slots of workers that left.
    free: Vec<u32>,
    by_number: Map<WorkerNo, WorkerSlot>,
    by_name: Map<String, WorkerSlot>,
}

impl WorkerTable {
    pub fn insert(&mut self, worker: WorkerRecord) -> WorkerSlot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let slot = WorkerSlot(index);
        self.by_number.insert(worker.number, slot);
        self.by_name.insert(worker.info.name.clone(), slot);
        self.slots[index as usize] = Some(Box::new(worker));
        slot
    }

    pub fn remove(&mut self, slot: WorkerSlot) -> Option<Box<WorkerRecord>> {
        let worker = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.by_number.remove(&worker.number);
        self.by_name.remove(&worker.info.name);
        self.free.push(slot.0);
        Some(worker)
    }

    pub fn slot(&self, number: WorkerNo) -> Option<WorkerSlot> {
        self.by_number.get(&number).copied()
    }

    /// The worker of this name; names are unique among those that are connected.
    pub fn named(&self, name: &str) -> Option<WorkerSlot> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, slot: WorkerSlot) -> Option<&WorkerRecord> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, slot: WorkerSlot) -> Option<&mut WorkerRecord> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    pub fn slots(&self) -> impl Iterator<Item = WorkerSlot> + '_ {
        let live = |(index, worker): (usize, &Option<Box<WorkerRecord>>)| {
            worker.as_ref().map(|_| WorkerSlot(index as u32))
        };
        self.slots.iter().enumerate().filter_map(live)
    }

    pub fn iter(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.slots.iter().filter_map(|worker| worker.as_deref())
    }

    /// Slots of the workers that these words mean; all when there are no words.
    pub fn called(&self, words: &[String]) -> Vec<WorkerSlot> {
        let is_meant = |slot: &WorkerSlot| {
            words.is_empty()
                || self.get(*slot).is_some_and(|w| words.iter().any(|word| w.is_called(word)))
        };
        self.slots().filter(is_meant).collect()
    }
}

impl std::ops::Index<WorkerSlot> for WorkerTable {
    type Output = WorkerRecord;
    /// Slots that tasks and queues name are those of connected workers: leaving clears them.
    fn index(&self, slot: WorkerSlot) -> &WorkerRecord {
        self.slots[slot.0 as usize].as_deref().expect("a slot in use names a connected worker")
    }
}

impl std::ops::IndexMut<WorkerSlot> for WorkerTable {
    fn index_mut(&mut self, slot: WorkerSlot) -> &mut WorkerRecord {
        self.slots[slot.0 as usize].as_deref_mut().expect("a slot in use names a connected worker")
    }
}

/// Tasks with equal restrictions and needs, and who may run them.
#[derive(Debug, Default)]
pub struct ClassRecord {
    pub workers: Vec<String>,
    pub allow_other_workers: bool,
    pub resources: Resources,
    /// Workers that may run these tasks, by slot.
    pub eligible: Vec<WorkerSlot>,
    /// Live tasks of this class.
    pub tasks: u32,
    pub queue: Queue,
}

impl ClassRecord {
    /// Whether who may run these tasks hangs on more than the worker itself: others serve when
    /// none of those that were named is there.
    pub fn has_fallback(&self) -> bool {
        self.allow_other_workers && !self.workers.is_empty()
    }

    /// Whether a worker is named, if any is, and offers the resources.
    pub fn suits(&self, worker: &WorkerRecord) -> bool {
        (self.workers.is_empty() || self.workers.iter().any(|word| worker.is_called(word)))
            && self.covers(worker)
    }

    pub fn covers(&self, worker: &WorkerRecord) -> bool {
        worker.info.resources.covers(&self.resources) && !worker.leaving
    }

    pub fn add_eligible(&mut self, slot: WorkerSlot) {
        if let Err(position) = self.eligible.binary_search(&slot) {
            self.eligible.insert(position, slot);
        }
    }

    pub fn remove_eligible(&mut self, slot: WorkerSlot) {
        if let Ok(position) = self.eligible.binary_search(&slot) {
            self.eligible.remove(position);
        }
    }

    /// The slots of `workers` that may run tasks of this class.
    pub fn find_eligible(&self, workers: &WorkerTable) -> Vec<WorkerSlot> {
        let covers = |slot: &WorkerSlot| self.covers(&workers[*slot]);
        let called: Vec<_> = workers.called(&self.workers).into_iter().filter(covers).collect();
        if called.is_empty() && self.allow_other_workers {
            return workers.slots().filter(covers).collect();
        }
        called
    }

    pub fn is_eligible(&self, slot: WorkerSlot) -> bool {
        self.eligible.binary_search(&slot).is_ok()
    }
}

/// What a class is known by: words for workers, whether others may serve, resources.
type ClassName = (Vec<String>, bool, Resources);

/// Classes by what they ask for. Class 0 asks for nothing.
#[derive(Debug)]
pub struct ClassTable {
    records: Vec<ClassRecord>,
    by_name: Map<ClassName, u32>,
    free: Vec<u32>,
}

impl Default for ClassTable {
    fn default() -> Self {
        let mut by_name = Map::default();
        by_name.insert(ClassName::default(), 0);
        Self { records: vec![ClassRecord::default()], by_name, free: Vec::new() }
    }
}

impl ClassTable {
    pub fn intern(
        &mut self,
        words: &[String],
        allow_other_workers: bool,
        resources: &Resources,
        workers: &WorkerTable,
    ) -> (u32, bool) {
        let name = (words.to_vec(), allow_other_workers && !words.is_empty(), resources.clone());
        if let Some(class) = self.by_name.get(&name) {
            return (*class, false);
        }
        let mut record = ClassRecord {
            workers: name.0.clone(),
            allow_other_workers: name.1,
            resources: name.2.clone(),
            ..ClassRecord::default()
        };
        record.eligible = record.find_eligible(workers);
        let class = if let Some(class) = self.free.pop() {
            self.records[class as usize] = record;
            class
        } else {
            self.records.push(record);
            (self.records.len() - 1) as u32
        };
        self.by_name.insert(name, class);
        (class, true)
    }

    /// A task of this class is gone. Returns those that might have run it when the class went
    /// with it.
    pub fn release(&mut self, class: u32) -> Option<Vec<WorkerSlot>> {
        let record = &mut self.records[class as usize];
        record.tasks -= 1;
        if record.tasks > 0 || class == 0 {
            return None;
        }
        let record = std::mem::take(record);
        self.by_name.remove(&(record.workers, record.allow_other_workers, record.resources));
        self.free.push(class);
        Some(record.eligible)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let free: Set<u32> = self.free.iter().copied().collect();
        (0..self.records.len() as u32).filter(move |class| !free.contains(class))
    }
}

impl std::ops::Index<u32> for ClassTable {
    type Output = ClassRecord;
    fn index(&self, class: u32) -> &ClassRecord {
        &self.records[class as usize]
    }
}

impl std::ops::IndexMut<u32> for ClassTable {
    fn index_mut(&mut self, class: u32) -> &mut ClassRecord {
        &mut self.records[class as usize]
    }
}

/// The supervisor's or the heartbeat's word for what a worker ran.
pub type Executing = Vec<(TaskId, Attempt)>;
