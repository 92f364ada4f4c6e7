//! Actors: placed like others, never made again from their call, and missed when they are gone.

use super::*;
use State::{Erred, Memory, Released, Waiting};
use taskloom_proto::ExitKind;

/// An actor `counter` that lives on alice, who has a supervisor; anna holds a future.
fn counter_on_alice() -> Script {
    let mut s = Script::new();
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.submit("anna", [future("counter").actor()]);
    s.done_with("alice", "counter", Outcome::inline());
    s
}

#[test]
fn actors_are_spread_over_the_workers() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    let sent = s.submit("anna", [1, 2, 3].map(|n| future(&format!("counter-{n}")).actor()));
    assert_sent(&sent, &["alice runs counter-1", "bob runs counter-2", "carol runs counter-3"]);
    s.done("alice", "counter-1");
    s.done("bob", "counter-2");
    s.done("carol", "counter-3");
    s.release("anna", &["counter-2"]);
    assert_sent(&s.submit("anna", [future("another").actor()]), &["bob runs another"]);
}

#[test]
fn an_actor_goes_only_where_it_may() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let sent = s.submit("anna", [future("counter").actor().only_on(&["bob"])]);
    assert_sent(&sent, &["bob runs counter"]);
}

#[test]
fn an_actor_holds_its_slot_only_while_it_is_made() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor()]);
    s.done("alice", "counter");
    assert_sent(&s.submit("anna", [future("x")]), &["alice runs x"]);
}

#[test]
fn what_an_actor_was_made_from_is_not_kept() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("data"), future("counter").actor().needs(&["data"])]);
    s.done("alice", "data");
    let sent = s.done("alice", "counter");
    assert_sent(&sent, &["anna finds counter at alice", "alice frees data"]);
    assert_eq!(s.state("data"), None);
}

#[test]
fn a_lost_actor_is_not_made_again_and_says_how_its_worker_ended() {
    let mut s = counter_on_alice();
    s.join("bob");
    assert_sent(&s.worker_leaves("alice"), &["anna: counter pending again"]);
    assert_eq!(s.state("counter"), Some(Waiting));
    let sent = s.exited("alice", ExitKind::Signalled(9), &[]);
    assert_sent(&sent, &["anna: counter failed, ActorLostError"]);
    let message = &s.words.errors["counter"].message;
    assert!(message.contains("alice at tcp://alice:1"), "{message}");
    assert!(message.contains("SIGKILL") && message.contains("last words"), "{message}");
}

#[test]
fn a_lost_actor_fails_also_without_a_word_from_the_supervisor() {
    let mut s = counter_on_alice();
    s.worker_leaves("alice");
    let sent = s.pass(10 * Nanos::SECOND);
    assert_sent(&sent, &["anna: counter failed, ActorLostError"]);
}

#[test]
fn a_lost_actor_takes_with_it_what_needs_it() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("counter").actor().only_on(&["alice"])]);
    s.done_with("alice", "counter", Outcome::inline());
    s.submit("anna", [future("x").needs(&["counter"]).only_on(&["bob"])]);
    let mut sent = s.worker_leaves("alice");
    sent.sort();
    assert_sent(
        &sent,
        &[
            "anna: counter failed, ActorLostError",
            "anna: counter pending again",
            "anna: x failed, ActorLostError",
            "bob frees x",
        ],
    );
}

#[test]
fn a_lost_actor_is_not_tried_again_by_retry() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor()]);
    s.done_with("alice", "counter", Outcome::inline());
    s.worker_leaves("alice");
    s.join("bob");
    let sent = s.retry("anna", &["counter"]);
    assert_sent(&sent, &["anna: counter failed, ActorLostError"]);
    assert_eq!(s.state("counter"), Some(Erred));
}

#[test]
fn a_constructor_that_raised_is_tried_again_by_retry() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor()]);
    s.raises("alice", "counter");
    let sent = s.retry("anna", &["counter"]);
    assert_sent(&sent, &["anna: counter pending again", "alice runs counter (attempt 2)"]);
}

#[test]
fn a_released_actor_ends_and_does_not_come_back_for_a_dependent() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("counter").actor().only_on(&["alice"])]);
    s.done_with("alice", "counter", Outcome::inline());
    s.submit("anna", [future("x").needs(&["counter"]).only_on(&["bob"])]);
    s.done("bob", "x");
    assert_sent(&s.release("anna", &["counter"]), &["alice frees counter"]);
    assert_eq!(s.state("counter"), Some(Released));
    let sent = s.worker_leaves("bob");
    assert_sent(&sent, &["anna: x pending again", "anna: x failed, ActorLostError"]);
}

#[test]
fn the_key_of_a_released_actor_is_free_for_another() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("counter").actor()]);
    s.done_with("alice", "counter", Outcome::inline());
    s.submit("anna", [future("x").needs(&["counter"])]);
    s.done("alice", "x");
    s.release("anna", &["counter"]);
    let sent = s.submit("anna", [future("counter").actor()]);
    assert_sent(&sent, &["alice runs counter"]);
    assert_eq!(s.state("x"), Some(Memory));
}

#[test]
fn an_actor_with_a_snapshot_is_made_again_from_it() {
    let mut s = counter_on_alice();
    s.join("bob");
    assert_sent(&s.saves("alice", "counter", 1), &["alice may answer up to 1"]);
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: counter pending again", "bob runs counter (attempt 2)"]);
    assert_eq!(s.body("counter"), b"snapshot 1");
    assert_sent(&s.done_with("bob", "counter", Outcome::inline()), &["anna has counter"]);
}

