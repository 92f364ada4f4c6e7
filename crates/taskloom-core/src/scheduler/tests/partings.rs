//! Workers that do not reach each other, while the scheduler hears both.

use super::*;
use State::{Erred, Memory};
use taskloom_proto::worker::WorkerToScheduler;

const AGAIN: &str = "bob finds x from alice";

/// Bob seeks x at alice until the scheduler thinks of something else. What it still says about
/// where x is finds nobody there who waits for it.
fn bob_seeks_in_vain(s: &mut Script) -> Vec<String> {
    for _ in 0..2 {
        assert_sent(&s.waits_in_vain("bob", "x", &["alice"]), &[AGAIN]);
    }
    let mut sent = s.waits_in_vain("bob", "x", &["alice"]);
    sent.retain(|line| line != AGAIN);
    sent
}

fn alice_makes_x_at_once(s: &mut Script) {
    let discarded = WorkerToScheduler::Discarded(vec![s.id("x")]);
    s.report("alice", discarded);
    s.done("alice", "x");
}

fn alice_makes_x_again(s: &mut Script) {
    alice_makes_x_at_once(s);
    passes_s(s, 20);
}

fn passes_s(s: &mut Script, seconds: u64) {
    for _ in 0..seconds {
        s.heartbeat("alice");
        s.heartbeat("bob");
        s.pass(Nanos::SECOND);
    }
}

/// Alice has x, and bob is to make y of it.
fn alice_has_x(maker: &[&str], reader: &[&str]) -> Script {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(maker)]);
    s.done("alice", "x");
    if reader.contains(&"alice") {
        s.submit("anna", [future("busy").only_on(&["alice"])]);
    }
    assert_sent(
        &s.submit("anna", [future("y").needs(&["x"]).only_on(reader)]),
        &["bob runs y with x from alice"],
    );
    s
}

#[test]
fn a_run_goes_to_where_its_input_can_be_had() {
    let mut s = alice_has_x(&["alice"], &["bob", "carol"]);
    s.join("carol");
    let sent = bob_seeks_in_vain(&mut s);
    assert_sent(&sent, &["bob frees y", "carol runs y (attempt 2) with x from alice"]);
    assert_eq!((s.state("x"), s.counters().recomputed), (Some(Memory), 0));
}

#[test]
fn a_run_may_go_to_the_very_worker_that_has_its_input() {
    let mut s = alice_has_x(&["alice"], &["alice", "bob"]);
    assert_sent(&bob_seeks_in_vain(&mut s), &["bob frees y"]);
    assert_sent(
        &s.done("alice", "busy"),
        &["anna finds busy at alice", "alice runs y (attempt 2) with x here"],
    );
}

#[test]
fn a_run_that_cannot_go_elsewhere_has_its_input_made_where_it_can_have_it() {
    let mut s = alice_has_x(&["alice", "bob"], &["bob"]);
    let sent = bob_seeks_in_vain(&mut s);
    let expected = ["alice discards x", "anna: x pending again", "bob runs x (attempt 2)"];
    assert_sent(&sent, &expected);
}

#[test]
fn workers_that_are_merely_preferred_stand_in_nobodys_way() {
    // given: both are rather where they are
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").rather_on(&["alice"])]);
    s.done("alice", "x");
    s.submit("anna", [future("y").needs(&["x"]).rather_on(&["bob"])]);
    assert_sent(
        &bob_seeks_in_vain(&mut s),
        &["bob frees y", "alice runs y (attempt 2) with x here"],
    );
    // given: only one may be elsewhere
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").rather_on(&["alice"])]);
    s.done("alice", "x");
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    let expected = ["alice discards x", "anna: x pending again", "bob runs x (attempt 2)"];
    assert_sent(&bob_seeks_in_vain(&mut s), &expected);
}

