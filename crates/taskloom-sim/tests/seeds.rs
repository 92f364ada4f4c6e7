//! Many seeds of the simulator. `TASKLOOM_SEEDS` sets how many; a failure says how to replay it.

use std::collections::BTreeSet;
use taskloom_sim::{Failure, Report, Settings, run, run_many, shrink};

fn seeds(default: u64) -> u64 {
    std::env::var("TASKLOOM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[track_caller]
fn clean(count: u64, settings: Settings) -> Report {
    run_many(0..count, settings, |_| ())
        .unwrap_or_else(|failure| panic!("{}", shrink(&failure, settings)))
}

#[track_caller]
fn assert_clean(outcome: Result<Report, Failure>) -> Report {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_future_ends_as_it_should_and_nothing_is_left_in_many_small_worlds() {
    let count = seeds(1_500);
    let sum = clean(count, Settings::default());
    println!("{count} seeds: {sum:?}");
    // A simulator that causes no trouble proves nothing.
    let troubles = [
        sum.worker_deaths,
        sum.worker_pauses,
        sum.frozen,
        sum.spilled,
        sum.unspilled,
        sum.disk_losses,
        sum.memory_pauses,
        sum.spared_copies,
        sum.network_faults,
        sum.clock_jumps,
        sum.restarts,
        sum.scheduler_restarts,
        sum.client_sessions,
        sum.scattered,
        sum.requests,
        sum.shared,
        sum.stale_messages,
        sum.recomputed,
        sum.stolen,
        sum.retracted,
        sum.run_ahead,
        sum.collisions,
        sum.interrupted,
        sum.processes_replaced,
    ];
    assert!(count < 1_000 || troubles.iter().all(|seen| *seen > 0), "{sum:?}");
}

#[test]
fn larger_graphs_end_as_they_should() {
    clean(seeds(1_500) / 50, Settings::large());
}

#[test]
fn the_same_seed_gives_the_same_run_message_by_message() {
    let settings = Settings { hash_messages: true, ..Settings::default() };
    for seed in 0..100 {
        let first = assert_clean(run(seed, settings));
        let second = assert_clean(run(seed, settings));
        assert_eq!((first.events, first.trace), (second.events, second.trace), "seed {seed}");
    }
}

#[test]
fn many_seeds_give_the_same_sum_however_they_are_shared_out() {
    let together = clean(50, Settings::default());
    let mut one_by_one = Report::default();
    (0..50).for_each(|seed| one_by_one.add(&assert_clean(run(seed, Settings::default()))));
    assert_eq!((together.events, together.trace), (one_by_one.events, one_by_one.trace));
}

#[test]
fn different_seeds_give_different_runs() {
    let traces: BTreeSet<u64> =
        (0..200).map(|seed| assert_clean(run(seed, Settings::default())).trace).collect();
    assert_eq!(traces.len(), 200);
}
