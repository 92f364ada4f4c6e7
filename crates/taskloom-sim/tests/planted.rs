//! Rules broken on purpose: the simulator must find each within 20,000 seeds, and make the run that
//! shows it small. `cargo test --release -p taskloom-sim --features planted --test planted`; with
//! `-- --nocapture` it tells which seed shows what. `TASKLOOM_FAULT` names those to look for alone.

use std::collections::BTreeSet;
use taskloom_core::planted::Fault;
use taskloom_sim::{Failure, Part, Settings, first_failure, run, run_part, shrink};

/// Seeds within which a fault must show.
const SEEDS: u64 = 3_000;
/// Steps and tasks that a shrunk run has at most, with few exceptions.
const SMALL: usize = 30;

fn with(fault: Fault) -> Settings {
    Settings { planted: Some(fault), ..Settings::default() }
}

fn find(fault: Fault) -> Option<Failure> {
    first_failure(0..SEEDS, with(fault))
}

#[test]
fn every_planted_fault_is_found_and_what_shows_it_is_clean_without_it() {
    // An assertion in the rules is a find as well.
    std::panic::set_hook(Box::new(|_| ()));
    let mut missed = Vec::new();
    let mut large = Vec::new();
    let only = std::env::var("TASKLOOM_FAULT").ok();
    let is_meant =
        |fault: &Fault| only.as_ref().is_none_or(|names| names.contains(&format!("{fault:?}")));
    for fault in Fault::ALL.iter().copied().filter(is_meant) {
        let Some(failure) = find(fault) else {
            missed.push(fault);
            continue;
        };
        let shrunk = shrink(&failure, with(fault));
        let (seed, broken) = (failure.seed, &failure.broken);
        println!("{fault:?} shows at seed {seed} with {} events: {broken}", shrunk.events);
        if shrunk.events > SMALL {
            large.push(fault);
        }
        for part in [&Part::default(), &shrunk.failure.part] {
            let healthy = run_part(seed, Settings::default(), part);
            assert!(healthy.is_ok(), "without {fault:?}: {}", healthy.unwrap_err());
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert!(large.len() <= Fault::ALL.len() / 10, "not made small: {large:?}");
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
