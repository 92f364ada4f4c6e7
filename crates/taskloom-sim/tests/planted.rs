//! Rules broken on purpose: the simulator must find each within 20,000 seeds, and make the run that
//! shows it small. `cargo test --release -p taskloom-sim --features planted --test planted`; with
//! `-- --nocapture` it tells which seed shows what. `TASKLOOM_FAULT` names those to look for alone.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use taskloom_core::planted::Fault;
use taskloom_sim::{Failure, Part, Settings, first_failure, run, run_part, shrink};

/// Seeds within which a fault must show.
const SEEDS: u64 = 20_000;
/// These show too seldom to be sought in every run of the tests.
const SELDOM: [Fault; 1] = [Fault::ReplicaReplacesRun];
/// Steps and tasks that a shrunk run has at most, with few exceptions.
const SMALL: usize = 30;

fn with(fault: Fault) -> Settings {
    Settings { planted: Some(fault), ..Settings::default() }
}

fn find(fault: Fault) -> Option<Failure> {
    first_failure(0..SEEDS, with(fault))
}

/// What was found of a fault.
struct Found {
    fault: Fault,
    /// `None`: nothing. Otherwise how many steps and tasks are left of the run that shows it.
    events: Option<usize>,
    /// What is wrong with the rules even without it.
    sick: Option<String>,
}

fn look_for(fault: Fault) -> Found {
    let Some(failure) = find(fault) else { return Found { fault, events: None, sick: None } };
    let shrunk = shrink(&failure, with(fault));
    let (seed, broken) = (failure.seed, &failure.broken);
    println!("{fault:?} shows at seed {seed} with {} events: {broken}", shrunk.events);
    let parts = [Part::default(), shrunk.failure.part.clone()];
    let without = |part: &Part| run_part(seed, Settings::default(), part).err();
    let sick = parts.iter().find_map(without).map(|failure| failure.to_string());
    Found { fault, events: Some(shrunk.events), sick }
}

/// Looks for all faults that are meant, on all cores.
fn look_for_all() -> Vec<Found> {
    let only = std::env::var("TASKLOOM_FAULT").ok();
    let is_meant = |fault: &Fault| match &only {
        Some(names) => names.split(',').any(|name| name == format!("{fault:?}")),
        None => !SELDOM.contains(fault),
    };
    let faults: Vec<Fault> = Fault::ALL.iter().copied().filter(is_meant).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = look_for(*fault);
                    found.lock().expect("no rule is broken here").push(one);
                }
            });
        }
    });
    found.into_inner().expect("all threads have ended")
}

#[test]
fn every_planted_fault_is_found_and_what_shows_it_is_clean_without_it() {
    // An assertion in the rules is a find as well.
    std::panic::set_hook(Box::new(|_| ()));
    let found = look_for_all();
    let _ = std::panic::take_hook();
    let sick: Vec<_> = found.iter().filter_map(|one| one.sick.as_ref()).collect();
    assert!(sick.is_empty(), "without any fault: {sick:?}");
    let of = |is_it: fn(&Found) -> bool| -> Vec<Fault> {
        found.iter().filter(|one| is_it(one)).map(|one| one.fault).collect()
    };
    let missed = of(|one| one.events.is_none());
    assert!(missed.is_empty(), "not found: {missed:?}");
    let large = of(|one| one.events.is_some_and(|events| events > SMALL));
    assert!(large.len() <= Fault::ALL.len() / 5, "not made small: {large:?}");
}

#[test]
fn at_least_25_of_the_faults_are_historical() {
    let faults: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.scenario()).collect();
    assert!(faults.len() > 25, "{faults:?}");
}

#[test]
fn a_run_without_a_planted_fault_is_clean_in_the_same_build() {
    for seed in 0..200 {
        assert!(run(seed, Settings::default()).is_ok(), "seed {seed}");
    }
}

#[test]
fn a_shrunk_run_fails_with_the_same_invariant_when_it_is_replayed() {
    let fault = Fault::ScatterWaitsForever;
    let failure = find(fault).expect("it is found");
    let shrunk = shrink(&failure, with(fault));
    let again = run_part(failure.seed, with(fault), &shrunk.failure.part);
    let again = again.expect_err("it fails again");
    assert_eq!(again.broken, shrunk.failure.broken);
    assert_eq!(again.broken.invariant, failure.broken.invariant);
    assert!(shrunk.events < 10, "{shrunk}");
}
