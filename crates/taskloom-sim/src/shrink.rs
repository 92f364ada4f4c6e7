//! Makes a failing run smaller: steps of its plan and tasks of its graphs are left out as long as
//! the same invariant breaks (delta debugging).

use crate::plan::Part;
use crate::world::{Failure, Settings, plan_of, run_part};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs that are tried at most.
const MAX_TRIES: u32 = 3_000;

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
pub(crate) fn outcome(seed: u64, settings: Settings, part: &Part) -> Option<Failure> {
    match catch_unwind(AssertUnwindSafe(|| run_part(seed, settings, part))) {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(Failure::panicked(seed, settings, part, panic.as_ref())),
    }
}

struct Search {
    seed: u64,
    settings: Settings,
    invariant: &'static str,
    best: Failure,
    tries: u32,
}

impl Search {
    /// Whether the same invariant still breaks with this part; then it is the best so far.
    fn fails(&mut self, part: &Part) -> bool {
        if self.tries >= MAX_TRIES {
            return false;
        }
        self.tries += 1;
        let failure = outcome(self.seed, self.settings, part);
        let failure = failure.filter(|failure| failure.broken.invariant == self.invariant);
        match failure {
            Some(failure) => {
                self.best = failure;
                true
            }
            None => false,
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

/// Leaves out what the failure does not need.
#[must_use]
pub fn shrink(failure: &Failure, settings: Settings) -> Shrunk {
    let (seed, part) = (failure.seed, failure.part.clone());
    let settings = Settings { trace: false, ..settings };
    let invariant = failure.broken.invariant;
    let mut search = Search { seed, settings, invariant, best: failure.clone(), tries: 0 };
    let plan = plan_of(seed, settings, &part);
    let all: Vec<usize> = (0..plan.steps.len()).filter(|step| part.plays(*step)).collect();
    let with_steps = |steps: &[usize]| {
        let steps: BTreeSet<usize> = steps.iter().copied().collect();
        Part { steps: Some(steps), left_out: part.left_out.clone() }
    };
    let steps = search.fewest(all, with_steps);
    // With this part, positions are those of the whole graphs.
    let whole = plan_of(seed, settings, &Part::default());
    let tasks: Vec<(usize, usize)> = steps
        .iter()
        .flat_map(|step| (0..whole.tasks_of(*step)).map(move |task| (*step, task)))
        .filter(|task| !part.left_out.contains(task))
        .collect();
    let everything: BTreeSet<(usize, usize)> = steps
        .iter()
        .flat_map(|step| (0..whole.tasks_of(*step)).map(move |task| (*step, task)))
        .collect();
    let with_tasks = |kept: &[(usize, usize)]| {
        let kept: BTreeSet<_> = kept.iter().copied().collect();
        let left_out = everything.difference(&kept).copied().collect();
        Part { steps: Some(steps.iter().copied().collect()), left_out }
    };
    let tasks = search.fewest(tasks, with_tasks);
    let left_out: BTreeSet<_> =
        everything.difference(&tasks.iter().copied().collect()).copied().collect();
    // Fewer tasks may need fewer steps.
    let steps = search.fewest(steps.clone(), |steps| Part {
        steps: Some(steps.iter().copied().collect()),
        left_out: left_out.clone(),
    });
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
