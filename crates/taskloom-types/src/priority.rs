//! The order in which runnable tasks start. A smaller value runs first.

/// When a submission happened, in steps of 1/1024, so that a task submitted from inside a task
/// can sort just before its parent's siblings (Dask: `generation - 0.01`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    const STEP: u64 = 1024;

    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 / Self::STEP + 1) * Self::STEP)
    }

    /// The generation of work submitted by a task of this generation.
    #[must_use]
    pub fn child(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Dask's `(-user, generation, order)` packed into one integer: comparing is one instruction.
/// Bits, high to low: 32 inverted user priority, 48 generation, 48 order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Priority(pub u128);

impl Priority {
    const MASK_48: u128 = (1 << 48) - 1;

    /// `user`: larger runs earlier. `order`: position in the submission, smaller runs earlier.
    #[must_use]
    pub fn new(user: i32, generation: Generation, order: u64) -> Self {
        let user = (i64::from(i32::MAX) - i64::from(user)) as u128;
        let generation = u128::from(generation.0) & Self::MASK_48;
        let order = u128::from(order) & Self::MASK_48;
        Self((user << 96) | (generation << 48) | order)
    }

    #[must_use]
    pub fn generation(self) -> Generation {
        Generation(((self.0 >> 48) & Self::MASK_48) as u64)
    }

    #[must_use]
    pub fn user(self) -> i32 {
        (i64::from(i32::MAX) - (self.0 >> 96) as i64) as i32
    }

    #[must_use]
    pub fn order(self) -> u64 {
        (self.0 & Self::MASK_48) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_priority_beats_generation_beats_order() {
        let first = Generation::default().next();
        let second = first.next();
        let high = Priority::new(10, second, 9);
        let early = Priority::new(0, first, 9);
        let late = Priority::new(0, second, 0);
        assert!(high < early && early < late);
        assert_eq!((high.user(), high.generation(), high.order()), (10, second, 9));
        assert_eq!(Priority::new(i32::MIN, first, 0).user(), i32::MIN);
    }

    #[test]
    fn children_of_a_task_run_before_its_siblings() {
        let generation = Generation::default().next();
        let child = Priority::new(0, generation.child(), 1_000_000);
        let sibling = Priority::new(0, generation, 1);
        assert!(child < sibling);
    }
}
