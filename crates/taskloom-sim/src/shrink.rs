//! Makes a failing run smaller: steps of its plan and tasks of its graphs are left out as long as
//! the same invariant breaks (delta debugging).

use crate::plan::Part;
use crate::world::{Failure, Report, Settings, plan_of, run_part};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Events of all runs that are tried, at most.
const MAX_EVENTS: u64 = 3_000_000;

/// The smallest failing part that was found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    pub failure: Failure,
    /// The steps that are left, in words, by their time.
    pub script: Vec<String>,
    /// Steps and tasks that are left.
    pub events: usize,
    pub tries: u32,
}

/// A run with its end: an assertion of the rules that fails is a broken invariant as well.
pub(crate) fn outcome(seed: u64, settings: Settings, part: &Part) -> Result<Report, Failure> {
    catch_unwind(AssertUnwindSafe(|| run_part(seed, settings, part)))
        .unwrap_or_else(|panic| Err(Failure::panicked(seed, settings, part, panic.as_ref())))
}

struct Search {
    seed: u64,
    settings: Settings,
    invariant: &'static str,
    best: Failure,
    tries: u32,
    events: u64,
}

impl Search {
    /// Whether the same invariant still breaks with this part; then it is the best so far.
    fn fails(&mut self, part: &Part) -> bool {
        if self.events >= MAX_EVENTS {
            return false;
        }
        self.tries += 1;
        match outcome(self.seed, self.settings, part) {
            Ok(report) => {
                self.events += report.events;
                false
            }
            Err(failure) => {
                self.events += failure.at_event;
                let is_same = failure.broken.invariant == self.invariant;
                if is_same {
                    self.best = failure;
                }
                is_same
            }
        }
    }

    /// The fewest of `items` with which `make` gives a part that fails, as far as leaving out
    /// ever smaller pieces finds it.
    fn fewest<T: Clone>(&mut self, items: Vec<T>, make: impl Fn(&[T]) -> Part) -> Vec<T> {
        let mut kept = items;
        let mut piece = kept.len().div_ceil(2);
        while piece > 0 {
            let mut first = 0;
            let before = kept.len();
            while first < kept.len() {
                let last = (first + piece).min(kept.len());
                let rest: Vec<T> = [&kept[..first], &kept[last..]].concat();
                if self.fails(&make(&rest)) {
                    kept = rest;
                } else {
                    first = last;
                }
            }
            if piece > 1 || kept.len() == before {
                piece /= 2;
            }
        }
        kept
    }
}

/// The part with these steps, and of their tasks with these.
fn with(steps: &[usize], tasks: &[(usize, usize)], all: &[(usize, usize)]) -> Part {
    let tasks: BTreeSet<_> = tasks.iter().copied().collect();
    let left_out = all.iter().filter(|task| !tasks.contains(task)).copied().collect();
    Part { steps: Some(steps.iter().copied().collect()), left_out }
}

/// Leaves out what the failure does not need.
#[must_use]
pub fn shrink(failure: &Failure, settings: Settings) -> Shrunk {
    let (seed, part) = (failure.seed, failure.part.clone());
    let settings = Settings { trace: false, ..settings };
    let invariant = failure.broken.invariant;
    let mut search =
        Search { seed, settings, invariant, best: failure.clone(), tries: 0, events: 0 };
    let whole = plan_of(seed, settings, &Part::default());
    let tasks_of = |steps: &[usize]| -> Vec<(usize, usize)> {
        let of = |step: usize| (0..whole.tasks_of(step)).map(move |task| (step, task));
        steps.iter().flat_map(|step| of(*step)).collect()
    };
    let mut steps: Vec<usize> = (0..whole.steps.len()).filter(|step| part.plays(*step)).collect();
    let mut tasks = tasks_of(&steps);
    tasks.retain(|task| !part.left_out.contains(task));
    // Fewer tasks may need fewer steps, and the other way round.
    loop {
        let before = (steps.len(), tasks.len());
        steps = search.fewest(steps, |steps| with(steps, &tasks, &tasks_of(steps)));
        tasks.retain(|(step, _)| steps.contains(step));
        tasks = search.fewest(tasks, |tasks| with(&steps, tasks, &tasks_of(&steps)));
        if (steps.len(), tasks.len()) == before {
            break;
        }
    }
    let plan = plan_of(seed, settings, &search.best.part);
    let mut left: Vec<_> = steps.iter().filter_map(|step| plan.steps.get(*step)).collect();
    left.sort_by_key(|step| step.at_us);
    let script = left.iter().map(ToString::to_string).collect();
    let events = steps.iter().map(|step| 1 + plan.tasks_of(*step)).sum();
    Shrunk { failure: search.best, script, events, tries: search.tries }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.failure)?;
        writeln!(f, "what is left after {} tries:", self.tries)?;
        self.script.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
