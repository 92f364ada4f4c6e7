//! The arena of tasks, and the table of their states.

use super::{Map, WorkerSlot};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use taskloom_proto::{Body, ErrorInfo, SmallBytes};
use taskloom_types::{Attempt, ClientId, FunctionNo, Handle, Key, Priority, TaskId};

/// Where a task is. The names are `dask.distributed`'s; `forgotten` is a freed slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Known, but nobody needs its result now: kept to make lost results again.
    Released,
    /// Needed, and at least one input is not there yet (or it waits for the verdict on a crash).
    Waiting,
    /// Runnable, waiting in the scheduler for a worker with room.
    Queued,
    /// Runnable, but no connected worker may run it.
    NoWorker,
    /// Sent to a worker. Its inputs may still be on their way there ("run-ahead").
    Processing,
    /// Its result is on workers, or inline in the scheduler.
    Memory,
    /// It failed, or something that it needs did.
    Erred,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Released,
        Self::Waiting,
        Self::Queued,
        Self::NoWorker,
        Self::Processing,
        Self::Memory,
        Self::Erred,
    ];

    /// Dask's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::NoWorker => "no-worker",
            Self::Processing => "processing",
            Self::Memory => "memory",
            Self::Erred => "erred",
        }
    }

    /// Whether the task is on its way to a result, and so needs its inputs.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Queued | Self::NoWorker | Self::Processing)
    }
}

/// Every transition there is: from, to, and when it happens. Forgetting frees the slot.
pub const TRANSITIONS: &[(State, State, &str)] = {
    use State::{Erred, Memory, NoWorker, Processing, Queued, Released, Waiting};
    &[
        (Released, Waiting, "somebody needs the result"),
        (Waiting, Queued, "all inputs are there"),
        (Waiting, NoWorker, "all inputs are there, but no worker may run it"),
        (Waiting, Processing, "run-ahead: all inputs will be on one worker"),
        (Waiting, Memory, "scattered data arrived"),
        (Waiting, Erred, "an input failed, or the run killed too many workers"),
        (Waiting, Released, "nobody needs it any more"),
        (Queued, Processing, "a worker has room"),
        (Queued, NoWorker, "the last worker that may run it left"),
        (Queued, Waiting, "an input was lost"),
        (Queued, Erred, "an input failed"),
        (Queued, Released, "nobody needs it any more"),
        (NoWorker, Queued, "a worker that may run it joined"),
        (NoWorker, Waiting, "an input was lost"),
        (NoWorker, Erred, "no worker came in time, or an input failed"),
        (NoWorker, Released, "nobody needs it any more"),
        (Processing, Memory, "it finished"),
        (Processing, Erred, "it failed, or an input did"),
        (Processing, Waiting, "its worker was lost or gave it back, or it is to be tried again"),
        (Processing, Released, "nobody needs it any more"),
        (Memory, Released, "nobody needs the result, or it was lost"),
        (Erred, Released, "it is to be tried again"),
    ]
};

/// Per from-state, a bit for each allowed to-state.
const LEGAL: [u8; 7] = {
    let mut legal = [0u8; 7];
    let mut i = 0;
    while i < TRANSITIONS.len() {
        legal[TRANSITIONS[i].0 as usize] |= 1 << TRANSITIONS[i].1 as u8;
        i += 1;
    }
    legal
};

#[must_use]
pub fn is_legal(from: State, to: State) -> bool {
    LEGAL[from as usize] & (1 << to as u8) != 0
}

/// A client's interest in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub client: ClientId,
    pub handle: Handle,
}

/// What a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that can be made again.
    Call,
    /// Scattered data: once lost, lost.
    Data,
    /// A key that a client asked for before anybody submitted it.
    Unknown,
    /// A call that came without its inputs or its function: it can only fail.
    Broken,
}

/// Of [`TaskRecord::marks`].
pub mod mark {
    /// Kept until it is done although nobody holds it (`fire_and_forget`).
    pub const DETACHED: u16 = 1;
    /// It left its slot on the worker (`secede`).
    pub const SECEDED: u16 = 2;
    /// Its worker died; the supervisor's report will say whether it ran.
    pub const LIMBO: u16 = 4;
    /// Workers wait to hear where its new result is.
    pub const REFETCH: u16 = 8;
    /// It runs alone on its worker since it may have killed another.
    pub const CANARY: u16 = 16;
    /// A retraction is under way.
    pub const RETRACTING: u16 = 32;
    /// Another task took over its key; it stays as lineage only.
    pub const SHADOWED: u16 = 64;
    /// Its worker did not give it back: it has started there.
    pub const KEPT: u16 = 128;
    /// It failed and is tried again after a pause.
    pub const DELAYED: u16 = 256;
    /// It runs where an input is that cannot be sent.
    pub const TIED: u16 = 512;
    /// Who claimed it knew its key only: the first who knows its work says which that is.
    pub const ANY_WORK: u16 = 1024;
    /// It does not run although all its inputs are there.
    pub const HELD_BACK: u16 = LIMBO | DELAYED;
}

