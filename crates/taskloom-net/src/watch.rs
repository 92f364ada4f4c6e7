//! Watching for an answer that comes at once, before going to sleep for it.
//!
//! A call to a worker and back wakes four sleeping threads. On an idle machine each wake-up goes
//! to another, halted processor, which costs tens of microseconds; each sleep is one of them, and
//! makes its processor one more that halts. Who stays awake for the first moments saves that. It
//! gives its processor away at each look, so that on a busy machine others run in its place, and
//! it stops trying when answers are slow: a program whose tasks take long pays for one look in
//! every hundred waits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long one stays awake. A round trip to an idle worker takes less.
const PATIENCE: Duration = Duration::from_micros(100);
/// At most so many waits sleep at once after one that was watched in vain.
const MOST_SKIPPED: u32 = 127;

/// Somebody in this process watches: a second would only take a processor from the work.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// One kind of waits of this process, and whether watching pays for them.
#[derive(Debug, Default)]
pub struct Watch {
    /// How many of the next waits are not watched.
    skip: AtomicU32,
    /// How many were skipped after the last watch in vain; doubles each time.
    penalty: AtomicU32,
}

impl Watch {
    #[must_use]
    pub const fn new() -> Self {
        Self { skip: AtomicU32::new(0), penalty: AtomicU32::new(0) }
    }

    /// Looks for a moment whether something `is_done`, if that is likely: `looks` times before
    /// each time that others may have the processor. Returns whether it was seen; the caller
    /// sleeps when it was not.
    pub fn see(&self, looks: u32, is_done: impl FnMut() -> bool) -> bool {
        if self.skip.load(Ordering::Relaxed) > 0 {
            // Two threads may both take the last one: then one wait more is watched.
            self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
            return false;
        }
        if !has_processor_to_spare() || IS_TAKEN.swap(true, Ordering::Acquire) {
            return false;
        }
        let begun = Instant::now();
        let seen = look(looks, is_done, begun + PATIENCE);
        IS_TAKEN.store(false, Ordering::Release);
        // Much later: somebody else had the processor. A sleeper would have been woken sooner.
        let pays = seen && begun.elapsed() < 2 * PATIENCE;
        let penalty = match pays {
            true => 0,
            false => (self.penalty.load(Ordering::Relaxed) * 2 + 1).min(MOST_SKIPPED),
        };
        self.penalty.store(penalty, Ordering::Relaxed);
        self.skip.store(penalty, Ordering::Relaxed);
        seen
    }
}

fn has_processor_to_spare() -> bool {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, usize::from);
    *PROCESSORS.get_or_init(count) > 1
}

/// Looks until it is done or `end` has come; returns whether it is done.
fn look(looks: u32, mut is_done: impl FnMut() -> bool, end: Instant) -> bool {
    loop {
        for _ in 0..looks {
            if is_done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `waits` waits in vain are watched.
    fn watched_in_vain(watch: &Watch, waits: u32) -> usize {
        let is_watched = |_: &u32| {
            let mut looked = false;
            assert!(!watch.see(1, || {
                looked = true;
                false
            }));
            looked
        };
        (0..waits).filter(is_watched).count()
    }

    // One test: the process has one watch at a time.
    #[test]
    fn waits_are_watched_as_long_as_it_pays_and_by_one_thread_at_a_time() {
        let watch = Watch::new();
        if !has_processor_to_spare() {
            assert!(!watch.see(1, || true));
            return;
        }
        // One after another is seen, unless the machine is so busy that it takes too long.
        while !(0..20).all(|_| watch.see(1, || true)) {}
        // 1 + 1 + 3 + 7 waits are skipped between the first ones in vain.
        let watch = Watch::new();
        assert_eq!(watched_in_vain(&watch, 1 + 1 + 1 + 3 + 1 + 7), 3);
        assert!(watched_in_vain(&watch, 1024) < 20);
        // As soon as it pays again, the next are watched again.
        while watch.penalty.load(Ordering::Relaxed) > 0 {
            watch.see(1, || true);
        }
        assert_eq!(watched_in_vain(&watch, 1), 1);
        let (outer, inner) = (Watch::new(), Watch::new());
        assert!(outer.see(1, || {
            assert!(!inner.see(1, || true));
            true
        }));
    }
}
