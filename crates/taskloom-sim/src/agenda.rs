//! What is going to happen, and when.
//!
//! Each thing that happens has a key, from which all chance in it is drawn. The key of a
//! consequence comes from the key of its cause: so what is left out of a run changes only what
//! follows from it, and a failing run can be made smaller piece by piece.

use crate::memory::DiskTransfer;
use crate::rng::mix;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use taskloom_core::scheduler::Event;
use taskloom_core::worker::{Interrupt, Ticket};
use taskloom_proto::client::SchedulerToClient;
use taskloom_proto::supervisor::SchedulerToSupervisor;
use taskloom_proto::worker::{SchedulerToWorker, WorkerToScheduler};
use taskloom_types::{Attempt, ClientId, Handle, Nanos, TaskId, WorkerNo};

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Happening {
    ToScheduler(Event),
    ToWorker(WorkerNo, SchedulerToWorker),
    ToClient(ClientId, SchedulerToClient),
    ToSupervisor(SchedulerToSupervisor),
    ThreadHalf(WorkerNo, TaskId, Attempt),
    ThreadBack(WorkerNo, TaskId, Attempt),
    ThreadDone(WorkerNo, TaskId, Attempt),
    Interrupted(WorkerNo, TaskId, Attempt, Interrupt),
    PeerAnswers {
        asker: WorkerNo,
        peer: WorkerNo,
        tasks: Vec<TaskId>,
    },
    /// The peer has not answered for too long.
    PeerTimesOut {
        asker: WorkerNo,
        peer: WorkerNo,
    },
    /// What the peer sent arrives.
    PeerGives {
        asker: WorkerNo,
        peer: WorkerNo,
        items: Vec<(TaskId, Option<u64>)>,
    },
    ClientFetches {
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    },
    /// The worker has not answered for too long.
    ClientFetchFails {
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    },
    ClientPuts {
        client: ClientId,
        handle: Handle,
        task: TaskId,
        worker: WorkerNo,
    },
    /// A client sees, by its session, that the scheduler was started again.
    ClientNotices(ClientId),
    /// What a client wanted to do later, by its number.
    ClientCalledBack(ClientId, u64),
    /// A step of the plan comes, by its number.
    Planned(usize),
    WorkerTick(WorkerNo),
    /// A worker sends what it has gathered.
    WorkerFlushes(WorkerNo),
    Heartbeat(WorkerNo),
    /// A worker sees that its connection is closed.
    WorkerNotices(WorkerNo),
    WorkerStarts(u64),
    /// A worker's process looks how large it is: what it holds, and so many bytes more.
    Measures(u64, u64),
    DiskEnds(WorkerNo, TaskId, Ticket, DiskTransfer),
    Poll,
}

impl Happening {
    /// Whether it goes on for ever without anything coming of it.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Heartbeat(_) | Self::Poll => true,
            Self::ToScheduler(event) => Self::is_heartbeat(event),
            _ => false,
        }
    }

    pub fn is_heartbeat(event: &Event) -> bool {
        matches!(event, Event::WorkerMessage { message: WorkerToScheduler::Heartbeat(_), .. })
    }

    /// The workers without which it cannot happen now.
    pub fn workers(&self) -> [Option<WorkerNo>; 2] {
        match self {
            Self::ToWorker(worker, _)
            | Self::ThreadHalf(worker, ..)
            | Self::ThreadBack(worker, ..)
            | Self::ThreadDone(worker, ..)
            | Self::Interrupted(worker, ..)
            | Self::ClientFetches { worker, .. }
            | Self::ClientPuts { worker, .. }
            | Self::WorkerTick(worker)
            | Self::DiskEnds(worker, ..)
            | Self::WorkerFlushes(worker)
            | Self::Heartbeat(worker)
            | Self::WorkerNotices(worker) => [Some(*worker), None],
            Self::PeerAnswers { asker, peer, .. } => [Some(*asker), Some(*peer)],
            Self::PeerTimesOut { asker, .. } | Self::PeerGives { asker, .. } => {
                [Some(*asker), None]
            }
            _ => [None, None],
        }
    }
}

/// In the heap by time, then by when it was first put there.
#[derive(Debug)]
struct Entry {
    at: Nanos,
    planned: Planned,
}

/// Something on the agenda. What is put off keeps its number, and so its place among others.
#[derive(Debug)]
pub struct Planned {
    serial: u64,
    pub key: u64,
    pub happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.planned.serial) == (other.at, other.planned.serial)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.planned.serial).cmp(&(other.at, other.planned.serial))
    }
}

/// Time, and what is planned.
#[derive(Debug)]
pub struct Agenda {
    pub now: Nanos,
    serial: u64,
    /// The key of what happens now, and how many consequences it has had so far.
    cause: (u64, u64),
    heap: BinaryHeap<Reverse<Entry>>,
    /// Entries of the heap that are not idle.
    busy: usize,
    /// Last delivery per direction of a connection: TCP keeps the order.
    lanes: BTreeMap<(u8, u64), Nanos>,
}

impl Agenda {
    pub fn new(now: Nanos) -> Self {
        Self {
            now,
            serial: 0,
            cause: (0, 0),
            heap: BinaryHeap::new(),
            busy: 0,
            lanes: BTreeMap::new(),
        }
    }

    /// From now on, what is put here follows from the thing of this key.
    pub fn begin(&mut self, key: u64) {
        self.cause = (key, 0);
    }

    pub fn put(&mut self, at: Nanos, happening: Happening) {
        self.cause.1 += 1;
        let key = mix(self.cause.0.wrapping_add(mix(self.cause.1)));
        self.put_keyed(at, key, happening);
    }

    /// Something that follows from nothing: its key is given.
    pub fn put_keyed(&mut self, at: Nanos, key: u64, happening: Happening) {
        self.serial += 1;
        self.put_off(at, Planned { serial: self.serial, key, happening });
    }

    /// Something that was on the agenda comes later.
    pub fn put_off(&mut self, at: Nanos, planned: Planned) {
        self.busy += usize::from(!planned.happening.is_idle());
        self.heap.push(Reverse(Entry { at, planned }));
    }

    pub fn after_us(&mut self, micros: u64, happening: Happening) {
        self.put(self.now.after(micros * Nanos::MICROSECOND), happening);
    }

    /// Along a lane that keeps its order, with at least this travel time. Returns when it arrives.
    pub fn send(&mut self, lane: (u8, u64), travel_us: u64, happening: Happening) -> Nanos {
        let earliest = self.now.after(travel_us * Nanos::MICROSECOND);
        let last = self.lanes.entry(lane).or_default();
        *last = (*last).max(earliest).after(1);
        let at = *last;
        self.put(at, happening);
        at
    }

    /// Takes off what will not happen.
    pub fn forget(&mut self, is_meant: impl Fn(&Happening) -> bool) {
        self.heap.retain(|Reverse(entry)| !is_meant(&entry.planned.happening));
        let is_busy = |Reverse(entry): &&Reverse<Entry>| !entry.planned.happening.is_idle();
        self.busy = self.heap.iter().filter(is_busy).count();
    }

    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Whether only idle things are planned.
    pub fn is_quiet(&self) -> bool {
        self.busy == 0
    }

    /// The next thing; time goes on to it.
    pub fn pop(&mut self) -> Option<Planned> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = self.now.max(entry.at);
        self.busy -= usize::from(!entry.planned.happening.is_idle());
        Some(entry.planned)
    }
}
