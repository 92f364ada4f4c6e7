//! Memory: which results go to disk, and when nothing more starts here.
//!
//! The shell measures the process and moves the bytes; what moves is decided here. A result is in
//! memory, being written, on disk, or being read. Nothing is kept in order of use: each result
//! carries the number of the run that used it last, and candidates are ranked when memory is
//! short. While it is not, a result costs a comparison. `load.rs` brings results back.

use super::data::Data;
use super::load::Loads;
use super::{Action, Map, Worker};
use taskloom_proto::memory::MemoryState;
use taskloom_proto::worker::{Retracted, WorkerToScheduler};
use taskloom_types::{Attempt, Nanos, TaskId};

/// From when on what happens, in bytes; 0: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryLimits {
    /// What the worker may use.
    pub limit_bytes: u64,
    /// Results in memory that exceed this go to disk.
    pub target_bytes: u64,
    /// When the process exceeds this, results go to disk until it is below the target.
    pub spill_bytes: u64,
    /// While the process exceeds this, nothing starts.
    pub pause_bytes: u64,
    /// How long nothing may help a paused worker before it asks for a new process, in ns; 0: it
    /// does not ask.
    pub exhausted_after_ns: u64,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    #[default]
    Memory,
    /// In memory, and cannot be written.
    Kept,
    /// In memory, and being written.
    Writing,
    /// In memory, and its file is kept: to leave memory costs nothing.
    Both,
    Disk,
    /// On disk, and being read.
    Reading,
}

impl Place {
    pub(super) fn is_in_memory(self) -> bool {
        matches!(self, Self::Memory | Self::Kept | Self::Writing | Self::Both)
    }
}

/// Why a value did not go to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpillFailure {
    /// It cannot be turned into bytes: not now, not later.
    Unpicklable,
    /// No room, no permission, a broken disk: later perhaps.
    Disk,
}

/// Names one transfer to or from disk: a late answer must not be taken for a newer value's.
pub type Ticket = u64;

/// Smaller values are not worth a file.
const MIN_SPILL_BYTES: u64 = 1024;
/// What one transfer costs beside its bytes, as bytes: small values cost more than they free.
const TRANSFER_COST_BYTES: u64 = 64 * 1024;
/// How much sooner a value goes whose file is there already: half the work, and none now.
const FILE_BONUS: u64 = 2;
/// Bytes on their way to disk at a time; one value at least.
const MAX_WRITING_BYTES: u64 = 256 * 1024 * 1024;
/// Values on their way to disk at a time.
const MAX_WRITING: usize = 64;
/// Candidates that are ranked at a time.
const MAX_RANKED: usize = 4096;
/// How long to wait before the disk is tried again.
const DISK_PAUSE: u64 = Nanos::SECOND;
/// A pause ends this part of its bound lower than it began.
const PAUSE_STEP: u64 = 40;
/// How often memory that is free but not given back is looked after.
const TRIM_PAUSE: u64 = 250 * Nanos::MILLISECOND;

/// What is known of memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    limits: MemoryLimits,
    /// Grows with each run that starts; values carry its last reading.
    pub(super) clock: u32,
    /// The process, as last measured.
    resident_bytes: u64,
    /// What it occupied beside the results in memory when it was measured on time. Less than nothing
    /// where these are estimated too high.
    beside_results: i64,
    /// When results in memory exceed this, some may have to leave it.
    relieve_from_bytes: u64,
    /// Of results in memory at that time.
    measured_bytes: u64,
    /// When results in memory exceed this before the process is measured again, it is too large
    /// by then; 0: that does not matter.
    alarm_bytes: u64,
    writing: Map<TaskId, (Ticket, u64)>,
    writing_bytes: u64,
    last_ticket: Ticket,
    /// Values that are not in memory, and what they would occupy there.
    spilled: usize,
    spilled_bytes: u64,
    kept_bytes: u64,
    /// Written since the last measurement, and between the last two: the process may not show it
    /// yet.
    settling_bytes: [u64; 2],
    /// The process exceeded its bound, and is not below the target yet.
    evicting: bool,
    /// Best candidate last. Some may have changed since they were ranked.
    candidates: Vec<TaskId>,
    /// Nothing new is to be found before results occupy so much.
    rank_from_bytes: u64,
    /// Whether the last write failed, and until when none is tried.
    disk_fails: bool,
    disk_fails_until: Option<Nanos>,
    paused: Option<Paused>,
    last_trim: Nanos,
    pub(super) loads: Loads,
}

