//! The shell's side of memory: the process is measured, the rules decide, values move to disk and
//! back on threads that may wait for it.

use super::WorkerShell;
use super::disk::{self, Job};
use super::exports::IDLE_SHARE;
use super::inbound::stored_item;
use super::jobs::{Encode, Job as ServiceJob, Serve};
use super::spill::{SpillError, SpilledValue};
use super::state::{Effects, Phase};
use super::values::{LocalObject, Servable, Value};
use crate::data::{FetchReplier, StoredItem};
use crate::resident::own_resident_bytes;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use taskloom_core::worker::{MemoryLimits, SpillFailure, Ticket};
use taskloom_net::log;
use taskloom_types::TaskId;

/// Bytes that are read for one answer to a peer, beside its first value: they are in memory until
/// they are sent.
const SERVE_BYTES: u64 = 8 * 1024 * 1024;

/// How often a process that runs nothing is measured: waking ten times a second is most of what an
/// idle worker costs.
const QUIET_INTERVAL: Duration = Duration::from_millis(500);

/// When results go to disk and when a worker pauses, as fractions of its memory limit; 0: never.
/// The names and values are Dask's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryOptions {
    /// Of results in memory: the rest goes to disk.
    pub target: f64,
    /// Of the process: beyond it results go to disk until it is below `target`.
    pub spill: f64,
    /// Of the process: beyond it nothing starts.
    pub pause: f64,
    /// Most bytes of results on disk; `None`: what the disk takes.
    pub max_spill: Option<u64>,
    /// How often the process is measured.
    pub interval: Duration,
    /// How long a paused worker that nothing helps waits before it asks for a new process.
    pub patience: Duration,
    /// Whether the process is the worker's alone: only then its size says something of the worker.
    pub owns_process: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            target: 0.6,
            spill: 0.7,
            pause: 0.8,
            max_spill: None,
            interval: Duration::from_millis(100),
            patience: Duration::from_secs(10),
            owns_process: true,
        }
    }
}

impl MemoryOptions {
    /// `limit_bytes`: 0 means no limit.
    pub(super) fn limits(&self, limit_bytes: u64) -> MemoryLimits {
        let part = |fraction: f64| (limit_bytes as f64 * fraction.clamp(0.0, 1.0)) as u64;
        let of_process = |fraction: f64| if self.owns_process { part(fraction) } else { 0 };
        MemoryLimits {
            limit_bytes,
            target_bytes: part(self.target),
            spill_bytes: of_process(self.spill),
            pause_bytes: of_process(self.pause),
            exhausted_after_ns: self.patience.as_nanos() as u64,
        }
    }
}

impl<O: LocalObject> WorkerShell<O> {
    pub(super) fn start_memory_monitor(&self) {
        let limits = self.config.memory.limits(self.config.memory_limit);
        if limits.spill_bytes == 0 && limits.pause_bytes == 0 {
            return;
        }
        self.measure_after(self.config.memory.interval);
    }

    fn measure_after(&self, delay: Duration) {
        let me = self.me.clone();
        let timer = self.io.after(delay, move || {
            if let Some(me) = me.upgrade() {
                me.measure_memory();
            }
        });
        if let Some(before) = self.memory_monitor.lock().replace(timer) {
            before.cancel();
        }
    }

    /// Measures a paused process before it is time, if it may have room again. Call without the
    /// lock, after memory was freed.
    pub fn heed_freed_memory(&self) {
        if !self.state.lock().core.wants_measurement() {
            return;
        }
        let resident_bytes = self.occupied_bytes();
        let now = self.now();
        let mut state = self.state.lock();
        state.core.on_resident_early(now, resident_bytes);
        self.release(state, now);
        self.flush_if_urgent();
    }

    /// Memory of this process that is in use. Some that is idle is left out, since the next result will be
    /// in it: a worker that is paused can make that one.
    fn occupied_bytes(&self) -> u64 {
        let kept_idle = self.config.memory_limit / IDLE_SHARE;
        own_resident_bytes(self.memory().idle_bytes().min(kept_idle))
    }

