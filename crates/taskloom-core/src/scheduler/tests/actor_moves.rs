//! Actors of workers that leave in order.

use super::*;
use State::{Memory, Processing};
use taskloom_proto::client::Closing;
use taskloom_proto::supervisor::SupervisorToScheduler;
use taskloom_proto::worker::WorkerToScheduler;

/// A saved actor `counter` that lives on alice, and that anna watches; bob is there too.
fn saved_on_alice() -> Script {
    saved_on_alice_within(30 * Nanos::SECOND)
}

fn saved_on_alice_within(hand_over_ns: u64) -> Script {
    let mut s = Script::with(|config| config.hand_over_ns = hand_over_ns);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("counter").actor()]);
    s.done_with("alice", "counter", Outcome::inline());
    s.saves("alice", "counter", 1);
    s.join("bob");
    s.watch("anna", "counter");
    s
}

fn leave(s: &mut Script, worker: &str) -> Vec<String> {
    s.report(worker, WorkerToScheduler::Leave(Closing::default()))
}

#[test]
fn an_actor_moves_with_its_last_state_and_only_then_is_its_worker_closed() {
    let mut s = saved_on_alice();
    assert_sent(
        &leave(&mut s, "alice"),
        &["alice is to hand counter over", "anna hears: counter moves"],
    );
    assert_sent(&s.pass(Nanos::SECOND), &[]);
    let sent = s.hands_over("alice", "counter", Ok("last"));
    assert_sent(
        &sent,
        &["alice frees counter", "anna: counter pending again", "bob runs counter (attempt 2)"],
    );
    assert_eq!(s.body("counter"), b"last");
    let sent = s.done_with("bob", "counter", Outcome::inline());
    assert_sent(
        &sent,
        &["anna hears: counter lives at tcp://bob:1", "anna has counter", "alice is told to close"],
    );
}

#[test]
fn who_asks_for_an_actor_while_it_moves_is_told_when_it_lives_again() {
    let mut s = saved_on_alice();
    leave(&mut s, "alice");
    s.client("ben");
    assert_sent(&s.watch("ben", "counter"), &[]);
    assert_sent(&s.doubt("anna", "alice", "counter"), &[]);
    assert_sent(&s.pass(5 * Nanos::SECOND), &[]);
    s.hands_over("alice", "counter", Ok("last"));
    assert_sent(&s.watch("ben", "counter"), &[]);
    let mut sent = s.done_with("bob", "counter", Outcome::inline());
    sent.sort();
    assert_sent(
        &sent,
        &[
            "alice is told to close",
            "anna has counter",
            "anna hears: counter lives at tcp://bob:1",
            "ben hears: counter lives at tcp://bob:1",
        ],
    );
}

#[test]
fn a_state_that_cannot_be_had_is_replaced_by_the_last_snapshot_with_a_warning() {
    let mut s = saved_on_alice();
    leave(&mut s, "alice");
    let sent = s.hands_over("alice", "counter", Err("it holds a lock"));
    let warned = |line: &String| line.contains("actor counter") && line.contains("holds a lock");
    assert!(sent.iter().any(warned), "{sent:?}");
    assert_eq!((s.state("counter"), s.body("counter")), (Some(Processing), &b"snapshot 1"[..]));
}

#[test]
fn a_state_that_does_not_come_in_time_is_not_waited_for() {
    let mut s = saved_on_alice();
    leave(&mut s, "alice");
    s.pass(20 * Nanos::SECOND);
    s.heartbeat("alice");
    s.heartbeat("bob");
    let sent = s.pass(11 * Nanos::SECOND);
    assert!(sent.contains(&"anna hears: counter is being made".to_string()), "{sent:?}");
    assert!(sent.iter().any(|line| line.contains("within 30 s")), "{sent:?}");
    assert!(sent.contains(&"alice is told to close".to_string()), "{sent:?}");
    assert_eq!(s.body("counter"), b"snapshot 1");
    assert_sent(&s.hands_over("alice", "counter", Ok("late")), &[]);
    assert_eq!(s.body("counter"), b"snapshot 1");
}