#[derive(Debug, Default)]
struct Paused {
    /// Since when nothing runs here and nothing can go to disk.
    stuck_since: Option<Nanos>,
    /// What the scheduler was told last.
    told: MemoryState,
}

impl Memory {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        let mut memory = Self { limits, ..Self::default() };
        memory.watch_bounds();
        memory
    }

    /// What the process occupies with so many bytes of results in memory, as far as can be told from
    /// the last measurement: it is made ten times a second, and results come more often.
    fn process_bytes(&self, in_memory_bytes: u64) -> u64 {
        in_memory_bytes.saturating_add_signed(self.beside_results)
    }

    /// Finds out from when on results exceed a bound.
    fn watch_bounds(&mut self) {
        let MemoryLimits { target_bytes, spill_bytes, .. } = self.limits;
        let of_results = if target_bytes > 0 { target_bytes } else { u64::MAX };
        let of_process = match spill_bytes {
            0 => u64::MAX,
            _ if self.evicting => 0,
            bound => bound.saturating_add_signed(self.beside_results.saturating_neg()),
        };
        self.relieve_from_bytes = of_results.min(of_process);
    }

    /// Whether some value is not in memory.
    pub(super) fn has_spilled(&self) -> bool {
        self.spilled > 0
    }

    /// Numbers of an earlier session's transfers do not come again.
    pub(super) fn go_on_from(&mut self, old: &Self) {
        self.last_ticket = old.last_ticket;
        self.clock = old.clock;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Whether any run has started in this process.
    fn has_run(&self) -> bool {
        self.clock > 0
    }

    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(super) fn limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// A value is no longer in memory; the process may not show it yet.
    fn enter_disk(&mut self, size_bytes: u64) {
        self.spilled += 1;
        self.spilled_bytes += size_bytes;
        self.settling_bytes[0] += size_bytes;
        // Those who come in its place are new.
        self.rank_from_bytes = self.rank_from_bytes.saturating_sub(size_bytes);
    }

    /// Until then nothing is written; `None`: from now on. What may leave memory is another then.
    fn try_disk_from(&mut self, time: Option<Nanos>) {
        if self.disk_fails_until.is_some() != time.is_some() {
            self.candidates.clear();
            self.rank_from_bytes = 0;
        }
        self.disk_fails_until = time;
    }

    /// Down to where results are written once the process exceeded its bound.
    fn goal_bytes(&self) -> u64 {
        match self.limits.target_bytes {
            0 => self.limits.spill_bytes,
            target => target.min(self.limits.spill_bytes),
        }
    }
}

/// `a - b`.
fn signed_difference(a: u64, b: u64) -> i64 {
    let size = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a < b { -size } else { size }
}

impl Worker {
    // Getters.

