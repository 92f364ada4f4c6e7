//! Virtual memory and virtual disks of workers: processes that grow and shrink, values that move
//! to disk and back after a while, disks that are full and files that cannot be read.
//!
//! What a run has of it is decided by chance of its own: seeds without this trouble run as if it
//! were not there.

use crate::agenda::Happening;
use crate::broken::Checked;
use crate::rng::{Rng, mix};
use crate::worker::SimWorker;
use crate::world::World;
use taskloom_core::worker::{MemoryLimits, SpillFailure, Ticket};
use taskloom_proto::memory::MemoryState;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Nanos, TaskId, WorkerNo};

/// How a run's memory behaves.
pub(crate) struct MemoryTrouble {
    /// Of every worker; `None`: there is no such trouble.
    pub limits: Option<MemoryLimits>,
    full_percent: u64,
    unreadable_percent: u64,
    unpicklable_percent: u64,
}

/// A transfer to or from a worker's disk that ends.
#[derive(Debug, Clone, Copy)]
pub enum DiskTransfer {
    Written { value: u64 },
    Read { value: Option<u64> },
}

impl MemoryTrouble {
    /// `may_be`: whether the run may have such trouble at all.
    pub fn random(seed: u64, may_be: bool) -> Self {
        let mut rng = Rng::new(mix(seed ^ 0x006d_656d_6f72_7900));
        let is_there = rng.chance(35) && may_be;
        let target_bytes = [0, 4_000, 20_000][rng.below(3) as usize];
        let limits = MemoryLimits {
            limit_bytes: 60_000,
            target_bytes,
            spill_bytes: [0, 30_000][rng.below(2) as usize],
            pause_bytes: 40_000,
            exhausted_after_ns: rng.between(1, 20) * Nanos::MILLISECOND,
        };
        Self {
            limits: is_there.then_some(limits),
            full_percent: [0, 0, 20, 60][rng.below(4) as usize],
            unreadable_percent: [0, 0, 5][rng.below(3) as usize],
            unpicklable_percent: [0, 10][rng.below(2) as usize],
        }
    }
}

impl World {
    /// From here on there is room.
    pub fn heal_memory(&mut self) {
        for name in 0..self.names {
            self.agenda.after_us(1, Happening::Measures(name, 0));
        }
    }

    /// The process finds itself large by what it holds, and by so many bytes more.
    pub fn measure(&mut self, name: u64, leak_bytes: u64) -> Checked {
        let (now, faults) = (self.agenda.now, self.faults);
        let Some(number) = self.number_of(name) else { return Ok(()) };
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let resident_bytes = if faults { worker.resident_bytes() + leak_bytes } else { 0 };
        let was_paused = worker.rules.is_paused();
        let now = worker.clock(now);
        worker.rules.on_resident(now, resident_bytes);
        let is_paused = worker.rules.is_paused();
        let effects = worker.effects();
        self.report.memory_pauses += u64::from(is_paused && !was_paused);
        self.carry_out(number, effects)
    }

    /// A worker that pauses between two measurements is measured again soon. While there are faults
    /// the plan says when.
    pub fn notice_pause(&mut self, number: WorkerNo, message: &WorkerToScheduler) {
        let WorkerToScheduler::Memory(news) = message else { return };
        let Some(name) = self.workers.get(&number).map(|worker| worker.name) else { return };
        if news.state != MemoryState::RUNNING && !self.faults {
            self.agenda.after_us(1_000, Happening::Measures(name, 0));
        }
    }

    pub fn begin_write(&mut self, number: WorkerNo, task: TaskId, ticket: Ticket) {
        let Some(worker) = self.alive(number) else { return };
        let Some(value) = worker.values.get(&task).copied() else { return };
        self.end_later(number, task, ticket, DiskTransfer::Written { value });
    }

    pub fn begin_read(&mut self, number: WorkerNo, task: TaskId, ticket: Ticket) {
        let percent = if self.faults { self.memory.unreadable_percent } else { 0 };
        let is_lost = self.rng.chance(percent);
        let Some(worker) = self.alive(number) else { return };
        let value = worker.on_disk.get(&task).copied().filter(|_| !is_lost);
        self.end_later(number, task, ticket, DiskTransfer::Read { value });
    }

    fn end_later(&mut self, number: WorkerNo, task: TaskId, ticket: Ticket, end: DiskTransfer) {
        let after = self.rng.below(3_000);
        self.agenda.after_us(after, Happening::DiskEnds(number, task, ticket, end));
    }

    pub fn disk_ends(
        &mut self,
        number: WorkerNo,
        task: TaskId,
        ticket: Ticket,
        end: DiskTransfer,
    ) -> Checked {
        let now = self.agenda.now;
        let is_full = self.faults && self.rng.chance(self.memory.full_percent);
        let is_unpicklable = self.rng.chance(self.memory.unpicklable_percent);
        let keeps_file = self.rng.chance(50);
        let Some(worker) = self.alive(number) else { return Ok(()) };
        let now = worker.clock(now);
        match end {
            DiskTransfer::Written { .. } if is_unpicklable || is_full => {
                let why = if is_full { SpillFailure::Disk } else { SpillFailure::Unpicklable };
                worker.rules.on_spill_failed(now, task, ticket, why);
            }
            DiskTransfer::Written { value } => {
                if worker.rules.on_spilled(task, ticket) {
                    worker.values.remove(&task);
                    worker.on_disk.insert(task, value);
                    self.report.spilled += 1;
                }
            }
            DiskTransfer::Read { value: Some(value) } => {
                if worker.rules.on_loaded(task, ticket, keeps_file) {
                    if keeps_file {
                        worker.values.insert(task, value);
                    } else {
                        worker.keep(task, value);
                    }
                    self.report.unspilled += 1;
                }
            }
            DiskTransfer::Read { value: None } => {
                worker.rules.on_load_failed(now, task, ticket);
                self.report.disk_losses += 1;
            }
        }
        let effects = self.alive(number).map(SimWorker::effects).unwrap_or_default();
        self.carry_out(number, effects)
    }

    /// A value as a worker gives it to others. One on disk may turn out to be unreadable.
    pub fn serve(&mut self, number: WorkerNo, task: TaskId) -> Checked<Option<u64>> {
        let now = self.agenda.now;
        let percent = if self.faults { self.memory.unreadable_percent } else { 0 };
        let Some(worker) = self.alive(number) else { return Ok(None) };
        if let Some(value) = worker.values.get(&task) {
            return Ok(Some(*value));
        }
        let Some(value) = worker.on_disk.get(&task).copied() else { return Ok(None) };
        if !self.rng.chance(percent) {
            return Ok(Some(value));
        }
        self.report.disk_losses += 1;
        let Some(worker) = self.alive(number) else { return Ok(None) };
        let now = worker.clock(now);
        worker.rules.on_unreadable(now, task);
        let effects = worker.effects();
        self.carry_out(number, effects)?;
        Ok(None)
    }
}

impl SimWorker {
    fn resident_bytes(&self) -> u64 {
        self.rules.managed_bytes() - self.rules.spilled_bytes()
    }

    pub fn has(&self, task: TaskId) -> bool {
        self.values.contains_key(&task) || self.on_disk.contains_key(&task)
    }

    /// Holds a value in memory.
    pub fn keep(&mut self, task: TaskId, value: u64) {
        self.on_disk.remove(&task);
        self.values.insert(task, value);
    }
}
