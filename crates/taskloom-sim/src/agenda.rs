//! What is going to happen, and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use taskloom_core::scheduler::Event;
use taskloom_core::worker::Interrupt;
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
    ClientFetches {
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
    ClientActs(ClientId),
    WorkerTick(WorkerNo),
    Heartbeat(WorkerNo),
    /// A worker sees that its connection is closed.
    WorkerNotices(WorkerNo),
    WorkerDies(u64),
    WorkerPauses(u64),
    WorkerStarts(u64),
    Poll,
}

impl Happening {
    /// Whether it goes on for ever without anything coming of it.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Heartbeat(_) | Self::Poll => true,
            Self::ToScheduler(Event::WorkerMessage { message, .. }) => {
                matches!(message, WorkerToScheduler::Heartbeat(_))
            }
            _ => false,
        }
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
            | Self::Heartbeat(worker)
            | Self::WorkerNotices(worker) => [Some(*worker), None],
            Self::PeerAnswers { asker, peer, .. } => [Some(*asker), Some(*peer)],
            _ => [None, None],
        }
    }
}

/// In the heap by time, then by when it was put there.
#[derive(Debug)]
struct Entry {
    at: Nanos,
    serial: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
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
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// Time, and what is planned.
#[derive(Debug)]
pub struct Agenda {
    pub now: Nanos,
    serial: u64,
    heap: BinaryHeap<Reverse<Entry>>,
    /// Entries of the heap that are not idle.
    busy: usize,
    /// Last delivery per direction of a connection: TCP keeps the order.
    lanes: BTreeMap<(u8, u64), Nanos>,
}

impl Agenda {
    pub fn new(now: Nanos) -> Self {
        Self { now, serial: 0, heap: BinaryHeap::new(), busy: 0, lanes: BTreeMap::new() }
    }

    pub fn put(&mut self, at: Nanos, happening: Happening) {
        self.serial += 1;
        self.busy += usize::from(!happening.is_idle());
        self.heap.push(Reverse(Entry { at, serial: self.serial, happening }));
    }

    pub fn after_us(&mut self, micros: u64, happening: Happening) {
        self.put(self.now.after(micros * Nanos::MICROSECOND), happening);
    }

    /// Along a lane that keeps its order, with at least this travel time.
    pub fn send(&mut self, lane: (u8, u64), travel_us: u64, happening: Happening) {
        let earliest = self.now.after(travel_us * Nanos::MICROSECOND);
        let last = self.lanes.entry(lane).or_default();
        *last = (*last).max(earliest).after(1);
        let at = *last;
        self.put(at, happening);
    }

    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Whether only idle things are planned.
    pub fn is_quiet(&self) -> bool {
        self.busy == 0
    }

    /// The next thing, with its number; time goes on to it.
    pub fn pop(&mut self) -> Option<(u64, Happening)> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = self.now.max(entry.at);
        self.busy -= usize::from(!entry.happening.is_idle());
        Some((entry.serial, entry.happening))
    }
}
