//! Scenarios that once stopped or confused other task schedulers; the numbers are those of the
//! project's list of historical bugs. Always: nothing is stuck, nothing is reported twice wrongly.

use super::*;

#[test]
fn d02_an_input_in_flight_is_then_to_be_computed_here() {
    // given: 1 is being fetched for 2, which is freed
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.free(&[2]);
    // when: 1 is to be computed here, and the fetch still answers before it starts
    s.compute([run(1).attempt(4)]);
    let actions = s.fetched(ALICE, &[(1, VALUE)]);
    // then: the fetched value is the run's result
    assert_eq!(actions, [report_done(1, 4)]);
    assert_eq!(s.start(), None);
    assert_eq!(s.free(&[1]), [drop_value(1)]);
    s.assert_empty();
}

#[test]
fn d03_a_worker_that_is_named_holder_without_the_value_asks() {
    // given: the scheduler believes that 1 is here, but it was only on its way
    let mut s = Script::new();
    assert_eq!(s.compute([run(2).needs(1)]), [missing(1, &[])]);
    // when: it learns where 1 is
    assert_eq!(s.holders(1, &[BOB]), [fetch(BOB, &[1])]);
    s.fetched(BOB, &[(1, VALUE)]);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn d08_a_run_taken_away_while_it_starts_leaves_no_trace() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    // when: the victim is asked for a run that is being deserialized, then told to free it
    assert_eq!(s.retract(1, 1), [retracted(1, 1, false)]);
    s.free(&[1]);
    assert_eq!(s.on(|worker, _| worker.on_erred(task(1), 1, 0, boom())), []);
    assert_eq!(s.worker.executing().count(), 0);
    s.assert_empty();
}

#[test]
fn d09_an_input_released_and_wanted_again_while_its_fetch_is_in_flight() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.free(&[2]);
    // when: another run wants it before alice has answered
    assert_eq!(s.compute([run(3).needs_from(1, 10, &[ALICE])]), []);
    // then: the answer to the first request serves it
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [report_fetched(&[1])]);
    assert_eq!(s.start(), Some(3));
}

#[test]
fn d10_an_input_wanted_again_is_asked_for_again_when_the_first_answer_had_none() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.free(&[2]);
    s.compute([run(3).needs_from(1, 10, &[ALICE])]);
    // when: the old request breaks
    let actions = s.unreachable(ALICE);
    // then: the new wish is not forgotten
    assert_eq!(actions, [missing(1, &[ALICE])]);
    assert_eq!(s.holders(1, &[BOB]), [fetch(BOB, &[1])]);
}

#[test]
fn d11_an_answer_for_tasks_that_were_cancelled_and_came_back_as_runs() {
    let mut s = Script::new();
    s.compute([run(3).needs_from(1, 10, &[ALICE]).needs_from(2, 10, &[ALICE])]);
    s.free(&[3]);
    // given: 1 executes here now, 2 is nobody's
    s.compute([run(1).attempt(2)]);
    assert_eq!(s.start(), Some(1));
    let actions = s.fetched(ALICE, &[(1, VALUE), (2, VALUE)]);
    assert_eq!(actions, [drop_value(1), drop_value(2)]);
    assert!(s.finish(1, 2));
}

#[test]
fn d12_a_cancelled_run_that_raises_is_not_reported() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.free(&[1]);
    assert_eq!(s.on(|worker, _| worker.on_erred(task(1), 1, 5, boom())), []);
    s.assert_empty();
}

#[test]
fn d12_a_cancelled_run_that_is_sent_again_runs_beside_the_old_one() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.free(&[1]);
    s.compute([run(1).attempt(2)]);
    assert_eq!(s.start(), Some(1));
    assert_eq!(s.on(|worker, _| worker.on_erred(task(1), 1, 5, boom())), []);
    assert!(s.finish(1, 2));
}

#[test]
fn d13_a_missing_input_that_nobody_needs_any_more_is_forgotten() {
    let mut s = Script::new();
    s.compute([run(2).needs(1)]);
    s.free(&[2]);
    s.assert_empty();
    // The late answer about it is of no interest.
    assert_eq!(s.holders(1, &[ALICE]), []);
    s.assert_empty();
}

#[test]
fn d14_a_fetch_fails_after_its_task_was_given_to_this_worker_to_compute() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.compute([run(1).attempt(3)]);
    // when: the fetch fails, then: the run here is enough
    assert_eq!(s.unreachable(ALICE), []);
    assert_eq!(s.start(), Some(1));
    s.finish(1, 3);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn d15_when_one_replica_fails_the_others_are_tried() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE, BOB])]);
    assert_eq!(s.fetched(ALICE, &[(1, MISSING)]), [fetch(BOB, &[1])]);
    assert_eq!(s.unreachable(BOB), [missing(1, &[ALICE, BOB])]);
}

#[test]
fn d17_a_task_known_only_as_an_input_becomes_a_run_when_its_call_comes() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.fetched(ALICE, &[(1, MISSING)]);
    assert_eq!(s.start(), None);
    s.compute([run(1)]);
    assert_eq!(s.start(), Some(1));
    s.finish(1, 1);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn d18_a_replica_arrives_while_the_same_task_executes_here() {
    let mut s = Script::new();
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    s.compute([run(1).attempt(2)]);
    assert_eq!(s.start(), Some(1));
    // then: dependents go on at once, and the run reports as usual
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), []);
    assert_eq!(s.start(), Some(2));
    s.drained();
    assert!(s.finish(1, 2));
}

#[test]
fn d19_reschedule_of_a_freed_run_is_silent_and_of_a_wanted_one_asks_for_its_dependents() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1)]);
    s.start();
    let actions = s.on(|worker, _| worker.on_rescheduled(task(1), 1));
    let told = Action::Send(WorkerToScheduler::Rescheduled(attempt_of(1, 1)));
    assert_eq!(actions, [told, missing(1, &[])]);
    s.compute([run(1).attempt(2)]);
    s.start();
    s.free(&[1, 2]);
    assert_eq!(s.on(|worker, _| worker.on_rescheduled(task(1), 2)), []);
    s.assert_empty();
}

#[test]
fn d26_a_run_that_secedes_after_it_was_freed_is_not_reported() {
    let mut s = Script::new();
    s.compute([run(1)]);
    s.start();
    s.free(&[1]);
    assert_eq!(s.on(|worker, _| worker.on_seceded(task(1), 1)), []);
    // Also when a newer attempt is here.
    s.compute([run(1).attempt(2)]);
    s.start();
    assert_eq!(s.on(|worker, _| worker.on_seceded(task(1), 1)), []);
    assert_eq!(s.on(|worker, _| worker.on_rejoined(task(1), 1)), []);
    assert!(s.finish(1, 2));
}

#[test]
fn a_maker_that_is_freed_leaves_its_dependents_asking() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1)]);
    assert_eq!(s.free(&[1]), [missing(1, &[])]);
    assert_eq!(s.holders(1, &[ALICE]), [fetch(ALICE, &[1])]);
}

#[test]
fn freeing_input_and_dependent_together_asks_nothing() {
    let mut s = Script::new();
    s.compute([run(1), run(2).needs(1)]);
    assert_eq!(s.free(&[1, 2]), []);
    s.assert_empty();
}
