//! Results on disk that a run needs: read before the run takes a slot, by priority, and no more
//! of them at a time than there is room for. What is read for a run stays in memory until the run
//! starts.

use super::memory::{Place, Ticket};
use super::runs::RunState;
use super::{Action, Map, Worker};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::{Attempt, Nanos, Priority, TaskId};

/// Read for runs that have not started, where no limit of memory is known.
const DEFAULT_BUDGET: u64 = 256 * 1024 * 1024;

/// Runs that wait for the disk.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// Runs whose inputs are all here, some of them on disk. Some entries are of runs that are
    /// gone.
    queue: BinaryHeap<Reverse<(Priority, u64, TaskId)>>,
    /// Runs for which values are read or were, by serial, and how many bytes.
    pub(super) admitted: Map<u64, u64>,
    admitted_bytes: u64,
    pub(super) reading: Map<TaskId, Ticket>,
}

impl Worker {
    /// A run's inputs are all here: it is ready, or some of them are to be read first.
    pub(super) fn inputs_are_here(&mut self, task: TaskId) {
        if self.memory.has_spilled() && self.needs_disk(task) {
            self.queue_load(task);
            self.start_loads();
        } else {
            self.make_ready(task);
        }
    }

    fn needs_disk(&self, task: TaskId) -> bool {
        let run = self.tasks.get(&task).and_then(|t| t.run.as_ref());
        let deps = run.and_then(|run| run.call.as_ref()).map(|call| &call.deps);
        deps.is_some_and(|deps| deps.iter().any(|dep| !self.is_in_memory(*dep)))
    }

    fn is_in_memory(&self, task: TaskId) -> bool {
        let data = self.tasks.get(&task).and_then(|t| t.data.as_ref());
        data.is_some_and(|data| data.place.is_in_memory())
    }