    fn measure_memory(&self) {
        let resident_bytes = self.occupied_bytes();
        let now = self.now();
        let mut state = self.state.lock();
        let was_paused = state.core.is_paused();
        state.core.on_resident(now, resident_bytes);
        if state.core.is_paused() != was_paused {
            // Cycles of dead objects may be what fills the memory.
            self.jobs.push(ServiceJob::CollectCycles);
        }
        let is_quiet = state.core.executing().next().is_none() && !state.core.is_memory_short();
        let is_over = matches!(state.phase, Phase::Closed(_));
        self.release(state, now);
        self.flush_if_urgent();
        let interval = self.config.memory.interval;
        if !is_over {
            self.measure_after(if is_quiet { interval.max(QUIET_INTERVAL) } else { interval });
        }
    }

    /// Starts what the rules asked for. Call without the lock.
    pub(super) fn move_values(&self, effects: &mut Effects<O>) {
        for job in effects.disk.drain(..) {
            self.push_disk_job(job);
        }
        if effects.trim {
            // Allocators keep what each thread has freed, or what others freed of its.
            trim_thread();
            self.push_disk_job(Job::Trim);
            self.push_disk_job(Job::TrimThread);
        }
        if !effects.encodes.is_empty() {
            effects.encodes.drain(..).for_each(|job| self.to_encode.push(job));
            self.jobs.push(ServiceJob::StartEncoder);
        }
        effects.of_no_use.clear();
    }

    fn push_disk_job(&self, job: Job<O>) {
        if let Err(error) = self.disk.push(job, &self.me) {
            self.note_spill_error(&format!("cannot start a thread for the disk: {error}"));
        }
    }

    /// Where values wait to be encoded on their way to disk.
    #[must_use]
    pub fn to_encode(&self) -> &super::JobQueue<Encode<O>> {
        &self.to_encode
    }

    /// A value is encoded: it goes to disk.
    pub fn spill_encoded(&self, task: TaskId, ticket: Ticket, segments: Vec<Bytes>) {
        self.push_disk_job(Job::Write { task, ticket, segments });
    }

    /// A value cannot be encoded: it stays in memory.
    pub fn spill_refused(&self, task: TaskId, ticket: Ticket) {
        let now = self.now();
        let mut state = self.state.lock();
        state.core.on_spill_failed(now, task, ticket, SpillFailure::Unpicklable);
        self.release(state, now);
        self.flush_if_urgent();
    }

    /// A value was written, or not. On a thread of the disk.
    pub(super) fn on_written(
        &self,
        task: TaskId,
        ticket: Ticket,
        written: Result<SpilledValue, SpillError>,
    ) {
        let now = self.now();
        let mut of_no_use = (None, None);
        match &written {
            Ok(_) => self.note_spill_error(""),
            Err(error) => self.note_spill_error(&error.to_string()),
        }
        let mut state = self.state.lock();
        match written {
            Err(_) => state.core.on_spill_failed(now, task, ticket, SpillFailure::Disk),
            Ok(file) if state.core.on_spilled(task, ticket) => {
                let before = state.values.insert(task, Value::Spilled(Arc::new(file)));
                match before {
                    Some(value) if value.holds_object() => state.garbage.push(value),
                    // Large memory is given back without the lock.
                    value => of_no_use.0 = value,
                }
            }
            Ok(file) => of_no_use.1 = Some(file),
        }
        self.release(state, now);
        self.flush_if_urgent();
        drop(of_no_use);
        self.heed_freed_memory();
        // Even while executors are busy: memory is short.
        self.jobs.push(ServiceJob::CollectGarbage);
    }

    /// Reads a value. On a thread of the disk.
    fn read(&self, task: TaskId, ticket: Ticket, file: Arc<SpilledValue>) {
        let keeps_file = self.disk.store().has_room_for_both(file.disk_bytes());
        let read = if keeps_file { file.view() } else { file.read() };
        let kept = keeps_file.then(|| file.clone());
        drop(file);
        let now = self.now();
        let mut state = self.state.lock();
        let mut file = None;
        match read {
            Ok(segments) => {
                if state.core.on_loaded(task, ticket, keeps_file) {
                    file = state.values.insert(task, Value::loaded(segments, kept));
                }
            }
            Err(error) => {
                log::report(&format!("{error}; it is made again"));
                state.core.on_load_failed(now, task, ticket);
            }
        }
        self.release(state, now);
        self.flush_if_urgent();
        drop(file);
    }