#[test]
fn a_snapshot_of_an_earlier_life_is_not_taken() {
    let mut s = counter_on_alice();
    s.join("bob");
    s.saves("alice", "counter", 1);
    let old = s.run("alice", "counter");
    s.worker_leaves("alice");
    s.done_with("bob", "counter", Outcome::inline());
    assert_sent(&s.saves_as("bob", old, 2), &[]);
    assert_eq!(s.body("counter"), b"snapshot 1");
}

#[test]
fn a_cancelled_actor_is_not_restarted() {
    let mut s = counter_on_alice();
    s.saves("alice", "counter", 1);
    let sent = s.cancel("anna", &["counter"]);
    assert_sent(&sent, &["anna: counter cancelled, cancelled", "alice frees counter"]);
    assert_eq!(s.state("counter"), None);
}

#[test]
fn who_watches_is_told_where_an_actor_lives_and_what_becomes_of_it() {
    let mut s = counter_on_alice();
    s.client("ben");
    assert_sent(&s.watch("ben", "counter"), &["ben hears: counter lives at tcp://alice:1"]);
    s.saves("alice", "counter", 1);
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: counter pending again", "ben hears: counter is being made"]);
    s.join("bob");
    let sent = s.done_with("bob", "counter", Outcome::inline());
    assert_sent(&sent, &["ben hears: counter lives at tcp://bob:1", "anna has counter"]);
    let sent = s.release("anna", &["counter"]);
    assert_sent(&sent, &["bob frees counter", "ben hears: counter is gone, ActorLostError"]);
}

#[test]
fn who_watches_an_actor_that_is_lost_hears_why() {
    let mut s = counter_on_alice();
    s.watch("anna", "counter");
    s.worker_leaves("alice");
    s.client("ben");
    assert_sent(&s.watch("ben", "counter"), &[]);
    let sent = s.exited("alice", ExitKind::Signalled(9), &[]);
    assert_sent(
        &sent,
        &[
            "anna: counter failed, ActorLostError",
            "anna hears: counter is gone, ActorLostError",
            "ben hears: counter is gone, ActorLostError",
        ],
    );
    let sent = s.watch("ben", "counter");
    assert_sent(&sent, &["ben hears: counter is gone, ActorLostError"]);
}

#[test]
fn what_is_no_actor_cannot_be_watched() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.watch("anna", "x"), &["anna hears: x is gone, ActorLostError"]);
    assert_sent(&s.watch("anna", "y"), &["anna hears: y is gone, ActorLostError"]);
}

#[test]
fn a_doubt_is_answered_once_the_worker_is_lost_or_is_not_seen_to_be() {
    let mut s = counter_on_alice();
    s.watch("anna", "counter");
    assert_sent(&s.doubt("anna", "alice", "counter"), &[]);
    let sent = s.pass(5 * Nanos::SECOND);
    assert_sent(&sent, &["anna hears: counter lives at tcp://alice:1"]);
    s.doubt("anna", "alice", "counter");
    s.worker_leaves("alice");
    let sent = s.exited("alice", ExitKind::Signalled(11), &[]);
    assert_sent(
        &sent,
        &["anna: counter failed, ActorLostError", "anna hears: counter is gone, ActorLostError"],
    );
    assert_sent(&s.pass(10 * Nanos::SECOND), &[]);
}

#[test]
fn who_stops_watching_or_leaves_hears_no_more() {
    let mut s = counter_on_alice();
    s.client("ben");
    s.watch("ben", "counter");
    s.watch("anna", "counter");
    s.unwatch("anna", "counter");
    s.client_leaves("ben");
    let sent = s.release("anna", &["counter"]);
    assert_sent(&sent, &["alice frees counter"]);
    assert_eq!(s.state("counter"), None);
}

#[test]
fn a_proxy_that_cannot_be_fetched_does_not_end_its_actor() {
    let mut s = counter_on_alice();
    for _ in 0..20 {
        s.cannot_fetch("anna", "counter", "alice");
    }
    assert_eq!(s.state("counter"), Some(Memory));
}

#[test]
fn an_input_that_is_lost_does_not_concern_an_actor_that_was_made_from_it() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("data").only_on(&["alice"])]);
    s.done("alice", "data");
    s.submit("anna", [future("counter").actor().needs(&["data"]).only_on(&["bob"])]);
    s.done_with("bob", "counter", Outcome::inline());
    assert_sent(&s.worker_leaves("alice"), &["anna: data pending again"]);
    assert_eq!(s.state("counter"), Some(Memory));
}

#[test]
fn actors_stay_spread_when_a_worker_is_quicker_than_the_other() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", ["a", "b", "c", "d"].map(|key| future(key).actor()));
    s.done_with("bob", "b", Outcome::inline());
    s.done_with("bob", "d", Outcome::inline());
    s.done_with("alice", "a", Outcome::inline());
    s.done_with("alice", "c", Outcome::inline());
    assert!(["a", "b", "c", "d"].iter().all(|key| s.state(key) == Some(Memory)));
}

#[test]
fn an_actor_does_not_wait_behind_a_long_task_while_another_worker_is_idle() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("long")]);
    s.submit("anna", [future("counter").actor()]);
    s.join("bob");
    let sent = s.pass(2 * Nanos::SECOND);
    assert!(sent.iter().any(|line| line.contains("counter")), "{sent:?}");
}