/// All that the scheduler knows of a task.
#[derive(Debug)]
pub struct TaskRecord {
    pub key: Key,
    pub generation: u32,
    pub live: bool,
    pub state: State,
    pub kind: Kind,
    pub marks: u16,
    /// Of [`taskloom_proto::client::TaskSpec::COROUTINE`] and its like.
    pub flags: u8,
    /// Workers that died under it.
    pub suspicions: u8,
    /// How often its last holders could not give its result.
    pub doubts: u8,
    pub attempt: Attempt,
    pub priority: Priority,
    pub prefix: u32,
    pub class: u32,
    pub retries_left: u32,
    /// Its rarely used options in the table of policies; 0: none.
    pub policy: u32,
    pub spec_hash: u64,
    pub functions: SmallVec<[FunctionNo; 2]>,
    pub body: Body,
    pub deps: SmallVec<[u32; 2]>,
    /// May hold stale ids: `live_dependents` is the truth, [`TaskTable::get`] the check.
    pub dependents: SmallVec<[TaskId; 2]>,
    pub live_dependents: u32,
    /// Inputs that are not in memory; meaningful while the state is active.
    pub waiting_on: u32,
    /// Dependents in an active state, and those in memory whose results name this one: they need
    /// it.
    pub waiters: u32,
    pub wants: SmallVec<[Want; 1]>,
    /// Open submissions and other reasons to keep it.
    pub holds: u32,
    /// The worker that processes it.
    pub worker: WorkerSlot,
    /// Its place in the worker's list of processing tasks.
    pub processing_at: u32,
    /// What its run is expected to take, as added to the worker's occupancy.
    pub expected_ns: u64,
    /// Names the one valid entry of a queue.
    pub queue_stamp: u32,
    /// The worker in whose own queue it is.
    pub queued_on: WorkerSlot,
    pub replicas: SmallVec<[WorkerSlot; 2]>,
    pub size_bytes: u64,
    pub value: Option<SmallBytes>,
    pub error: Option<Arc<ErrorInfo>>,
}

impl TaskRecord {
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.waiters > 0 || !self.wants.is_empty() || self.holds > 0
    }

    /// Whether it is kept although it is not needed: a small value that nothing can make again, and
    /// of which results were made that may have to be.
    #[must_use]
    pub fn outlives_its_needs(&self) -> bool {
        self.kind == Kind::Data && self.value.is_some() && self.live_dependents > 0
    }

    #[must_use]
    pub fn has(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    /// Whether it is the work of this hash. Where nobody has said yet which it is, it is from now on.
    pub fn is_or_becomes(&mut self, spec_hash: u64) -> bool {
        if self.has(mark::ANY_WORK) && spec_hash != 0 {
            self.marks &= !mark::ANY_WORK;
            self.spec_hash = spec_hash;
        }
        self.spec_hash == spec_hash
    }

    fn empty(generation: u32) -> Self {
        Self {
            key: Key::default(),
            generation,
            live: false,
            state: State::Released,
            kind: Kind::Call,
            marks: 0,
            flags: 0,
            suspicions: 0,
            doubts: 0,
            attempt: 0,
            priority: Priority::default(),
            prefix: 0,
            class: 0,
            retries_left: 0,
            policy: 0,
            spec_hash: 0,
            functions: SmallVec::new(),
            body: Body::new(),
            deps: SmallVec::new(),
            dependents: SmallVec::new(),
            live_dependents: 0,
            waiting_on: 0,
            waiters: 0,
            wants: SmallVec::new(),
            holds: 0,
            worker: WorkerSlot::NONE,
            processing_at: 0,
            expected_ns: 0,
            queue_stamp: 0,
            queued_on: WorkerSlot::NONE,
            replicas: SmallVec::new(),
            size_bytes: 0,
            value: None,
            error: None,
        }
    }
}

/// An array that grows by pieces: growing moves nothing and wastes at most one piece, where one
/// `Vec` would copy every record and leave up to half of its memory unused.
#[derive(Debug, Default)]
struct Slots {
    pieces: Vec<Vec<TaskRecord>>,
    len: usize,
}

impl Slots {
    const PIECE: usize = 1024;