#[test]
fn the_time_to_hand_over_is_the_configured_one_to_the_last_moment() {
    let mut s = saved_on_alice_within(5 * Nanos::SECOND);
    leave(&mut s, "alice");
    assert_sent(&s.pass(5 * Nanos::SECOND - 1), &[]);
    let sent = s.pass(1);
    assert!(sent.iter().any(|line| line.contains("within 5 s")), "{sent:?}");
    assert_eq!((s.state("counter"), s.body("counter")), (Some(Processing), &b"snapshot 1"[..]));
}

#[test]
fn a_worker_whose_actors_are_made_elsewhere_is_kept_until_the_last_of_them_is_there() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor(), future("other").actor()]);
    for actor in ["counter", "other"] {
        s.keeps("alice", actor);
        s.saves("alice", actor, 1);
        s.done_with("alice", actor, Outcome::inline());
    }
    s.join("bob");
    leave(&mut s, "alice");
    s.hands_over("alice", "counter", Ok("one"));
    s.hands_over("alice", "other", Ok("two"));
    let sent = s.done_with("bob", "counter", Outcome::inline());
    assert!(!sent.contains(&"alice is told to close".to_string()), "{sent:?}");
    let sent = s.done_with("bob", "other", Outcome::inline());
    assert!(sent.contains(&"alice is told to close".to_string()), "{sent:?}");
}

#[test]
fn a_worker_that_ends_before_it_has_handed_over_costs_what_was_not_saved() {
    let mut s = saved_on_alice();
    leave(&mut s, "alice");
    let sent = s.worker_leaves("alice");
    assert!(sent.iter().any(|line| line.contains("before it had handed")), "{sent:?}");
    assert_eq!(s.body("counter"), b"snapshot 1");
    s.done_with("bob", "counter", Outcome::inline());
    assert_eq!(s.state("counter"), Some(Memory));
}

#[test]
fn an_actor_that_is_released_while_it_is_to_be_handed_over_is_over() {
    let mut s = saved_on_alice();
    leave(&mut s, "alice");
    let sent = s.release("anna", &["counter"]);
    assert!(sent.contains(&"alice is told to close".to_string()), "{sent:?}");
    assert_eq!(s.state("counter"), None);
}

#[test]
fn an_actor_that_is_made_while_its_worker_leaves_is_handed_over_after() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor()]);
    s.join("bob");
    leave(&mut s, "alice");
    s.keeps("alice", "counter");
    s.saves("alice", "counter", 1);
    let sent = s.done_with("alice", "counter", Outcome::inline());
    assert_sent(&sent, &["anna has counter", "alice is to hand counter over"]);
}

#[test]
fn a_state_that_nobody_asked_for_counts_for_nothing() {
    let mut s = saved_on_alice();
    let before = s.counters().stale_messages;
    assert_sent(&s.hands_over("alice", "counter", Ok("unasked")), &[]);
    assert_eq!((s.state("counter"), s.body("counter")), (Some(Memory), &b"snapshot 1"[..]));
    assert_eq!(s.counters().stale_messages, before + 1);
}

#[test]
fn an_actor_without_a_snapshot_stays_until_its_worker_ends() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("counter").actor().only_on(&["alice"])]);
    s.done_with("alice", "counter", Outcome::inline());
    assert_sent(&leave(&mut s, "alice"), &["alice is told to close"]);
}

#[test]
fn where_all_end_together_nothing_is_handed_over() {
    let mut s = Script::new();
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.submit("anna", [future("counter").actor()]);
    s.done_with("alice", "counter", Outcome::inline());
    s.saves("alice", "counter", 1);
    let message = SupervisorToScheduler::Stopping(vec!["alice".into()]);
    s.event(Event::SupervisorMessage { supervisor: script::SUPERVISOR, message });
    assert_sent(&leave(&mut s, "alice"), &["alice is told to close"]);
}
