//! How many workers the work at hand deserves, and which of them can be spared.

use super::Scheduler;
use super::questions::Afterwards;
use super::task::State;
use super::worker_table::WorkerSlot;
use taskloom_proto::Value;
use taskloom_proto::client::{Adapt, Answer};
use taskloom_types::Nanos;

/// What a task is taken to last when none runs that could tell, in ns.
const UNKNOWN_NS: u64 = Nanos::SECOND / 2;

impl Scheduler {
    /// Retires what may be spared, within what was asked, and says how many workers are wanted.
    pub(super) fn adapt(&mut self, ask: &Adapt) -> Answer {
        let retired: Vec<Value> =
            (0..ask.close).map_while(|_| self.retire_spare(&ask.workers)).collect();
        Answer::ok(Value::map([
            ("target", Value::from(self.wanted_workers(ask))),
            ("workers", Value::from(self.staying().count())),
            ("retired", Value::List(retired)),
        ]))
    }

    fn staying(&self) -> impl Iterator<Item = WorkerSlot> + '_ {
        self.workers.slots().filter(|slot| !self.workers[*slot].leaving)
    }

    /// So many that the work takes `target_ns`, but no more than have something to run; twice as
    /// many as now when their memory is more than 60 % full.
    fn wanted_workers(&self, ask: &Adapt) -> u64 {
        let threads = u64::from(ask.threads.max(1));
        let (mut active, mut work_ns) = (0u64, 0u64);
        let (mut held, mut limit, mut count) = (0u64, 0u64, 0u64);
        for slot in self.staying() {
            let worker = &self.workers[slot];
            active += u64::from(worker.active);
            work_ns = work_ns.saturating_add(worker.occupancy_ns);
            held = held.saturating_add(worker.held_bytes);
            limit = limit.saturating_add(worker.info.memory_limit);
            count += 1;
        }
        let count_of = |state: State| self.state_counts[state as usize];
        let waiting = count_of(State::Queued) + count_of(State::NoWorker);
        // What waits is taken to be like what runs.
        let each_ns = work_ns.checked_div(active).unwrap_or(UNKNOWN_NS);
        let all_ns = work_ns.saturating_add(waiting.saturating_mul(each_ns));
        let for_time = all_ns.div_ceil(ask.target_ns.max(1).saturating_mul(threads));
        let runnable = waiting + active;
        let for_work = for_time.min(runnable.div_ceil(threads)).max(u64::from(runnable > 0));
        let is_full = limit > 0 && held / 6 > limit / 10;
        if is_full { for_work.max(2 * count) } else { for_work }
    }

    /// Retires the idle worker that holds least, if one of these can go without a loss.
    fn retire_spare(&mut self, names: &[String]) -> Option<Value> {
        let may_go = |slot: &WorkerSlot| {
            names.contains(&self.workers[*slot].info.name) && self.can_be_spared(*slot)
        };
        let slot = self
            .staying()
            .filter(may_go)
            // Of equal ones the newest.
            .min_by_key(|slot| {
                let worker = &self.workers[*slot];
                (worker.held_bytes, std::cmp::Reverse(worker.number))
            })?;
        let name = Value::from(self.workers[slot].info.name.as_str());
        self.retire(slot, Afterwards::Close);
        Some(name)
    }

    /// Whether it does nothing, and others that stay hold all that it holds, or can take it over.
    fn can_be_spared(&self, slot: WorkerSlot) -> bool {
        let worker = &self.workers[slot];
        let stays = |other: &WorkerSlot| *other != slot && !self.workers[*other].leaving;
        worker.processing.is_empty()
            && worker.held.iter().all(|index| match self.lives_on(*index, slot) {
                true => self.can_be_handed_over(*index),
                false => self.tasks[*index].replicas.iter().any(stays),
            })
    }
}
