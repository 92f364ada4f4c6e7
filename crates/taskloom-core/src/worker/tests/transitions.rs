//! One transition, one test.

use super::*;

#[test]
fn runs_start_by_priority_and_equal_ones_in_the_order_they_came() {
    let mut s = Script::new();
    s.compute([run(1).order(5), run(2).order(3), run(3).order(5), run(4).order(1)]);
    assert_eq!(s.worker.ready_count(), 4);
    assert_eq!(s.start_all(), [4, 2, 1, 3]);
    assert_eq!(s.worker.ready_count(), 0);
}

#[test]
fn a_finished_run_is_kept_until_it_is_freed() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    assert!(s.finish(1, 1));
    assert_eq!(s.worker.managed_bytes(), 10);
    assert_eq!(s.worker.held_tasks().collect::<Vec<_>>(), [task(1)]);
    assert_eq!(s.free(&[1]), [drop_value(1)]);
    s.assert_empty();
}

#[test]
fn a_task_runs_ahead_of_its_input_that_is_made_here() {
    let mut s = Script::new();
    // The dependent comes first in the message: order within it does not matter.
    assert_eq!(s.compute([run(2).needs(1), run(1)]), []);
    assert_eq!(s.start_all(), [1]);
    s.finish(1, 1);
    assert_eq!(s.start_all(), [2]);
}

#[test]
fn an_inline_input_goes_with_the_last_run_that_needs_it() {
    let mut s = Script::new();
    let value = b"xyz";
    let actions = s.compute([run(2).needs_inline(1, value), run(3).needs_inline(1, value)]);
    let store = Action::StoreInline { task: task(1), value: SmallBytes::copy_of(value) };
    assert_eq!(actions, [store]);
    assert_eq!(s.worker.held_tasks().count(), 0);
    s.start();
    assert_eq!(s.drained(), []);
    s.start();
    assert_eq!(s.drained(), [drop_value(1)]);
    assert_eq!(s.worker.managed_bytes(), 0);
}

#[test]
fn a_fetched_input_is_reported_and_stays() {
    let mut s = Script::new();
    assert_eq!(s.compute([run(2).needs_from(1, 10, &[ALICE])]), [fetch(ALICE, &[1])]);
    assert_eq!(s.start(), None);
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [report_fetched(&[1])]);
    assert_eq!(s.start(), Some(2));
    assert_eq!(s.drained(), []);
    assert!(s.worker.has_value(task(1)));
}

#[test]
fn one_peer_is_asked_by_priority_within_the_size_limit_one_request_at_a_time() {
    let mut s = Script::new();
    let first = s.compute([
        run(11).order(9).needs_from(1, 60, &[ALICE]),
        run(12).order(1).needs_from(2, 60, &[ALICE]),
        run(13).order(5).needs_from(3, 40, &[ALICE]),
    ]);
    assert_eq!(first, [fetch(ALICE, &[2, 3])]);
    let next = s.fetched(ALICE, &[(2, VALUE), (3, VALUE)]);
    assert_eq!(next, [report_fetched(&[2, 3]), fetch(ALICE, &[1])]);
}

#[test]
fn a_value_larger_than_the_limit_travels_alone() {
    let mut s = Script::new();
    let big = s.compute([run(9).needs_from(1, 1_000, &[ALICE]).needs_from(2, 1, &[ALICE])]);
    assert_eq!(big, [fetch(ALICE, &[1])]);
}

#[test]
fn several_peers_are_asked_at_the_same_time_up_to_a_limit() {
    let mut s = Script::new();
    s.worker.config.max_peers = 1;
    let first = s.compute([run(11).needs_from(1, 1, &[ALICE]), run(12).needs_from(2, 1, &[BOB])]);
    assert_eq!(first, [fetch(ALICE, &[1])]);
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [report_fetched(&[1]), fetch(BOB, &[2])]);
}

#[test]
fn a_peer_that_cannot_be_reached_is_left_alone_for_a_while() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 1, &[ALICE])]);
    assert_eq!(s.unreachable(ALICE), [missing(1, &[ALICE])]);
    // The scheduler still believes in alice.
    assert_eq!(s.holders(1, &[ALICE]), []);
    let deadline = s.worker.next_deadline().unwrap();
    s.now = deadline;
    assert_eq!(s.on(|worker, now| worker.on_tick(now)), [fetch(ALICE, &[1])]);
    assert_eq!(s.worker.next_deadline(), None);
}

#[test]
fn all_that_an_unreachable_peer_should_have_given_is_sought_elsewhere_at_once() {
    let mut s = Script::new();
    s.compute([
        run(11).order(1).needs_from(1, 90, &[ALICE]),
        run(12).order(2).needs_from(2, 90, &[ALICE]),
        run(13).order(3).needs_from(3, 90, &[ALICE, BOB]),
    ]);
    let actions = s.unreachable(ALICE);
    assert_eq!(actions, [missing(1, &[ALICE]), missing(2, &[ALICE])]);
}