    /// A run that is about to start: whether it has to wait for the disk after all, since inputs
    /// have left memory while it stood in the queue.
    pub(super) fn puts_off(&mut self, task: TaskId) -> bool {
        if !self.memory.has_spilled() || !self.needs_disk(task) {
            return false;
        }
        let run = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut());
        let Some(flags) = run.and_then(|run| run.call.as_ref()).map(|call| call.flags) else {
            return false;
        };
        self.queue_of(flags).live -= 1;
        self.queue_load(task);
        self.start_loads();
        true
    }

    fn queue_load(&mut self, task: TaskId) {
        let Some(run) = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut()) else { return };
        let Some(call) = &run.call else { return };
        run.state = RunState::OnDisk;
        self.memory.loads.queue.push(Reverse((call.priority, run.serial, task)));
    }

    fn load_budget(&self) -> u64 {
        let limits = self.memory.limits();
        match (limits.target_bytes, limits.limit_bytes) {
            (0, 0) => DEFAULT_BUDGET,
            (0, limit) => limit / 4,
            (target, _) => target / 4,
        }
    }

    /// Reads for the best runs, at least for one.
    pub(super) fn start_loads(&mut self) {
        if self.memory.is_paused() {
            return;
        }
        while let Some(Reverse((_, serial, task))) = self.memory.loads.queue.peek().copied() {
            let bytes = self.bytes_to_load(task, serial);
            if bytes.is_some_and(|bytes| self.must_wait(bytes)) {
                return;
            }
            self.memory.loads.queue.pop();
            if let Some(bytes) = bytes {
                self.admit_load(task, serial, bytes);
            }
        }
    }

    /// Whether so much is not to be read now, but after what is read already has been used. What
    /// runs is not waited for: it may not end before this does.
    fn must_wait(&self, bytes: u64) -> bool {
        let loads = &self.memory.loads;
        let is_over_budget = loads.admitted_bytes.saturating_add(bytes) > self.load_budget();
        !loads.admitted.is_empty() && (is_over_budget || bytes > self.room_bytes())
    }

    /// `None`: the run is gone.
    fn bytes_to_load(&self, task: TaskId, serial: u64) -> Option<u64> {
        let run = self.tasks.get(&task)?.run.as_ref()?;
        if run.serial != serial || run.state != RunState::OnDisk {
            return None;
        }
        let deps = run.call.as_ref()?.deps.iter();
        let data = deps.filter_map(|dep| self.tasks.get(dep)?.data.as_ref());
        Some(data.filter(|d| !d.place.is_in_memory()).map(|d| d.size_bytes).sum())
    }

    /// Has a run's inputs read, and all of them stay.
    fn admit_load(&mut self, task: TaskId, serial: u64, bytes: u64) {
        let run = self.tasks.get(&task).and_then(|t| t.run.as_ref());
        let Some(deps) = run.and_then(|run| run.call.as_ref()).map(|call| call.deps.clone()) else {
            return;
        };
        self.memory.loads.admitted.insert(serial, bytes);
        self.memory.loads.admitted_bytes += bytes;
        let mut missing = 0;
        for dep in deps {
            let Some(local) = self.tasks.get_mut(&dep) else { continue };
            let Some(data) = &mut local.data else { continue };
            data.pins += 1;
            if data.place.is_in_memory() {
                continue;
            }
            local.waiters.push((task, serial));
            missing += 1;
            if data.place == Place::Disk {
                data.place = Place::Reading;
                let ticket = self.memory.next_ticket();
                self.memory.loads.reading.insert(dep, ticket);
                self.actions.push(Action::Unspill { task: dep, ticket });
            }
        }
        if missing == 0 {
            self.make_ready(task);
        } else if let Some(run) = self.tasks.get_mut(&task).and_then(|t| t.run.as_mut()) {
            run.state = RunState::Loading(missing);
        }
    }

    /// A run starts or goes: its inputs may leave memory again, and others may be read.
    pub(super) fn release_load(&mut self, serial: u64, deps: &[TaskId]) {
        let Some(bytes) = self.memory.loads.admitted.remove(&serial) else { return };
        self.memory.loads.admitted_bytes -= bytes;
        for dep in deps {
            if let Some(data) = self.tasks.get_mut(dep).and_then(|t| t.data.as_mut()) {
                data.pins = data.pins.saturating_sub(1);
            }
        }
        self.start_loads();
    }

    /// A value was read. True: the shell keeps it, and the file if `has_file`; false: it is of no
    /// use.
    pub fn on_loaded(&mut self, task: TaskId, ticket: Ticket, has_file: bool) -> bool {
        if self.memory.loads.reading.get(&task) != Some(&ticket) {
            return false;
        }
        let clock = self.memory.clock;
        let Some(data) = self.tasks.get_mut(&task).and_then(|t| t.data.as_mut()) else {
            return false;
        };
        data.place = if has_file { Place::Both } else { Place::Memory };
        data.used = clock;
        let size_bytes = data.size_bytes;
        self.leave_disk(task, size_bytes);
        self.wake_waiters(task);
        self.check_target();
        true
    }

    /// A value cannot be read: it is lost. The scheduler has it made again.
    pub fn on_load_failed(&mut self, now: Nanos, task: TaskId, ticket: Ticket) {
        if self.memory.loads.reading.get(&task) == Some(&ticket) {
            self.lose_value(now, task);
        }
    }

    /// A value that is on disk cannot be read by whoever was to send it to a peer.
    pub fn on_unreadable(&mut self, now: Nanos, task: TaskId) {
        let data = self.tasks.get(&task).and_then(|t| t.data.as_ref());
        if data.is_some_and(|data| !data.place.is_in_memory()) {
            self.lose_value(now, task);
        }
    }

    fn lose_value(&mut self, now: Nanos, task: TaskId) {
        let was_reported = self.tasks.get(&task).and_then(|t| t.data.as_ref());
        if was_reported.is_some_and(|data| data.reported) {
            self.send(WorkerToScheduler::Lost(vec![task]));
        }
        let needs = |run: &super::runs::Run| {
            let mut deps = run.call.iter().flat_map(|call| &call.deps);
            !run.has_started() && deps.any(|dep| *dep == task)
        };
        let mut runs: Vec<(TaskId, Attempt)> = self
            .tasks
            .iter()
            .filter_map(|(other, local)| Some((*other, local.run.as_ref()?)))
            .filter(|(_, run)| needs(run))
            .map(|(other, run)| (other, run.attempt))
            .collect();
        runs.sort_unstable();
        // Without users an unreported value has gone by itself.
        self.give_back(&runs);
        self.drop_value(task);
        self.forget_if_idle(task);
        self.start_fetches(now);
    }
}