    fn push(&mut self, record: TaskRecord) {
        if self.len.is_multiple_of(Self::PIECE) {
            self.pieces.push(Vec::with_capacity(Self::PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(record);
            self.len += 1;
        }
    }

    fn get(&self, index: usize) -> Option<&TaskRecord> {
        self.pieces.get(index / Self::PIECE)?.get(index % Self::PIECE)
    }
}

impl std::ops::Index<usize> for Slots {
    type Output = TaskRecord;
    fn index(&self, index: usize) -> &TaskRecord {
        &self.pieces[index / Self::PIECE][index % Self::PIECE]
    }
}

impl std::ops::IndexMut<usize> for Slots {
    fn index_mut(&mut self, index: usize) -> &mut TaskRecord {
        &mut self.pieces[index / Self::PIECE][index % Self::PIECE]
    }
}

/// The tasks, by arena index and by key.
#[derive(Debug, Default)]
pub struct TaskTable {
    slots: Slots,
    free: Vec<u32>,
    /// Of a slot's first task.
    generation: u32,
    by_key: HashTable<u32>,
    hasher: FixedState,
}

impl TaskTable {
    /// A table whose ids begin at this generation.
    #[must_use]
    pub fn from_generation(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len - self.free.len()
    }

    pub fn reserve(&mut self, more: usize) {
        let Self { by_key, slots, hasher, .. } = self;
        by_key.reserve(more, |index| {
            let mut state = hasher.build_hasher();
            state.write(slots[*index as usize].key.as_bytes());
            state.finish()
        });
    }

    #[must_use]
    pub fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hash(key);
        self.by_key.find(hash, |index| self.slots[*index as usize].key == *key).copied()
    }

    /// Adds a task in state `Released`. The key must not be in use.
    pub fn insert(&mut self, key: Key) -> u32 {
        let hash = self.hash(&key);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(TaskRecord::empty(self.generation));
            (self.slots.len - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.live = true;
        slot.key = key;
        let Self { by_key, slots, hasher, .. } = self;
        by_key.insert_unique(hash, index, |index| {
            let mut state = hasher.build_hasher();
            state.write(slots[*index as usize].key.as_bytes());
            state.finish()
        });
        index
    }

    /// Takes the key from a task, which lives on without a name.
    pub fn unname(&mut self, index: u32) {
        let hash = self.hash(&self.slots[index as usize].key);
        if let Ok(entry) = self.by_key.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }

    /// Frees a slot. Ids of the task are stale from now on.
    pub fn remove(&mut self, index: u32) {
        if !self[index].has(mark::SHADOWED) {
            self.unname(index);
        }
        let slot = &mut self.slots[index as usize];
        *slot = TaskRecord::empty(slot.generation.wrapping_add(1));
        self.free.push(index);
    }

    #[must_use]
    pub fn id(&self, index: u32) -> TaskId {
        TaskId { index, generation: self.slots[index as usize].generation }
    }

    /// The arena index of an id that still names a task.
    #[must_use]
    pub fn get(&self, id: TaskId) -> Option<u32> {
        let slot = self.slots.get(id.index as usize)?;
        (slot.live && slot.generation == id.generation).then_some(id.index)
    }

    #[must_use]
    pub fn is_live(&self, index: u32) -> bool {
        self.slots[index as usize].live
    }

    /// The indices of all tasks, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots.len as u32).filter(|index| self.slots[*index as usize].live)
    }
}

impl std::ops::Index<u32> for TaskTable {
    type Output = TaskRecord;
    fn index(&self, index: u32) -> &TaskRecord {
        &self.slots[index as usize]
    }
}

impl std::ops::IndexMut<u32> for TaskTable {
    fn index_mut(&mut self, index: u32) -> &mut TaskRecord {
        &mut self.slots[index as usize]
    }
}

/// What is known of tasks with one key prefix: how long they take, how large they get.
#[derive(Debug, Default)]
pub struct PrefixRecord {
    pub name: String,
    pub tasks: u32,
    /// Moving average of run times in ns; 0 until the first is done.
    pub duration_ns: u64,
    /// Moving average of result sizes in bytes.
    pub size_bytes: u64,
}

impl PrefixRecord {
    /// Moving average with weight 1/2, as Dask's; it starts anew when a run takes over twice as
    /// long, since the old runs then say little.
    pub fn record(&mut self, duration_ns: u64, size_bytes: u64) {
        let duration_ns = duration_ns.max(1_000);
        let known = self.duration_ns;
        self.duration_ns = if known == 0 || duration_ns > 2 * known {
            duration_ns
        } else {
            (known + duration_ns).div_ceil(2)
        };
        self.size_bytes = (self.size_bytes + size_bytes) / 2;
    }
}

/// Prefixes by name, with a bound on those that no task uses.
#[derive(Debug, Default)]
pub struct PrefixTable {
    records: Vec<PrefixRecord>,
    by_name: Map<String, u32>,
    free: Vec<u32>,
}

impl PrefixTable {
    /// Unused prefixes are kept for their averages, up to this many in all.
    const KEEP: usize = 4096;

    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let record = PrefixRecord { name: name.to_string(), ..PrefixRecord::default() };
        let index = if let Some(index) = self.free.pop() {
            self.records[index as usize] = record;
            index
        } else {
            self.records.push(record);
            (self.records.len() - 1) as u32
        };
        self.by_name.insert(name.to_string(), index);
        index
    }

    /// A task of this prefix is gone.
    pub fn release(&mut self, index: u32) {
        let record = &mut self.records[index as usize];
        record.tasks -= 1;
        if record.tasks == 0 && self.by_name.len() > Self::KEEP {
            self.by_name.remove(&record.name);
            self.free.push(index);
        }
    }
}

impl std::ops::Index<u32> for PrefixTable {
    type Output = PrefixRecord;
    fn index(&self, index: u32) -> &PrefixRecord {
        &self.records[index as usize]
    }
}

impl std::ops::IndexMut<u32> for PrefixTable {
    fn index_mut(&mut self, index: u32) -> &mut PrefixRecord {
        &mut self.records[index as usize]
    }
}
