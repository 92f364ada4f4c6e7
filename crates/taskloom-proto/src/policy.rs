//! What few tasks ask for: a policy for further attempts, limits of a run's time, and how a run
//! is interrupted. All of it is absent, and costs nothing, for tasks that do not ask.

use crate::wire::{DecodeError, Reader, Wire};
use crate::wire_record;
use taskloom_types::{Attempt, TaskId};

wire_record! {
    /// The rarely used options of a task. Tasks with equal ones share one in the scheduler.
    pub struct TaskPolicy {
        pub retry: RetryPolicy,
        /// Run time after which an exception is raised inside the task, in ns; 0: none.
        pub timeout_ns: u64,
        /// Run time after which the worker's process is replaced, in ns; 0: none.
        pub hard_timeout_ns: u64,
        /// How long a cancelled run may go on before its process is replaced, in ns; `None`:
        /// for ever.
        pub cancel_grace_ns: Option<u64>,
    }

    /// When a task that raised is tried again. How often stands in
    /// [`crate::TaskOptions::retries`].
    pub struct RetryPolicy {
        /// `TaskOptions::retries`, from which the number of the next retry follows.
        pub retries: u32,
        /// The pause before each retry in ns; after the last one the rule below goes on.
        pub delays_ns: Vec<u64>,
        /// Each further pause is the one before times this, in thousandths; below 1000: as 1000.
        pub factor_permille: u32,
        /// No pause is longer, in ns; 0: no limit.
        pub max_delay_ns: u64,
        /// By which part of itself a pause changes at most, up or down, in thousandths.
        pub jitter_permille: u32,
        /// Exception types that are tried again, such as `builtins.OSError` or a last part of
        /// such a name; empty: all.
        pub on: Vec<String>,
        /// Exception types that are not.
        pub not_on: Vec<String>,
    }

    /// What a worker watches of one run.
    pub struct RunLimits {
        /// As [`TaskPolicy::timeout_ns`].
        pub timeout_ns: u64,
        /// As [`TaskPolicy::hard_timeout_ns`].
        pub hard_timeout_ns: u64,
    }

    /// A run was cancelled: it is to be interrupted if it still goes on.
    pub struct InterruptRun {
        pub task: TaskId,
        pub attempt: Attempt,
        /// After this time, in ns, the worker reports the run as stuck; `None`: never.
        pub grace_ns: Option<u64>,
    }

    /// A run does not end: its process must be replaced.
    pub struct StuckRun {
        pub task: TaskId,
        pub attempt: Attempt,
        /// How long it has been running, in ns.
        pub running_ns: u64,
    }
}

impl RetryPolicy {
    /// Whether a failure with an exception of these types (the class and its bases) is followed
    /// by another attempt.
    #[must_use]
    pub fn covers(&self, types: &[String]) -> bool {
        let is_one_of = |names: &[String]| {
            names.iter().any(|name| types.iter().any(|kind| is_called(kind, name)))
        };
        (self.on.is_empty() || is_one_of(&self.on)) && !is_one_of(&self.not_on)
    }

    /// The pause before the n-th retry (from 0), in ns, without jitter.
    #[must_use]
    pub fn delay_ns(&self, retry: u32) -> u64 {
        let limit = if self.max_delay_ns == 0 { u64::MAX } else { self.max_delay_ns };
        let given = self.delays_ns.get(retry as usize).copied();
        let delay = given.unwrap_or_else(|| {
            let Some(last) = self.delays_ns.last() else { return 0 };
            let beyond = i32::try_from(retry as usize - (self.delays_ns.len() - 1));
            let factor = f64::from(self.factor_permille.max(1000)) / 1000.0;
            // Saturates: a conversion of a too large float gives the largest integer.
            (*last as f64 * factor.powi(beyond.unwrap_or(i32::MAX))) as u64
        });
        delay.min(limit)
    }
}

impl TaskPolicy {
    /// What the worker has to watch, if anything.
    #[must_use]
    pub fn limits(&self) -> Option<Box<RunLimits>> {
        let limits =
            RunLimits { timeout_ns: self.timeout_ns, hard_timeout_ns: self.hard_timeout_ns };
        (limits != RunLimits::default()).then(|| Box::new(limits))
    }
}

/// Whether `name` is the type's whole name or, with or without its module, the end of it.
fn is_called(kind: &str, name: &str) -> bool {
    kind.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl<T: Wire> Wire for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(T::read(reader)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_type_is_meant_by_its_whole_name_or_its_end() {
        let types = names(&["my.errors.Odd", "builtins.OSError", "builtins.Exception"]);
        let covers = |on: &[&str], not_on: &[&str]| {
            let policy =
                RetryPolicy { on: names(on), not_on: names(not_on), ..RetryPolicy::default() };
            policy.covers(&types)
        };
        assert!(covers(&[], &[]));
        assert!(covers(&["OSError"], &[]) && covers(&["errors.Odd"], &[]));
        assert!(covers(&["builtins.Exception"], &[]));
        assert!(!covers(&["SError"], &[]) && !covers(&["ValueError"], &[]));
        assert!(!covers(&["OSError"], &["Odd"]) && covers(&[], &["ValueError"]));
        assert!(!covers(&[""], &[]));
    }

    #[test]
    fn delays_are_the_given_ones_and_then_grow_up_to_a_limit() {
        let policy = RetryPolicy {
            delays_ns: vec![5, 100],
            factor_permille: 2000,
            max_delay_ns: 700,
            ..RetryPolicy::default()
        };
        let delays: Vec<u64> = (0..6).map(|retry| policy.delay_ns(retry)).collect();
        assert_eq!(delays, [5, 100, 200, 400, 700, 700]);
        assert_eq!(policy.delay_ns(u32::MAX), 700);
        assert_eq!(RetryPolicy::default().delay_ns(3), 0);
        let constant = RetryPolicy { delays_ns: vec![9], ..RetryPolicy::default() };
        assert_eq!(constant.delay_ns(u32::MAX), 9);
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        let policy = RetryPolicy {
            delays_ns: vec![u64::MAX],
            factor_permille: u32::MAX,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay_ns(u32::MAX), u64::MAX);
    }
}