    /// Reads the values of a peer's request that are on disk, and goes on with it.
    pub(super) fn read_and_serve(
        &self,
        items: Vec<(TaskId, Option<Servable<O>>)>,
        reply: FetchReplier,
    ) {
        let mut read_bytes = 0;
        let mut read = |(task, servable)| match servable {
            Some(Servable::OnDisk(file)) if read_bytes < SERVE_BYTES => {
                read_bytes += file.disk_bytes();
                (task, self.read_for_peer(task, &file))
            }
            other => (task, other),
        };
        let items = items.into_iter().map(&mut read).collect();
        self.serve_read(items, reply);
    }

    fn read_for_peer(&self, task: TaskId, file: &SpilledValue) -> Option<Servable<O>> {
        match file.read() {
            Ok(segments) => Some(Servable::Encoded(segments)),
            Err(error) => {
                log::report(&format!("{error}; it is made again"));
                let now = self.now();
                let mut state = self.state.lock();
                state.core.on_unreadable(now, task);
                self.release(state, now);
                self.flush_if_urgent();
                None
            }
        }
    }

    /// Answers a peer's request, by way of the disk or of the serializer where it must.
    pub(super) fn serve(&self, items: Vec<(TaskId, Option<Servable<O>>)>, reply: FetchReplier) {
        let is_on_disk = |servable: &Servable<O>| matches!(servable, Servable::OnDisk(_));
        if items.iter().any(|(_, servable)| servable.as_ref().is_some_and(is_on_disk)) {
            return self.push_disk_job(Job::Serve { items, reply });
        }
        self.serve_read(items, reply);
    }

    /// As [`WorkerShell::serve`]; what is on disk still is to be asked for again.
    fn serve_read(&self, items: Vec<(TaskId, Option<Servable<O>>)>, reply: FetchReplier) {
        // What pays to be put into shared memory first is copied, which the IO thread must not do.
        let wants_copy =
            |segments: &Vec<Bytes>| reply.maps_memory() && self.memory().would_share(segments);
        let needs_work = |servable: &Servable<O>| match servable {
            Servable::Encoded(segments) => wants_copy(segments),
            Servable::Object(_) | Servable::Received(_) => true,
            Servable::Failed(_) | Servable::OnDisk(_) => false,
        };
        if items.iter().any(|(_, servable)| servable.as_ref().is_some_and(needs_work)) {
            self.to_serialize.push(Serve { items, reply });
            self.jobs.push(ServiceJob::StartSerializer);
            return;
        }
        let items: Vec<StoredItem> =
            items.into_iter().map(|(task, servable)| stored_item(task, servable)).collect();
        reply.reply(items);
    }

    /// Notes why nothing can go to disk; nothing: it can. The first of a row is reported.
    fn note_spill_error(&self, error: &str) {
        let mut last = self.spill_error.lock();
        if last.is_empty() && !error.is_empty() {
            log::report(&format!(
                "worker {}: {error}; results stay in memory until there is room",
                self.config.name
            ));
        }
        if *last != error {
            *last = error.to_string();
        }
    }

    /// What spilled results occupy on disk in bytes, and why nothing more can go there.
    pub(super) fn disk_state(&self) -> (u64, String) {
        (self.disk.store().disk_bytes(), self.spill_error.lock().clone())
    }

    /// Removes what is on disk. Only after the end.
    pub fn remove_spilled(&self) {
        drop(self.disk.end());
        drop(self.to_encode.end());
        self.disk.store().remove();
    }
}

static TRIM_THREAD: OnceLock<fn()> = OnceLock::new();

/// Says how the process's allocator gives back what it keeps for the calling thread. Only the first
/// call counts.
pub fn set_trim_thread(trim: fn()) {
    let _ = TRIM_THREAD.set(trim);
}

fn trim_thread() {
    if let Some(trim) = TRIM_THREAD.get() {
        trim();
    }
}

/// Gives memory that is free back to the system.
pub(super) fn trim() {
    trim_thread();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: the call takes the allocator's own locks, and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}

impl<O: LocalObject> disk::Owner<O> for WorkerShell<O> {
    fn carry_out(&self, job: Job<O>) {
        match job {
            Job::Write { task, ticket, segments } => {
                let written = self.disk.store().write(&segments);
                // Their memory is to be free before anybody looks for it.
                drop(segments);
                self.on_written(task, ticket, written);
            }
            Job::Read { task, ticket, file } => self.read(task, ticket, file),
            Job::Serve { items, reply } => self.read_and_serve(items, reply),
            Job::Remove(file) => drop(file),
            Job::Trim => {
                self.drop_copies();
                trim();
            }
            Job::TrimThread => trim_thread(),
        }
    }
}
