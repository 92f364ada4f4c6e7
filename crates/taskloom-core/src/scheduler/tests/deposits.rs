//! Pickled futures hold their results until somebody unpickles them, and not for ever.

use super::*;
use State::{Memory, Processing};
use taskloom_proto::client::{ClientToScheduler, Collect};
use taskloom_types::Key;

/// Anna and alice, who may be silent for long.
fn patient() -> Script {
    let mut s = Script::with(|config| config.worker_ttl_ns = 1_000_000 * Nanos::SECOND);
    s.join("alice");
    s.client("anna");
    s
}

/// Anna's `x` is in memory, was pickled under ticket 7, and anna has let go of it; bob is there.
fn pickled_and_released() -> Script {
    let mut s = patient();
    s.client("bob");
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    s.pickles("anna", "x", 7);
    s.release("anna", &["x"]);
    s
}

#[test]
fn a_pickled_future_keeps_the_result_when_its_own_client_lets_go() {
    let mut s = pickled_and_released();
    s.pass(600 * Nanos::SECOND);
    assert_eq!(s.state("x"), Some(Memory));
    assert_sent(&s.unpickles("bob", "x", 7), &["bob finds x at alice"]);
}

#[test]
fn it_keeps_the_task_also_when_its_client_leaves_before_the_end() {
    let mut s = patient();
    s.client("bob");
    s.submit("anna", [future("x")]);
    s.pickles("anna", "x", 7);
    s.client_leaves("anna");
    assert_eq!(s.state("x"), Some(Processing));
    s.unpickles("bob", "x", 7);
    assert_sent(&s.done("alice", "x"), &["bob finds x at alice"]);
}

#[test]
fn what_nobody_unpickles_goes_in_the_end() {
    let mut s = pickled_and_released();
    s.pass(3601 * Nanos::SECOND);
    assert_eq!(s.state("x"), None);
}

#[test]
fn the_same_bytes_may_be_read_again_for_a_while() {
    let mut s = pickled_and_released();
    s.client("carol");
    s.unpickles("bob", "x", 7);
    s.release("bob", &["x"]);
    s.pass(30 * Nanos::SECOND);
    assert_sent(&s.unpickles("carol", "x", 7), &["carol finds x at alice"]);
    s.release("carol", &["x"]);
    s.pass(59 * Nanos::SECOND);
    assert_eq!(s.state("x"), Some(Memory));
    s.pass(2 * Nanos::SECOND);
    assert_eq!(s.state("x"), None);
}

#[test]
fn two_pickles_of_one_future_hold_it_each() {
    let mut s = pickled_and_released();
    s.unpickles("bob", "x", 7);
    s.pickles("bob", "x", 8);
    s.release("bob", &["x"]);
    s.pass(61 * Nanos::SECOND);
    assert_eq!(s.state("x"), Some(Memory));
}

#[test]
fn a_future_may_be_unpickled_before_the_news_of_its_pickling_and_even_of_its_task() {
    let mut s = patient();
    s.client("bob");
    s.unpickles("bob", "x", 7);
    s.submit("anna", [future("x")]);
    s.pickles("anna", "x", 7);
    s.release("anna", &["x"]);
    s.release("bob", &["x"]);
    assert_eq!(s.state("x"), Some(Processing));
    s.pass(61 * Nanos::SECOND);
    assert_eq!(s.state("x"), None);
}

#[test]
fn a_future_whose_result_went_long_ago_is_lost_and_not_pending_for_ever() {
    let mut s = pickled_and_released();
    s.pass(3601 * Nanos::SECOND);
    s.unpickles("bob", "x", 7);
    assert_sent(&s.pass(31 * Nanos::SECOND), &["bob: x cancelled, lost"]);
    assert_eq!(s.state("x"), None);
}

#[test]
fn cancelling_ends_what_pickles_hold_and_their_readers_learn_it_at_once() {
    let mut s = patient();
    s.client("bob");
    s.submit("anna", [future("x")]);
    s.pickles("anna", "x", 7);
    s.cancel("anna", &["x"]);
    assert_eq!(s.state("x"), None);
    assert_sent(&s.unpickles("bob", "x", 7), &["bob: x cancelled, cancelled"]);
}

#[test]
fn a_reader_learns_that_a_task_was_cancelled_although_others_ask_for_its_key() {
    let mut s = patient();
    s.client("bob");
    s.client("carol");
    s.submit("anna", [future("x")]);
    s.pickles("anna", "x", 7);
    s.cancel("anna", &["x"]);
    // given: carol asks for the key, which nobody has submitted anew
    s.desire("carol", "x");
    assert_eq!(s.reason("x"), "not-submitted");
    // then
    assert_sent(&s.unpickles("bob", "x", 7), &["bob: x cancelled, cancelled"]);
    assert_sent(&s.unpickles("carol", "x", 7), &["carol: x cancelled, cancelled"]);
    // and carol has what is submitted anew
    s.submit("anna", [future("x")]);
    let sent = s.done("alice", "x");
    assert!(sent.contains(&"carol finds x at alice".to_string()), "{sent:?}");
}

#[test]
fn a_ticket_serves_once() {
    let mut s = pickled_and_released();
    s.submit("anna", [future("y")]);
    s.pickles("anna", "y", 7);
    assert_eq!(s.counters().stale_messages, 1);
    s.release("anna", &["y"]);
    assert_eq!(s.state("y"), None);
}

#[test]
fn a_future_that_had_ended_when_it_was_pickled_is_lost_at_once() {
    let mut s = patient();
    s.client("bob");
    s.new_handle("anna", "x");
    s.pickles("anna", "x", 7);
    assert_sent(&s.unpickles("bob", "x", 7), &["bob: x cancelled, lost"]);
    assert_eq!(s.state("x"), None);
}

#[test]
fn who_reads_later_what_nobody_has_pickled_does_not_wait_for_ever_either() {
    let mut s = patient();
    s.client("bob");
    s.unpickles("bob", "x", 7);
    s.release("bob", &["x"]);
    s.pass(20 * Nanos::SECOND);
    s.unpickles("bob", "x", 7);
    assert_sent(&s.pass(29 * Nanos::SECOND), &[]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &["bob: x cancelled, lost"]);
    assert_eq!(s.state("x"), None);
}

#[test]
fn a_reader_that_has_the_key_only_says_that_it_has_read() {
    let mut s = patient();
    s.submit("anna", [future("x")]);
    s.pickles("anna", "x", 7);
    let collect = |s: &mut Script| {
        let (ticket, handle, key) = (7, Collect::NO_HANDLE, Key::from_text("x"));
        s.say("anna", ClientToScheduler::Collect(Collect { ticket, handle, key }))
    };
    assert_sent(&collect(&mut s), &[]);
    s.release("anna", &["x"]);
    // then: others may read it for a minute, as after any reader
    s.pass(61 * Nanos::SECOND);
    assert_eq!(s.state("x"), None);
    // and when it is gone, there is no future to tell
    assert_sent(&collect(&mut s), &[]);
    assert_sent(&s.pass(31 * Nanos::SECOND), &[]);
    assert_eq!(s.state("x"), None);
}