    /// Bytes of values that are on disk only.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.memory.spilled_bytes
    }

    /// Bytes of values that cannot go to disk.
    #[must_use]
    pub fn unspillable_bytes(&self) -> u64 {
        self.memory.kept_bytes
    }

    /// Whether nothing starts here, since memory is short.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.memory.is_paused()
    }

    /// Whether results have to leave memory, or nothing starts for lack of it.
    #[must_use]
    pub fn is_memory_short(&self) -> bool {
        self.memory.evicting || self.memory.is_paused()
    }

    fn in_memory_bytes(&self) -> u64 {
        self.managed_bytes.saturating_sub(self.memory.spilled_bytes)
    }

    // In.

    /// The process was measured. Call it several times a second.
    pub fn on_resident(&mut self, now: Nanos, resident_bytes: u64) {
        let memory = &mut self.memory;
        memory.resident_bytes = resident_bytes;
        memory.settling_bytes = [0, memory.settling_bytes[0]];
        memory.rank_from_bytes = 0;
        if memory.disk_fails_until.is_some_and(|until| until <= now) {
            memory.try_disk_from(None);
        }
        let bound = memory.limits.spill_bytes;
        let goal = memory.goal_bytes();
        memory.evicting =
            bound > 0 && (resident_bytes > bound || (memory.evicting && resident_bytes > goal));
        // What has just left memory may still be part of what was measured.
        let shown = resident_bytes.saturating_sub(memory.settling_bytes[1]);
        let in_memory = self.in_memory_bytes();
        let memory = &mut self.memory;
        memory.beside_results = signed_difference(shown, in_memory);
        memory.watch_bounds();
        if memory.evicting && memory.last_trim.after(TRIM_PAUSE) <= now {
            memory.last_trim = now;
            self.actions.push(Action::TrimMemory);
        }
        self.relieve();
        self.judge_pause(now);
        self.watch_growth();
        self.start_loads();
    }

    /// From the last measurement on: how many more results the process has room for.
    fn watch_growth(&mut self) {
        let bound = self.memory.limits.pause_bytes;
        let is_watched = bound > 0 && !self.memory.is_paused();
        let room = bound.saturating_sub(self.memory.resident_bytes);
        let in_memory = self.in_memory_bytes();
        self.memory.measured_bytes = in_memory;
        self.memory.alarm_bytes = if is_watched { in_memory + room } else { 0 };
    }

    /// Whether measuring the process before it is time may let it go on: it is paused, and enough
    /// has left memory since it was measured, or all that was on its way.
    #[must_use]
    pub fn wants_measurement(&self) -> bool {
        let memory = &self.memory;
        let left = memory.settling_bytes[0];
        let is_enough = left >= memory.limits.pause_bytes / PAUSE_STEP || memory.writing.is_empty();
        memory.is_paused() && left > 0 && is_enough
    }

    /// The process was measured before it was time; see [`Worker::wants_measurement`].
    pub fn on_resident_early(&mut self, now: Nanos, resident_bytes: u64) {
        self.memory.resident_bytes = resident_bytes;
        self.judge_pause(now);
        self.watch_growth();
        self.start_loads();
    }

    /// What may be read from disk before the process is so large that results have to leave it, as
    /// far as can be told.
    pub(super) fn room_bytes(&self) -> u64 {
        let memory = &self.memory;
        match memory.limits.spill_bytes {
            0 => u64::MAX,
            bound => {
                let grown = self.in_memory_bytes().saturating_sub(memory.measured_bytes);
                bound.saturating_sub(memory.resident_bytes.saturating_add(grown))
            }
        }
    }

    /// A value was written. True: the shell keeps the file and drops what is in memory; false: the
    /// file is of no use.
    pub fn on_spilled(&mut self, task: TaskId, ticket: Ticket) -> bool {
        if !self.end_writing(task, ticket) {
            return false;
        }
        let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.as_mut()) else {
            return false;
        };
        if data.pins > 0 {
            // A run is about to start with it.
            data.place = Place::Memory;
            return false;
        }
        data.place = Place::Disk;
        let size_bytes = data.size_bytes;
        self.memory.disk_fails = false;
        self.memory.enter_disk(size_bytes);
        self.relieve();
        true
    }

    /// A value could not be written: it stays in memory.
    pub fn on_spill_failed(&mut self, now: Nanos, task: TaskId, ticket: Ticket, why: SpillFailure) {
        if why == SpillFailure::Disk {
            self.memory.disk_fails = true;
            self.memory.try_disk_from(Some(now.after(DISK_PAUSE)));
        }
        if self.end_writing(task, ticket)
            && let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.as_mut())
        {
            data.place = Place::Memory;
            if why == SpillFailure::Unpicklable {
                data.place = Place::Kept;
                self.memory.kept_bytes += data.size_bytes;
            }
        }
        self.relieve();
    }

    /// Whether the answer is about the value that is here now.
    fn end_writing(&mut self, task: TaskId, ticket: Ticket) -> bool {
        let memory = &mut self.memory;
        if memory.writing.get(&task).is_none_or(|(current, _)| *current != ticket) {
            return false;
        }
        if let Some((_, bytes)) = memory.writing.remove(&task) {
            memory.writing_bytes -= bytes;
        }
        true
    }

    // To disk.

    /// Results have come. The hot path ends at the first line.
    pub(super) fn check_target(&mut self) {
        let in_memory = self.in_memory_bytes();
        if in_memory <= self.memory.relieve_from_bytes {
            return;
        }
        let bound = self.memory.limits.spill_bytes;
        if bound > 0 && !self.memory.evicting {
            self.memory.evicting = self.memory.process_bytes(in_memory) > bound;
            self.memory.watch_bounds();
        }
        self.relieve();
    }

    /// At the end of an event that brought results: pauses at once if they are more than the
    /// process had room for when it was measured.
    pub(super) fn heed_alarm(&mut self) {
        let alarm = self.memory.alarm_bytes;
        if alarm > 0 && self.in_memory_bytes() > alarm {
            self.pause();
        }
    }

    /// Bytes that should go to disk beside those on their way.
    fn excess_bytes(&self) -> u64 {
        let memory = &self.memory;
        let target = memory.limits.target_bytes;
        let over_target = match target {
            0 => 0,
            target => self.in_memory_bytes().saturating_sub(memory.writing_bytes + target),
        };
        if !memory.evicting {
            return over_target;
        }
        let process_bytes = memory.process_bytes(self.in_memory_bytes());
        let over_bound = process_bytes.saturating_sub(memory.goal_bytes() + memory.writing_bytes);
        over_target.max(over_bound)
    }

    /// Sends the best candidates to disk, as many as needed and possible. Copies that others have
    /// too are offered to the scheduler instead, once; the room that they may give is counted on
    /// until the process is measured again.
    pub(super) fn relieve(&mut self) {
        let mut excess = self.excess_bytes();
        let mut spare = Vec::new();
        while excess > 0 && self.may_write_more() {
            let Some(task) = self.memory.candidates.pop() else {
                if !self.rank_candidates() {
                    break;
                }
                continue;
            };
            let offered_bytes = self.offer(task, &mut spare);
            let freed_bytes = if offered_bytes > 0 { offered_bytes } else { self.write(task) };
            excess = excess.saturating_sub(freed_bytes);
        }
        if !spare.is_empty() {
            self.send(WorkerToScheduler::Spare(spare));
        }
    }

    /// A copy that no run here waits for may be spared; its size, 0: it is none, or the scheduler
    /// has been asked.
    fn offer(&mut self, task: TaskId, spare: &mut Vec<TaskId>) -> u64 {
        let Some(local) = self.tasks.get_mut(&task).filter(|local| local.users == 0) else {
            return 0;
        };
        let in_memory = |data: &&mut Data| data.is_spare && data.place == Place::Memory;
        let Some(data) = local.data.as_mut().filter(in_memory) else { return 0 };
        data.is_spare = false;
        spare.push(task);
        data.size_bytes
    }

    fn may_write_more(&self) -> bool {
        self.memory.writing_bytes < MAX_WRITING_BYTES && self.memory.writing.len() < MAX_WRITING
    }

    /// Has a value leave memory, if it still may go; its size. What has a file already leaves at
    /// once, anything else when it is written.
    fn write(&mut self, task: TaskId) -> u64 {
        let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.as_mut()) else { return 0 };
        if data.place == Place::Both && data.pins == 0 {
            data.place = Place::Disk;
            let size_bytes = data.size_bytes;
            self.memory.enter_disk(size_bytes);
            self.actions.push(Action::Evict(task));
            return size_bytes;
        }
        let is_tried = self.memory.disk_fails_until.is_none();
        if data.place != Place::Memory || data.pins > 0 || !is_tried {
            return 0;
        }
        data.place = Place::Writing;
        let size_bytes = data.size_bytes;
        let ticket = self.memory.next_ticket();
        self.memory.writing.insert(task, (ticket, size_bytes));
        self.memory.writing_bytes += size_bytes;
        self.actions.push(Action::Spill { task, ticket });
        size_bytes
    }

    /// Looks for what may leave memory: first what no run here waits for, of that first the copies
    /// that others have too, then by age, where a value counts for less the more its transfer costs
    /// by what it frees, and the longer it took to make, and for more if its file is there already.
    /// False: there is nothing.
    fn rank_candidates(&mut self) -> bool {
        let in_memory = self.in_memory_bytes();
        if in_memory < self.memory.rank_from_bytes {
            return false;
        }
        let step = (self.memory.limits.limit_bytes / 64).max(1024 * 1024);
        self.memory.rank_from_bytes = in_memory.saturating_add(step);
        let (clock, is_disk_tried) = (self.memory.clock, self.memory.disk_fails_until.is_none());
        let mut ranked: Vec<(bool, bool, u64, TaskId)> = Vec::new();
        for (task, local) in &self.tasks {
            let Some(data) = &local.data else { continue };
            let has_file = data.place == Place::Both;
            let is_writable = data.place == Place::Memory && is_disk_tried;
            let may_go = (has_file || is_writable) && data.pins == 0;
            if may_go && data.size_bytes > MIN_SPILL_BYTES {
                let age = u64::from(clock.wrapping_sub(data.used)) + 1;
                let size = data.size_bytes.min(1 << 40);
                let worth = age * (size * 1024 / (size + TRANSFER_COST_BYTES));
                let worth = data.remaking.discount(worth) * if has_file { FILE_BONUS } else { 1 };
                ranked.push((local.users == 0, data.is_spare, worth, *task));
            }
        }
        if ranked.len() > MAX_RANKED {
            let cut = ranked.len() - MAX_RANKED;
            ranked.select_nth_unstable(cut);
            ranked.drain(..cut);
        }
        ranked.sort_unstable();
        self.memory.candidates = ranked.into_iter().map(|(.., task)| task).collect();
        !self.memory.candidates.is_empty()
    }

    /// A value goes, or is replaced.
    pub(super) fn forget_place(&mut self, task: TaskId, place: Place, size_bytes: u64) {
        let memory = &mut self.memory;
        match place {
            Place::Memory | Place::Both => {}
            Place::Kept => memory.kept_bytes -= size_bytes,
            Place::Writing => {
                if let Some((_, bytes)) = memory.writing.remove(&task) {
                    memory.writing_bytes -= bytes;
                }
            }
            Place::Disk | Place::Reading => {
                self.leave_disk(task, size_bytes);
                // There is room again, perhaps.
                self.memory.try_disk_from(None);
            }
        }
    }

    /// A value is in memory again, or gone.
    pub(super) fn leave_disk(&mut self, task: TaskId, size_bytes: u64) {
        self.memory.loads.reading.remove(&task);
        self.memory.spilled -= 1;
        self.memory.spilled_bytes -= size_bytes;
    }

    // Pausing.

    fn judge_pause(&mut self, now: Nanos) {
        let bound = self.memory.limits.pause_bytes;
        let resident = self.memory.resident_bytes;
        if bound == 0 {
            return;
        }
        if !self.memory.is_paused() {
            if resident > bound {
                self.pause();
            }
        } else if resident <= bound - bound / PAUSE_STEP {
            // A little lower than where it began, lest it goes on and off.
            self.memory.paused = None;
            self.tell_memory(MemoryState::RUNNING);
            self.start_fetches(now);
            self.start_loads();
        } else {
            self.judge_exhausted(now);
        }
    }

    fn pause(&mut self) {
        self.memory.alarm_bytes = 0;
        self.memory.paused = Some(Paused::default());
        self.tell_memory(MemoryState::PAUSED);
        self.give_back_queue();
    }

    /// Whether waiting helps. What fills the memory is no result, nothing runs that could end:
    /// only a new process has room again. Unless nothing ever ran here: then a new one would be as
    /// large.
    fn judge_exhausted(&mut self, now: Nanos) {
        let in_memory = self.in_memory_bytes();
        let unmanaged = self.memory.resident_bytes.saturating_sub(in_memory);
        let is_stuck = self.running.is_empty()
            && self.memory.writing.is_empty()
            && self.memory.loads.reading.is_empty()
            && unmanaged > self.memory.limits.pause_bytes / 2
            && self.memory.has_run();
        let patience = self.memory.limits.exhausted_after_ns;
        let Some(paused) = &mut self.memory.paused else { return };
        if !is_stuck {
            paused.stuck_since = None;
            self.tell_memory(MemoryState::PAUSED);
            return;
        }
        let since = *paused.stuck_since.get_or_insert(now);
        let over = patience > 0 && now.since(since) >= patience;
        self.tell_memory(if over { MemoryState::EXHAUSTED } else { MemoryState::PAUSED });
    }

    /// Tells the scheduler, if it does not know already.
    fn tell_memory(&mut self, state: u8) {
        let reason = if state == MemoryState::RUNNING { String::new() } else { self.shortage() };
        let disk_fails = self.memory.disk_fails;
        if let Some(paused) = &mut self.memory.paused {
            // Figures alone are no news.
            let same_kind =
                paused.told.state == state && paused.told.reason.contains(DISK_FAILS) == disk_fails;
            if same_kind {
                return;
            }
            paused.told = MemoryState { state, reason: reason.clone() };
        }
        self.send(WorkerToScheduler::Memory(MemoryState { state, reason }));
    }

    fn shortage(&self) -> String {
        let memory = &self.memory;
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let in_memory = self.in_memory_bytes();
        let mut text = format!(
            "the process occupied {} MiB of {} MiB when it was measured last: results {} MiB, of which {} MiB cannot be \
             pickled; the rest is not managed by taskloom (a leak, caches, free memory that was not \
             given back)",
            mib(memory.resident_bytes),
            mib(memory.limits.limit_bytes),
            mib(in_memory),
            mib(memory.kept_bytes),
        );
        if memory.disk_fails {
            text.push_str(DISK_FAILS);
        }
        if !memory.has_run() {
            text.push_str(
                "; no task has run in it yet, so a new process would not help: raise memory_limit=",
            );
        }
        text
    }

    /// What has not started is for others to run.
    pub(super) fn give_back_queue(&mut self) {
        let waits = |(task, local): (&TaskId, &super::LocalTask)| {
            let run = local.run.as_ref().filter(|run| !run.has_started());
            run.map(|run| (*task, run.attempt))
        };
        let mut unstarted: Vec<(TaskId, Attempt)> = self.tasks.iter().filter_map(waits).collect();
        unstarted.sort_unstable();
        self.give_back(&unstarted);
        let is_ordered = |(task, local): (&TaskId, &super::LocalTask)| {
            (local.acquired && local.data.is_none()).then_some(*task)
        };
        let mut ordered: Vec<TaskId> = self.tasks.iter().filter_map(is_ordered).collect();
        ordered.sort_unstable();
        for task in ordered {
            self.decline(task, PAUSED);
        }
    }

    /// Gives unstarted runs back to the scheduler, unasked.
    pub(super) fn give_back(&mut self, runs: &[(TaskId, Attempt)]) {
        for (task, attempt) in runs.iter().copied() {
            self.take_back_run(task);
            let answer = Retracted { task, attempt, given_back: true };
            self.send(WorkerToScheduler::Retracted(answer));
        }
        // Only now: among them are those that wait for one another.
        for (task, _) in runs {
            self.orphan_waiters(*task, true);
        }
    }
}