#[test]
fn a_peer_that_is_gone_is_forgotten_and_what_it_was_to_give_is_sought_elsewhere() {
    let mut s = Script::new();
    s.compute([
        run(11).order(1).needs_from(1, 90, &[ALICE]),
        run(12).order(2).needs_from(2, 90, &[ALICE]),
        run(13).order(3).needs_from(3, 90, &[ALICE, BOB]),
    ]);
    // What is under way may still come.
    assert_eq!(s.gone(ALICE, false), [missing(2, &[ALICE])]);
    assert_eq!(s.worker.peers.len(), 2);
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [report_fetched(&[1])]);
    assert_eq!(s.worker.peers.len(), 1);
    // Words that name it all the same: nothing waits for it.
    assert_eq!(s.compute([run(14).needs_from(4, 1, &[ALICE])]), [missing(4, &[ALICE])]);
    assert_eq!(s.gone(ALICE, false), []);
}

#[test]
fn nothing_is_awaited_from_a_peer_that_fell_silent() {
    let mut s = Script::new();
    s.compute([run(11).needs_from(1, 90, &[ALICE, BOB]), run(12).needs_from(2, 90, &[ALICE])]);
    assert_eq!(s.gone(ALICE, true), [missing(2, &[ALICE]), fetch(BOB, &[1])]);
    assert_eq!(s.worker.peers.len(), 1);
    // Its answer, should it come after all, is taken.
    assert_eq!(s.fetched(ALICE, &[(2, VALUE)]), [report_fetched(&[2])]);
    assert_eq!(s.unreachable(ALICE), []);
    assert_eq!(s.fetched(BOB, &[(1, VALUE)]), [report_fetched(&[1])]);
    assert_eq!(s.start_all(), [11, 12]);
}

#[test]
fn the_scheduler_hears_whether_a_peer_refused_or_said_nothing() {
    for (seconds, is_silence) in [(4, false), (10, true)] {
        let mut s = Script::new();
        s.compute([run(2).needs_from(1, 1, &[ALICE])]);
        s.now = s.now.after(seconds * Nanos::SECOND);
        let asked = [ALICE].into_iter().collect();
        let missing = DepMissing { dep: task(1), asked, is_silence };
        assert_eq!(s.unreachable(ALICE), [Action::Send(WorkerToScheduler::DepMissing(missing))]);
        // It is said of the last time only.
        s.now = s.now.after(Nanos::SECOND);
        assert_eq!(s.holders(1, &[ALICE]), [fetch(ALICE, &[1])]);
        assert_eq!(s.fetched(ALICE, &[(1, MISSING)]), [self::missing(1, &[ALICE])]);
    }
}

#[test]
fn a_holder_that_went_while_another_was_asked_is_not_asked() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 1, &[ALICE, BOB])]);
    assert_eq!(s.gone(BOB, false), []);
    assert_eq!(s.unreachable(ALICE), [missing(1, &[ALICE, BOB])]);
    assert_eq!(s.worker.peers.len(), 1);
}

#[test]
fn a_holder_that_was_never_introduced_counts_as_asked_in_vain() {
    let mut s = Script::new();
    let stranger = WorkerNo(99);
    assert_eq!(s.compute([run(2).needs_from(1, 1, &[stranger])]), [missing(1, &[stranger])]);
    assert_eq!(s.holders(1, &[BOB]), [fetch(BOB, &[1])]);
}

#[test]
fn an_input_that_should_be_here_and_is_not_is_asked_for() {
    let mut s = Script::new();
    assert_eq!(s.compute([run(2).needs(1)]), [missing(1, &[])]);
    // The news that it will come: wait on.
    assert_eq!(s.holders(1, &[]), []);
    let value = SmallBytes::copy_of(b"1");
    let news = DepHolders { dep: task(1), value: Some(value.clone()), ..DepHolders::default() };
    let actions = s.on(|worker, now| worker.on_holders(now, news));
    assert_eq!(actions, [Action::StoreInline { task: task(1), value }]);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn an_input_that_its_holder_cannot_serialize_sends_those_who_need_it_back() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 1, &[ALICE]), run(3).needs(2)]);
    let failed = s.fetched(ALICE, &[(1, FetchOutcome::Failed(boom()))]);
    let unsent = taskloom_proto::worker::UnsentInput {
        task: task(2),
        attempt: 1,
        holder: ALICE,
        error: boom(),
    };
    assert_eq!(failed[0], Action::Send(WorkerToScheduler::Unsent(unsent)));
    // Those that depend on it wait for it to be made elsewhere.
    s.free(&[3]);
    s.assert_empty();
}

