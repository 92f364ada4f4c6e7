//! Many seeds on all cores.

use crate::plan::Part;
use crate::shrink::outcome;
use crate::world::{Failure, Report, Settings};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seeds that a thread takes at a time.
const PIECE: u64 = 16;
/// How often somebody is told how far it is.
const NEWS: Duration = Duration::from_secs(5);

/// How far a long run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// All seeds before this one are clean.
    pub clean_to: u64,
    pub per_second: f64,
}

/// What the threads share.
struct Work {
    seeds: Range<u64>,
    next: AtomicU64,
    /// The lowest seed that failed so far: seeds above it need not be tried.
    lowest: AtomicU64,
    failure: Mutex<Option<Failure>>,
    sum: Mutex<Report>,
}

/// Runs all seeds. The sum of their reports does not depend on the number of threads, and the
/// failure is that of the lowest seed.
///
/// # Errors
/// The first failure by seed.
pub fn run_many(
    seeds: Range<u64>,
    settings: Settings,
    tell: impl Fn(Progress) + Sync,
) -> Result<Report, Box<Failure>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work {
        next: AtomicU64::new(seeds.start),
        lowest: AtomicU64::new(seeds.end),
        seeds,
        failure: Mutex::new(None),
        sum: Mutex::new(Report::default()),
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (work, tell) = (&work, &tell);
            scope.spawn(move || {
                let mut told = started;
                while let Some(piece) = work.take() {
                    let first = piece.start;
                    work.run(piece, settings);
                    if number == 0 && told.elapsed() > NEWS {
                        told = Instant::now();
                        let done = first.saturating_sub(work.seeds.start);
                        let per_second = done as f64 / started.elapsed().as_secs_f64();
                        // Other threads may be at seeds of the pieces before.
                        let clean_to = first.saturating_sub(PIECE * threads as u64);
                        let clean_to = clean_to.max(work.seeds.start);
                        tell(Progress { clean_to, per_second });
                    }
                }
            });
        }
    });
    let failure = work.failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let sum = work.sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failure.map_or(Ok(sum), |failure| Err(Box::new(failure)))
}

impl Work {
    /// The next seeds, while no lower one has failed.
    fn take(&self) -> Option<Range<u64>> {
        let first = self.next.fetch_add(PIECE, Ordering::Relaxed);
        let end = self.seeds.end.min(first.saturating_add(PIECE));
        (first < end && first < self.lowest.load(Ordering::Relaxed)).then_some(first..end)
    }

    fn run(&self, seeds: Range<u64>, settings: Settings) {
        let mut sum = Report::default();
        for seed in seeds {
            if seed > self.lowest.load(Ordering::Relaxed) {
                break;
            }
            match outcome(seed, settings, &Part::default()) {
                Ok(report) => sum.add(&report),
                Err(failure) => self.note(failure),
            }
        }
        let mut all = self.sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.add(&sum);
    }

    fn note(&self, failure: Failure) {
        let mut lowest = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lowest.as_ref().is_none_or(|other| failure.seed < other.seed) {
            self.lowest.store(failure.seed, Ordering::Relaxed);
            *lowest = Some(failure);
        }
    }
}

/// The first of these seeds that fails, and how, if any does. On this thread alone.
#[must_use]
pub fn first_failure(mut seeds: Range<u64>, settings: Settings) -> Option<Failure> {
    seeds.find_map(|seed| outcome(seed, settings, &Part::default()).err())
}
