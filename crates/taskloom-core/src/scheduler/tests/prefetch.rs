//! How much a worker is sent ahead of its free threads.

use super::*;

/// A worker with two threads, whose tasks so far ended so; then this many more are submitted.
fn sent_of(count: usize, known: Option<Outcome>) -> usize {
    let mut s = Script::anna_and([]);
    s.join(worker("alice").threads(2));
    if let Some(outcome) = known {
        s.submit("anna", [future("known")]);
        s.done_with("alice", "known", outcome);
    }
    let tasks = (0..count).map(|i| future(&format!("t{i}"))).collect();
    s.submit_all("anna", tasks);
    s.processing("alice").len()
}

#[test]
fn of_tasks_of_unknown_length_one_more_per_thread_is_sent() {
    assert_eq!(sent_of(1000, None), 4);
}

#[test]
fn of_short_tasks_about_a_millisecond_per_thread_is_sent() {
    let short = Outcome { size_bytes: 8, ..Outcome::default() };
    assert_eq!(sent_of(1000, Some(short.clone().after_us(10))), 200);
    assert_eq!(sent_of(1000, Some(short.after_us(100))), 20);
}

#[test]
fn of_the_shortest_tasks_no_more_than_a_fixed_number_is_sent() {
    let tiny = Outcome::inline().after_us(0);
    assert_eq!(sent_of(3000, Some(tiny)), 1024);
}

#[test]
fn of_medium_tasks_one_more_per_thread_is_sent() {
    assert_eq!(sent_of(1000, Some(Outcome::inline().after_us(5_000))), 4);
}

#[test]
fn of_long_tasks_none_is_sent_ahead() {
    assert_eq!(sent_of(1000, Some(Outcome::inline().after_us(50_000))), 2);
}

#[test]
fn root_tasks_with_large_results_are_held_back() {
    let large = Outcome::of_bytes(100 << 20).after_us(10);
    assert_eq!(sent_of(1000, Some(large)), 3);
}

#[test]
fn a_short_queue_is_shared_fairly() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::inline().after_us(10));
    let tasks = (0..20).map(|i| future(&format!("t{i}"))).collect();
    s.submit_all("anna", tasks);
    let (alice, bob) = (s.processing("alice").len(), s.processing("bob").len());
    assert_eq!(alice + bob, 20);
    assert!(alice.abs_diff(bob) <= 8, "{alice} and {bob}");
}

#[test]
fn a_run_that_takes_much_longer_than_its_like_shortens_what_is_sent() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::inline().after_us(10));
    s.submit("anna", [future("slow")]);
    s.done_with("alice", "slow", Outcome::inline().after_us(50_000));
    s.submit("anna", [future("a"), future("b")]);
    assert_eq!(s.processing("alice").len(), 1);
}

#[test]
fn memory_of_results_stays_bounded_while_roots_are_reduced() {
    // given: 200 pairs of large parts, each pair reduced to little
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known").prefix("part")]);
    s.done_with("alice", "known", Outcome::of_bytes(50 << 20).after_us(100));
    s.release("anna", &["known"]);
    let mut tasks = Vec::new();
    for pair in 0..200u64 {
        let parts = [format!("a{pair}"), format!("b{pair}")];
        let sum = format!("sum{pair}");
        tasks.extend(parts.iter().map(|part| step(part).prefix("part").order(3 * pair)));
        tasks.push(future(&sum).needs(&[&parts[0], &parts[1]]).prefix("sum").order(3 * pair + 2));
    }
    s.submit_all("anna", tasks);
    // when: all run, one after the other
    let mut most = 0;
    while let Some(key) = s.processing("alice").first().cloned() {
        let is_part = !key.starts_with("sum");
        let result = if is_part { Outcome::of_bytes(50 << 20) } else { Outcome::inline() };
        s.done_with("alice", &key, result.after_us(100));
        let slot = s.scheduler.workers.slot(s.number("alice")).unwrap();
        most = most.max(s.scheduler.workers[slot].held_bytes);
    }
    // then: never more than a few parts were held
    assert!(most <= 6 * (50 << 20), "{} MiB", most >> 20);
}