#[test]
fn a_run_that_can_never_have_its_input_fails_and_says_why() {
    let mut s = alice_has_x(&["alice"], &["bob"]);
    // when: the input is made again and again
    for attempt in 2..=4 {
        let remade = format!("alice runs x (attempt {attempt})");
        let sent = bob_seeks_in_vain(&mut s);
        assert_sent(&sent, &["alice discards x", "anna: x pending again", &remade]);
        alice_makes_x_again(&mut s);
    }
    let sent = bob_seeks_in_vain(&mut s);
    // then: the input stays
    assert_sent(&sent, &["bob frees y", "anna: y failed, WorkerUnreachableError"]);
    assert_eq!((s.state("x"), s.state("y")), (Some(Memory), Some(Erred)));
    let message = &s.words.errors["y"].message;
    for part in ["task y", "input x", "bob at tcp", "alice at tcp"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn nobody_steals_a_task_whose_input_is_beyond_reach() {
    // given: bob and alice are known to be parted, and bob has nothing to do
    let mut s = alice_has_x(&["alice"], &["alice", "bob"]);
    bob_seeks_in_vain(&mut s);
    // when
    s.submit("anna", [future("z").needs(&["x"]), future("other")]);
    // then
    assert_eq!(s.processing("bob"), ["other"]);
    assert_eq!(s.processing("alice"), ["busy"]);
    assert_sent(&s.done("bob", "other"), &["anna finds other at bob"]);
    // but: some minutes later the network may be mended
    passes_s(&mut s, 301);
    assert_eq!(s.processing("bob"), ["y"]);
}

#[test]
fn an_input_goes_with_the_last_run_that_could_not_have_it() {
    let mut s = alice_has_x(&["alice"], &["bob"]);
    s.release("anna", &["x"]);
    for _ in 2..=4 {
        bob_seeks_in_vain(&mut s);
        alice_makes_x_again(&mut s);
    }
    let sent = bob_seeks_in_vain(&mut s);
    let expected = ["bob frees y", "anna: y failed, WorkerUnreachableError", "alice frees x"];
    assert_sent(&sent, &expected);
}

#[test]
fn broken_transfers_in_a_moment_let_nothing_fail() {
    let mut s = alice_has_x(&["alice"], &["bob"]);
    for _ in 0..10 {
        bob_seeks_in_vain(&mut s);
        alice_makes_x_at_once(&mut s);
    }
    assert_eq!(s.state("y"), Some(State::Processing));
}

#[test]
fn workers_that_reach_each_other_again_are_not_parted() {
    let mut s = alice_has_x(&["alice"], &["alice", "bob"]);
    bob_seeks_in_vain(&mut s);
    s.fetched("bob", &["x"]);
    s.done("alice", "busy");
    s.done("alice", "y");
    s.submit("anna", [future("v").only_on(&["alice"])]);
    s.done("alice", "v");
    s.submit("anna", [future("busy-2").only_on(&["alice"])]);
    let sent = s.submit("anna", [future("w").needs(&["v"])]);
    assert_sent(&sent, &["bob runs w with v from alice"]);
}

#[test]
fn nobody_has_a_task_taken_back_whose_input_is_beyond_his_reach() {
    // given: alice was sent more than she can run at once, and bob has nothing to do
    let mut s = alice_has_x(&["alice"], &["alice", "bob"]);
    bob_seeks_in_vain(&mut s);
    s.done("alice", "busy");
    s.done("alice", "y");
    // Of unknown length: one more is sent than can run.
    let one = |name| future(name).prefix("part").needs(&["x"]);
    s.submit("anna", [one("part-1"), one("part-2")]);
    assert_eq!(s.processing("alice"), ["part-1", "part-2"]);
    assert_sent(&s.pass(100 * Nanos::MILLISECOND), &[]);
}

#[test]
fn what_is_known_of_a_worker_goes_with_it() {
    let mut s = alice_has_x(&["alice"], &["alice", "bob"]);
    bob_seeks_in_vain(&mut s);
    s.worker_leaves("bob");
    s.scheduler.validate().unwrap();
    s.worker_leaves("alice");
    s.scheduler.validate().unwrap();
}
