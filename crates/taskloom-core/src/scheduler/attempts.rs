//! Failed attempts: whether another one follows, and when. A pause before it is a deadline of
//! the scheduler; the task waits with the mark `DELAYED` meanwhile.

use super::planted::Fault;
use super::task::{State, mark};
use super::transitions::Step;
use super::{Map, Scheduler};
use foldhash::fast::FixedState;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use taskloom_proto::ErrorInfo;
use taskloom_proto::policy::RetryPolicy;
use taskloom_types::{Attempt, Key, Nanos, TaskId};

/// No pause is longer: 10 years.
const MAX_DELAY_NS: u64 = 315_360_000 * Nanos::SECOND;

/// Tasks that wait for their next attempt, by when it comes.
#[derive(Debug, Default)]
pub struct Delays {
    due: BTreeSet<(Nanos, TaskId)>,
    until: Map<TaskId, Nanos>,
}

impl Delays {
    fn insert(&mut self, task: TaskId, until: Nanos) {
        self.forget(task);
        self.due.insert((until, task));
        self.until.insert(task, until);
    }

    /// The task waits no more.
    pub fn forget(&mut self, task: TaskId) {
        if let Some(until) = self.until.remove(&task) {
            self.due.remove(&(until, task));
        }
    }

    /// When the task is tried again, if it waits for that.
    pub fn until(&self, task: TaskId) -> Option<Nanos> {
        self.until.get(&task).copied()
    }

    pub fn next_deadline(&self) -> Option<Nanos> {
        self.due.first().map(|(until, _)| *until)
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }

    fn pop_due(&mut self, now: Nanos) -> Option<TaskId> {
        let (until, task) = self.due.first().copied().filter(|(until, _)| *until <= now)?;
        self.due.remove(&(until, task));
        self.until.remove(&task);
        Some(task)
    }
}

impl Scheduler {
    /// An attempt failed: another one follows, now or after a pause, or the task fails.
    /// `tell_worker`: the worker does not know yet that the run is over.
    pub(super) fn end_attempt(&mut self, index: u32, mut error: ErrorInfo, tell_worker: bool) {
        let types = std::mem::take(&mut error.types);
        if let Some(delay_ns) = self.next_attempt(index, &error, &types) {
            self.tasks[index].retries_left -= 1;
            self.wait_for_attempt(index, delay_ns, tell_worker);
            return;
        }
        let task = &self.tasks[index];
        error.origin.get_or_insert_with(|| task.key.clone());
        if error.worker.is_empty()
            && let Some(worker) = self.workers.get(task.worker)
        {
            error.worker.clone_from(&worker.info.address);
        }
        self.steps.push(Step::Fail(index, Arc::new(error)));
        self.run_steps();
    }

    /// The pause before the next attempt, in ns; `None`: there is none.
    fn next_attempt(&self, index: u32, error: &ErrorInfo, types: &[String]) -> Option<u64> {
        let task = &self.tasks[index];
        if task.retries_left == 0 {
            return None;
        }
        let Some(policy) = self.policies.get(task.policy) else { return Some(0) };
        let retry = &policy.retry;
        let is_covered = match types {
            [] => retry.covers(std::slice::from_ref(&error.type_name)),
            types => retry.covers(types),
        };
        is_covered.then(|| {
            let number = retry.retries.saturating_sub(task.retries_left);
            jittered(retry, number, &task.key, task.attempt)
        })
    }

    /// processing → waiting, and on when the pause is over.
    fn wait_for_attempt(&mut self, index: u32, delay_ns: u64, tell_worker: bool) {
        self.detach(index, tell_worker);
        self.set_state(index, State::Waiting);
        self.recall_run_ahead(index);
        if delay_ns > 0 {
            self.tasks[index].marks |= mark::DELAYED;
            self.delays.insert(self.tasks.id(index), self.now.after(delay_ns));
        } else if self.tasks[index].waiting_on == 0 {
            self.enqueue(index);
        }
    }

    /// The pauses that are over.
    pub(super) fn end_delays(&mut self) {
        while let Some(id) = self.delays.pop_due(self.now) {
            let Some(index) = self.tasks.get(id) else { continue };
            self.tasks[index].marks &= !mark::DELAYED;
            // An input may have been lost meanwhile: its return queues the task.
            if self.tasks[index].waiting_on == 0 && !self.has(Fault::DelayedForever) {
                self.enqueue(index);
            }
        }
    }
}

/// The pause before a retry, changed by chance that is none: key and attempt decide, so that a
/// replayed run is the same, and tasks that failed together do not come back together.
fn jittered(policy: &RetryPolicy, retry: u32, key: &Key, attempt: Attempt) -> u64 {
    let delay_ns = policy.delay_ns(retry).min(MAX_DELAY_NS);
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(key.as_bytes());
    hasher.write_u32(attempt);
    // From -1 to 1.
    let chance = (hasher.finish() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    let share = f64::from(policy.jitter_permille.min(1000)) / 1000.0;
    let changed = delay_ns as f64 * share.mul_add(chance, 1.0);
    let limit = if policy.max_delay_ns == 0 { MAX_DELAY_NS } else { policy.max_delay_ns };
    (changed as u64).min(limit).min(MAX_DELAY_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_spreads_pauses_around_their_length_and_is_the_same_each_time() {
        let policy = RetryPolicy {
            delays_ns: vec![1_000_000],
            jitter_permille: 250,
            ..RetryPolicy::default()
        };
        let pause = |name: &str| jittered(&policy, 0, &Key::from_text(name), 1);
        let pauses: Vec<u64> = (0..200).map(|n| pause(&format!("task-{n}"))).collect();
        assert!(pauses.iter().all(|pause| (750_000..=1_250_000).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < 850_000));
        assert!(pauses.iter().any(|pause| *pause > 1_150_000));
        assert_eq!(pause("task-7"), pauses[7]);
        let key = Key::from_text("task-7");
        assert_ne!(jittered(&policy, 0, &key, 2), pauses[7]);
        let exact = RetryPolicy { jitter_permille: 0, ..policy };
        assert_eq!(jittered(&exact, 0, &key, 2), 1_000_000);
    }
}
