//! Many seeds of the simulator. `TASKLOOM_SEEDS` sets how many; a failure says how to replay it.

use taskloom_sim::{Failure, Report, Settings, run};

fn seeds(default: u64) -> u64 {
    std::env::var("TASKLOOM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the seeds below `count` on as many threads as there are cores. The first failure by
/// seed, or the sum.
fn run_all(count: u64, settings: Settings) -> Result<Report, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = |first: u64| {
        let mut sum = Report::default();
        for seed in (first..count).step_by(threads as usize) {
            sum.add(&run(seed, settings)?);
        }
        Ok(sum)
    };
    let parts: Vec<Result<Report, Failure>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        started.into_iter().map(|thread| thread.join().expect("no rule panics")).collect()
    });
    let failure = parts.iter().filter_map(|part| part.as_ref().err()).min_by_key(|f| f.seed);
    if let Some(failure) = failure {
        return Err(failure.clone());
    }
    let mut sum = Report::default();
    parts.into_iter().flatten().for_each(|part| sum.add(&part));
    Ok(sum)
}

fn assert_clean(outcome: Result<Report, Failure>) -> Report {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_future_ends_as_it_should_and_nothing_is_left_in_many_small_worlds() {
    let count = seeds(10_000);
    let sum = assert_clean(run_all(count, Settings::default()));
    println!("{count} seeds: {sum:?}");
    // A simulator that causes no trouble proves nothing.
    let troubles = [
        sum.worker_deaths,
        sum.worker_pauses,
        sum.restarts,
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
    assert_clean(run_all(seeds(10_000) / 50, Settings::large()));
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
fn different_seeds_give_different_runs() {
    let traces: std::collections::BTreeSet<u64> =
        (0..200).map(|seed| assert_clean(run(seed, Settings::default())).trace).collect();
    assert_eq!(traces.len(), 200);
}
