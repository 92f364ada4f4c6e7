//! What idle workers take from busy ones.

use super::*;
use State::Queued;

const MS: u64 = Nanos::MILLISECOND;

/// x is at alice, who is busy for about 100 ms; y and z, which need x, wait for her. Bob joins.
fn prey(size_bytes: u64) -> Script {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done_with("alice", "x", Outcome::of_bytes(size_bytes));
    s.submit("anna", [future("busy")]);
    s.submit("anna", [future("z").needs(&["x"]).order(5), future("y").needs(&["x"]).order(1)]);
    assert_eq!((s.state("y"), s.state("z")), (Some(Queued), Some(Queued)));
    s
}

#[test]
fn an_idle_worker_takes_the_most_urgent_task_of_a_busy_ones_queue() {
    let mut s = prey(10_000);
    let sent = s.join("bob");
    assert_sent(&sent, &["bob is registered", "bob runs y with x from alice"]);
    assert_eq!((s.counters().stolen, s.state("z")), (1, Some(Queued)));
}

#[test]
fn a_task_is_not_taken_where_moving_its_inputs_takes_longer_than_waiting() {
    let mut s = prey(500 << 20);
    assert_sent(&s.join("bob"), &["bob is registered"]);
    assert_eq!(s.counters().stolen, 0);
}

#[test]
fn a_task_is_not_taken_by_a_worker_that_may_not_run_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    s.submit("anna", [future("busy"), future("y").needs(&["x"]).only_on(&["alice"])]);
    assert_sent(&s.join("bob"), &["bob is registered"]);
    assert_eq!(s.state("y"), Some(Queued));
}

#[test]
fn nothing_is_taken_when_stealing_is_off() {
    let mut s = Script::with(|config| config.work_stealing = false);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    s.submit("anna", [future("busy"), future("y").needs(&["x"])]);
    assert_sent(&s.join("bob"), &["bob is registered"]);
    assert_sent(&s.pass(Nanos::SECOND), &[]);
}

/// Alice was sent two tasks of unknown length, and one runs; then bob joins.
fn excess() -> Script {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("a"), future("b")]);
    assert_eq!(s.processing("alice"), ["a", "b"]);
    assert_sent(&s.join("bob"), &["bob is registered"]);
    s
}

#[test]
fn a_task_that_was_sent_is_asked_back_for_an_idle_worker_after_a_while() {
    let mut s = excess();
    assert_sent(&s.pass(30 * MS), &["alice is asked for b back"]);
    assert_sent(&s.gives_back("alice", "b"), &["bob runs b (attempt 2)"]);
    assert_eq!(s.counters().retracted, 1);
    s.done("alice", "a");
    assert_sent(&s.done("bob", "b"), &["anna finds b at bob"]);
}

#[test]
fn a_task_that_has_started_meanwhile_stays() {
    let mut s = excess();
    s.pass(30 * MS);
    assert_sent(&s.keeps("alice", "b"), &[]);
    assert_eq!(s.processing("alice"), ["a", "b"]);
    // then: it is not asked for again
    assert_sent(&s.pass(30 * MS), &["alice is asked for a back"]);
    s.keeps("alice", "a");
    assert_sent(&s.pass(100 * MS), &[]);
    assert_sent(&s.done("alice", "b"), &["anna finds b at alice"]);
}

#[test]
fn a_task_that_is_asked_back_is_asked_once() {
    let mut s = excess();
    assert_eq!(s.pass(100 * MS).len(), 1);
}

#[test]
fn a_short_moment_of_idleness_takes_nothing_back() {
    let mut s = excess();
    assert_sent(&s.pass(5 * MS), &[]);
    s.done("alice", "a");
    s.done("alice", "b");
    assert_sent(&s.pass(30 * MS), &[]);
}

#[test]
fn a_task_that_others_were_sent_ahead_of_is_not_asked_back() {
    // given: alice has a and b to do, and c was sent ahead of b's result
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(300));
    s.submit("anna", [future("a"), step("b"), future("c").needs(&["b"])]);
    assert_eq!(s.processing("alice"), ["a", "b", "c"]);
    s.join("bob");
    let asked = s.pass(50 * MS);
    assert!(!asked.contains(&"alice is asked for b back".to_string()), "{asked:?}");
    assert!(!asked.contains(&"alice is asked for c back".to_string()), "{asked:?}");
}

#[test]
fn a_late_answer_about_an_older_attempt_is_counted_and_dropped() {
    let mut s = excess();
    s.pass(30 * MS);
    let old = s.run("alice", "b");
    s.gives_back("alice", "b");
    s.done("bob", "b");
    // when: the answer comes once more
    let again = taskloom_proto::worker::Retracted {
        task: old.task,
        attempt: old.attempt,
        given_back: true,
    };
    let message = taskloom_proto::worker::WorkerToScheduler::Retracted(again);
    assert_sent(&s.report("alice", message), &[]);
    assert_eq!(s.counters().stale_messages, 1);
}
