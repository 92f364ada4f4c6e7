//! Watching for an answer that comes at once, before going to sleep for it.
//!
//! A call to a worker and back wakes four sleeping threads. On an idle machine each wake-up goes
//! to another, halted processor, which costs tens of microseconds; the sleep of the caller is
//! one of them, and makes its processor one more that halts. A caller that stays awake for the
//! first moments saves that. It gives its processor away at each look, so that on a busy machine
//! others run in its place, and it stops trying when answers are slow: a program whose tasks
//! take long pays for one look in every hundred waits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a caller stays awake. A round trip to an idle worker takes less.
const PATIENCE: Duration = Duration::from_micros(100);
/// At most so many waits sleep at once after one that was watched in vain.
const MOST_SKIPPED: u32 = 127;

/// The watch of one process: one thread at a time, and only while watching pays.
#[derive(Debug, Default)]
pub struct Watch {
    is_taken: AtomicBool,
    /// How many of the next waits are not watched.
    skip: AtomicU32,
    /// How many were skipped after the last watch in vain; doubles each time.
    penalty: AtomicU32,
}

impl Watch {
    /// The watch of this process; `None` on a machine with one processor.
    #[must_use]
    pub fn of_process() -> Option<&'static Self> {
        static WATCH: OnceLock<Option<Watch>> = OnceLock::new();
        let make = || {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            (processors > 1).then(Watch::default)
        };
        WATCH.get_or_init(make).as_ref()
    }

    /// Looks for a moment whether something `is_done`, if that is likely. Returns whether it was
    /// seen; the caller sleeps when it was not.
    pub fn see(&self, is_done: impl Fn() -> bool) -> bool {
        let is_skipped = self.skip.load(Ordering::Relaxed) > 0;
        if is_skipped {
            // Two threads may both take the last one: then one wait more is watched.
            self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok();
            return false;
        }
        if self.is_taken.swap(true, Ordering::Acquire) {
            return false;
        }
        let begun = Instant::now();
        let seen = look(&is_done, begun + PATIENCE);
        self.is_taken.store(false, Ordering::Release);
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

/// Looks until it is done or `end` has come; returns whether it is done.
fn look(is_done: &impl Fn() -> bool, end: Instant) -> bool {
    loop {
        for _ in 0..64 {
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
    use std::cell::Cell;

    #[test]
    fn what_is_done_at_once_is_always_watched() {
        let watch = Watch::default();
        assert!((0..1000).all(|_| watch.see(|| true)));
    }

    #[test]
    fn waits_in_vain_are_watched_ever_less_until_one_pays() {
        let watch = Watch::default();
        let looked = Cell::new(0);
        let never = || {
            looked.set(looked.get() + 1);
            false
        };
        let watched = |waits: u32| {
            (0..waits)
                .filter(|_| {
                    looked.set(0);
                    assert!(!watch.see(never));
                    looked.get() > 0
                })
                .count()
        };
        // 1 + 1 + 3 + 7 + … skipped between them.
        assert_eq!(watched(1 + 1 + 1 + 3 + 1 + 7), 3);
        assert!(watched(1024) < 20);
        // As soon as one is seen, the next are watched again.
        while !watch.see(|| true) {}
        assert_eq!(watched(1), 1);
    }

    #[test]
    fn one_thread_watches_at_a_time() {
        let watch = Watch::default();
        assert!(watch.see(|| {
            assert!(!watch.see(|| true));
            true
        }));
    }
}