/// Why a worker takes no copy.
pub(super) const PAUSED: &str = "the worker's memory is short";
const DISK_FAILS: &str = "; nothing can go to disk: no room, or no permission";

impl Worker {
    /// # Errors
    /// The first broken invariant.
    pub(super) fn validate_memory(&self) -> Result<(), String> {
        let mut pins: Map<TaskId, u16> = Map::default();
        for serial in self.memory.loads.admitted.keys() {
            let runs = self.tasks.values().filter_map(|local| local.run.as_ref());
            let Some(run) = runs.into_iter().find(|run| run.serial == *serial) else {
                return Err("a run that is gone holds results in memory".into());
            };
            for dep in run.call.iter().flat_map(|call| &call.deps) {
                *pins.entry(*dep).or_default() += 1;
            }
        }
        let (mut spilled, mut spilled_bytes, mut kept_bytes, mut writing) = (0, 0, 0, 0);
        for (task, local) in &self.tasks {
            let Some(data) = &local.data else { continue };
            if data.pins != pins.get(task).copied().unwrap_or(0) {
                return Err(format!("task {task} is pinned by nobody: {local:?}"));
            }
            match data.place {
                Place::Memory | Place::Both => {}
                Place::Kept => kept_bytes += data.size_bytes,
                Place::Writing => writing += 1,
                Place::Disk | Place::Reading => {
                    spilled += 1;
                    spilled_bytes += data.size_bytes;
                }
            }
            let is_read = self.memory.loads.reading.contains_key(task);
            let is_written = self.memory.writing.contains_key(task);
            if is_read != (data.place == Place::Reading)
                || is_written != (data.place == Place::Writing)
            {
                return Err(format!("task {task}: its transfer is not known: {local:?}"));
            }
        }
        let counted = (spilled, spilled_bytes, kept_bytes, writing);
        let memory = &self.memory;
        let known = (memory.spilled, memory.spilled_bytes, memory.kept_bytes, memory.writing.len());
        if counted != known {
            return Err(format!("memory is counted as {known:?}, not {counted:?}"));
        }
        let written: u64 = memory.writing.values().map(|(_, bytes)| bytes).sum();
        if written != memory.writing_bytes {
            return Err("bytes on their way to disk are counted wrongly".into());
        }
        let has_queue =
            |local: &super::LocalTask| local.run.as_ref().is_some_and(|run| !run.has_started());
        if memory.is_paused() && self.tasks.values().any(has_queue) {
            return Err("it is paused, and keeps a queue".into());
        }
        Ok(())
    }
}
