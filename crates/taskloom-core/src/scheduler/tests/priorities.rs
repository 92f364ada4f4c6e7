//! Which runnable task starts first.

use super::*;
use taskloom_proto::client::ClientToScheduler;

/// Alice runs a long task, and whatever comes now waits in the scheduler.
fn busy() -> Script {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done("alice", "known");
    s.submit("anna", [future("now")]);
    s
}

/// Ends one run after the other; the order in which tasks started.
fn order(s: &mut Script) -> Vec<String> {
    let mut order = Vec::new();
    while let Some(key) = s.processing("alice").first().cloned() {
        s.done("alice", &key);
        order.push(key);
    }
    order
}

#[test]
fn tasks_of_one_submission_start_in_its_order() {
    let mut s = busy();
    s.submit("anna", [future("c").order(3), future("a").order(1), future("b").order(2)]);
    assert_eq!(order(&mut s), ["now", "a", "b", "c"]);
}

#[test]
fn a_larger_user_priority_starts_earlier() {
    let mut s = busy();
    s.submit("anna", [future("low").priority(-1), future("plain"), future("high").priority(5)]);
    assert_eq!(order(&mut s), ["now", "high", "plain", "low"]);
}

#[test]
fn an_earlier_submission_starts_before_a_later_one() {
    let mut s = busy();
    s.submit("anna", [future("a").order(9)]);
    s.now = s.now.after(Nanos::SECOND);
    s.submit("anna", [future("b").order(0)]);
    assert_eq!(order(&mut s), ["now", "a", "b"]);
}

#[test]
fn submissions_of_two_clients_start_in_the_order_they_came() {
    let mut s = busy();
    s.client("bert");
    s.now = s.now.after(Nanos::SECOND);
    s.submit("bert", [future("b").order(9)]);
    s.submit("anna", [future("a").order(0)]);
    assert_eq!(order(&mut s), ["now", "b", "a"]);
}

#[test]
fn submissions_within_the_fifo_timeout_share_a_generation() {
    let mut s = busy();
    for (key, pause_us) in [("a", 500), ("b", 50), ("c", 500)] {
        s.now = s.now.after(pause_us * Nanos::MICROSECOND);
        let submission = pause_us * 10 + key.len() as u64;
        let mut batch = s.batch("anna", submission, true, vec![future(key)]);
        batch.fifo_timeout_us = 100;
        s.say("anna", ClientToScheduler::Submit(batch));
    }
    let generation = |key: &str| s.scheduler.tasks[s.index(key)].priority.generation();
    assert_eq!(generation("a"), generation("b"));
    assert!(generation("b") < generation("c"));
    assert_eq!(order(&mut s), ["now", "a", "b", "c"]);
}

#[test]
fn all_pieces_of_a_graph_share_a_generation() {
    let mut s = busy();
    s.client("bert");
    let submission = s.begin("anna", [future("a").order(0)]);
    s.now = s.now.after(Nanos::SECOND);
    s.submit("bert", [future("other")]);
    s.now = s.now.after(Nanos::SECOND);
    s.piece("anna", submission, true, vec![future("b").order(1)]);
    assert_eq!(order(&mut s), ["now", "a", "b", "other"]);
}

#[test]
fn children_of_a_running_task_start_before_its_siblings() {
    let mut s = busy();
    s.submit("anna", [future("parent"), future("sibling")]);
    s.done("alice", "now");
    // when: the parent submits a task while it runs
    let mut batch = s.batch("anna", 50, true, vec![future("child")]);
    batch.parent = Some(s.id("parent"));
    s.say("anna", ClientToScheduler::Submit(batch));
    assert_eq!(order(&mut s), ["parent", "child", "sibling"]);
}

#[test]
fn a_later_submission_with_smaller_orders_does_not_overtake_one_in_pieces() {
    let mut s = busy();
    let submission = s.begin("anna", [future("late").order(100), future("mid").order(60)]);
    s.piece("anna", submission, true, vec![future("early").order(10)]);
    let mut batch = s.batch("anna", submission + 1, true, vec![future("next").order(0)]);
    batch.fifo_timeout_us = 1_000_000;
    s.say("anna", ClientToScheduler::Submit(batch));
    assert_eq!(order(&mut s), ["now", "early", "mid", "late", "next"]);
}

#[test]
fn absurd_orders_are_no_trouble() {
    let mut s = busy();
    s.submit("anna", [future("x").order(u64::MAX).priority(i32::MIN)]);
    s.submit("anna", [future("y").order(u64::MAX).priority(i32::MAX)]);
    assert_eq!(order(&mut s), ["now", "y", "x"]);
}
