//! Threads that wait for the disk: one writes, one reads, so that a run that waits for its inputs
//! does not stand behind what is written. They are started when there is something to do.

use super::jobs::JobQueue;
use super::spill::{SpillStore, SpilledValue};
use super::values::{LocalObject, Servable};
use crate::data::FetchReplier;
use bytes::Bytes;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use taskloom_core::worker::Ticket;
use taskloom_types::TaskId;

/// What a thread of the disk has to do.
pub(super) enum Job<O> {
    Write {
        task: TaskId,
        ticket: Ticket,
        segments: Vec<Bytes>,
    },
    Read {
        task: TaskId,
        ticket: Ticket,
        file: Arc<SpilledValue>,
    },
    /// Some of these are on disk.
    Serve {
        items: Vec<(TaskId, Option<Servable<O>>)>,
        reply: FetchReplier,
    },
    /// The value is of no use any more.
    Remove(Arc<SpilledValue>),
    /// Give free memory back to the system: all of it, and what this thread's allocator keeps.
    Trim,
    TrimThread,
}

/// Who does what the threads are given.
pub(super) trait Owner<O>: Send + Sync + 'static {
    fn carry_out(&self, job: Job<O>);
}

/// A queue and its thread.
struct Line<O> {
    queue: Arc<JobQueue<Job<O>>>,
    is_started: AtomicBool,
    name: &'static str,
}

impl<O: LocalObject> Line<O> {
    fn new(name: &'static str) -> Self {
        Self { queue: Arc::default(), is_started: AtomicBool::new(false), name }
    }

    fn push(&self, job: Job<O>, owner: &Weak<impl Owner<O>>) -> io::Result<()> {
        self.queue.push(job);
        if self.is_started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (queue, owner) = (self.queue.clone(), owner.clone());
        let thread = std::thread::Builder::new().name(self.name.into());
        let run = move || {
            while let Some(job) = queue.wait() {
                let Some(owner) = owner.upgrade() else { return };
                owner.carry_out(job);
            }
        };
        let started = thread.spawn(run);
        if started.is_err() {
            // The next job tries again; this one waits.
            self.is_started.store(false, Ordering::Release);
        }
        started.map(drop)
    }
}

/// The worker's disk.
pub(super) struct Disk<O> {
    store: SpillStore,
    writer: Line<O>,
    reader: Line<O>,
}

impl<O: LocalObject> Disk<O> {
    pub(super) fn new(store: SpillStore) -> Self {
        Self { store, writer: Line::new("taskloom-spill"), reader: Line::new("taskloom-unspill") }
    }

    pub(super) fn store(&self) -> &SpillStore {
        &self.store
    }

    /// Has a job done, on behalf of `owner` if that is still there.
    pub(super) fn push(&self, job: Job<O>, owner: &Weak<impl Owner<O>>) -> io::Result<()> {
        let line = match job {
            Job::Read { .. } | Job::Serve { .. } | Job::TrimThread => &self.reader,
            Job::Write { .. } | Job::Remove(_) | Job::Trim => &self.writer,
        };
        line.push(job, owner)
    }

    /// Nothing more is done. What waits is the caller's to drop.
    pub(super) fn end(&self) -> Vec<Job<O>> {
        self.writer.queue.end().into_iter().chain(self.reader.queue.end()).collect()
    }
}