#[test]
fn a_value_put_by_a_client_is_kept_and_reported() {
    let mut s = Script::new();
    let actions = s.on(|worker, _| worker.on_stored(scattered(1), 10));
    assert_eq!(actions, [Action::Send(WorkerToScheduler::Stored(vec![(task(1), 10)]))]);
    s.compute([run(2).needs(1)]);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn an_unstarted_run_is_given_back_and_its_fetch_called_off() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 1, &[ALICE])]);
    assert_eq!(s.retract(2, 1), [retracted(2, 1, true)]);
    s.assert_empty();
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [drop_value(1)]);
    assert_eq!(s.worker.counters().unwanted_values, 1);
}

#[test]
fn a_run_is_not_given_back_once_started_or_when_others_here_wait_for_it() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1)]);
    assert_eq!(s.retract(1, 1), [retracted(1, 1, false)]);
    s.start();
    assert_eq!(s.retract(1, 1), [retracted(1, 1, false)]);
    assert_eq!(s.retract(2, 1), [retracted(2, 1, true)]);
    assert_eq!(s.retract(2, 7), [retracted(2, 7, false)]);
}

#[test]
fn freeing_drops_unstarted_runs_and_discards_the_outcome_of_started_ones() {
    let mut s = Script::new();
    s.compute([run(1), run(2)]);
    assert_eq!(s.start(), Some(1));
    assert_eq!(s.free(&[1, 2]), [abandoned(1, 1)]);
    assert_eq!(s.start(), None);
    assert_eq!(s.worker.executing().count(), 1);
    assert!(!s.finish(1, 1));
    assert_eq!(s.worker.executing().count(), 0);
    assert_eq!(s.worker.counters().discarded_outcomes, 1);
    s.assert_empty();
}

#[test]
fn a_freed_input_stays_for_the_runs_that_still_need_it() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.finish(1, 1);
    s.compute([run(2).needs(1)]);
    assert_eq!(s.free(&[1]), []);
    assert_eq!(s.start(), Some(2));
    assert_eq!(s.drained(), [drop_value(1)]);
}

#[test]
fn a_coroutine_waits_in_a_queue_of_its_own() {
    let mut s = Script::new();
    s.compute([run(1).coroutine(), run(2)]);
    assert_eq!((s.worker.ready_count(), s.worker.ready_coroutine_count()), (1, 1));
    assert_eq!(s.worker.next_ready_coroutine(s.now).unwrap().task, task(1));
    assert_eq!(s.start_all(), [2]);
    s.free(&[1, 2]);
    s.assert_empty();
}

#[test]
fn seceding_and_rejoining_are_told_once() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    let seceded = s.on(|worker, _| worker.on_seceded(task(1), 1));
    assert_eq!(seceded, [Action::Send(WorkerToScheduler::Seceded(attempt_of(1, 1)))]);
    assert_eq!(s.on(|worker, _| worker.on_seceded(task(1), 1)), []);
    let rejoined = s.on(|worker, _| worker.on_rejoined(task(1), 1));
    assert_eq!(rejoined, [Action::Send(WorkerToScheduler::Rejoined(attempt_of(1, 1)))]);
    assert_eq!(s.on(|worker, _| worker.on_rejoined(task(1), 1)), []);
}

#[test]
fn a_repeated_or_older_run_is_dropped_and_counted() {
    let mut s = Script::new();
    s.compute([run(1).attempt(2), run(1).attempt(2)]);
    s.compute([run(1).attempt(1)]);
    assert_eq!(s.worker.counters().stale_runs, 2);
    assert_eq!(s.start_all(), [1]);
    assert!(!s.finish(1, 1));
    assert!(s.finish(1, 2));
}

#[test]
fn an_error_is_reported_and_the_dependents_are_left_to_the_scheduler() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1)]);
    s.start();
    let actions = s.on(|worker, _| worker.on_erred(task(1), 1, 0, boom()));
    assert_eq!(actions, [erred(1, 1, boom())]);
    assert_eq!(s.free(&[2]), []);
    s.assert_empty();
}

#[test]
fn messages_about_unknown_tasks_change_nothing() {
    let mut s = Script::new();
    assert_eq!(s.free(&[7]), []);
    assert_eq!(s.holders(7, &[ALICE]), []);
    assert_eq!(s.fetched(BOB, &[(7, MISSING)]), []);
    assert_eq!(s.unreachable(WorkerNo(77)), []);
    assert!(!s.finish(7, 1));
    assert_eq!(s.worker.counters().unknown_tasks, 2);
    s.assert_empty();
}

#[test]
fn one_input_used_twice_by_a_run_counts_twice() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1).needs(1)]);
    s.start();
    s.finish(1, 1);
    assert_eq!(s.start(), Some(2));
    assert_eq!(s.free(&[1]), [drop_value(1)]);
}
