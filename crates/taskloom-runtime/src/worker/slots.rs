//! Who may run: `total` slots, and the threads that come and go around them.
//!
//! A thread holds a slot from the start of a task to its end, or until it secedes. Threads that
//! seceded are replaced, so that `total` others can work; when they come back there are too many,
//! and the first that finds nothing to do retires.

/// Idle threads beyond the slots that do not retire.
const SPARE_THREADS: usize = 2;

#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    /// Slots in use.
    running: usize,
    /// Seceded threads that wait for a slot. They go before new tasks.
    rejoining: usize,
    /// All executor threads that were started and have not retired.
    threads: usize,
    /// Threads that are in a task without a slot.
    seceded: usize,
    /// Threads asleep since there was nothing to do.
    sleeping: usize,
}

impl Slots {
    pub(super) fn new(total: usize) -> Self {
        Self { total, running: 0, rejoining: 0, threads: 0, seceded: 0, sleeping: 0 }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn sleeping(&self) -> usize {
        self.sleeping
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Slots that new tasks may take.
    pub(super) fn free(&self) -> usize {
        self.total.saturating_sub(self.running + self.rejoining)
    }

    pub(super) fn has_rejoining(&self) -> bool {
        self.rejoining > 0
    }

    pub(super) fn take(&mut self) {
        self.running += 1;
    }

    pub(super) fn give_back(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    pub(super) fn add_thread(&mut self) {
        self.threads += 1;
    }

    pub(super) fn remove_thread(&mut self) {
        self.threads = self.threads.saturating_sub(1);
    }

    /// More threads than slots, not counting those that seceded. A few stay as a reserve: tasks
    /// that wait for tasks come in swarms.
    pub(super) fn has_surplus_thread(&self) -> bool {
        self.threads.saturating_sub(self.seceded) > self.total + SPARE_THREADS
    }

    /// Leaves a slot inside a task. True: no other thread is there to use it, start one.
    pub(super) fn secede(&mut self) -> bool {
        self.give_back();
        self.seceded += 1;
        self.threads.saturating_sub(self.seceded) < self.total
    }

    /// A task ended whose thread had seceded.
    pub(super) fn end_seceded(&mut self) {
        self.seceded = self.seceded.saturating_sub(1);
    }

    pub(super) fn begin_rejoin(&mut self) {
        self.rejoining += 1;
    }

    pub(super) fn can_rejoin(&self) -> bool {
        self.running < self.total
    }

    pub(super) fn end_rejoin(&mut self) {
        self.rejoining = self.rejoining.saturating_sub(1);
        self.seceded = self.seceded.saturating_sub(1);
        self.running += 1;
    }

    pub(super) fn sleep(&mut self) {
        self.sleeping += 1;
    }

    pub(super) fn wake(&mut self) {
        self.sleeping = self.sleeping.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seceded_threads_are_replaced_and_the_surplus_retires() {
        let mut slots = Slots::new(1);
        slots.add_thread();
        for _ in 0..5 {
            slots.take();
            assert!(slots.secede(), "nobody else can run");
            slots.add_thread();
        }
        assert_eq!((slots.threads(), slots.free()), (6, 1));
        (0..5).for_each(|_| slots.end_seceded());
        while slots.has_surplus_thread() {
            slots.remove_thread();
        }
        assert_eq!(slots.threads(), 1 + SPARE_THREADS);
        // The spare ones are used before new ones are started.
        slots.take();
        assert!(!slots.secede());
    }

    #[test]
    fn who_rejoins_goes_before_new_tasks() {
        let mut slots = Slots::new(1);
        slots.add_thread();
        slots.take();
        slots.secede();
        slots.begin_rejoin();
        assert_eq!(slots.free(), 0);
        assert!(slots.can_rejoin());
        slots.end_rejoin();
        assert_eq!((slots.running(), slots.free()), (1, 0));
    }
}
