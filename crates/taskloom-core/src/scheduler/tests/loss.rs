//! Lost workers, lost results, and messages of the past.

use super::*;
use State::{Memory, Processing, Released, Waiting};
use taskloom_proto::worker::WorkerToScheduler;

#[test]
fn a_lost_result_that_is_wanted_is_made_again() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    s.join("bob");
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: x pending again", "bob runs x (attempt 2)"]);
    assert_eq!(s.counters().recomputed, 1);
    assert_sent(&s.done("bob", "x"), &["anna finds x at bob"]);
}

#[test]
fn a_lost_result_is_made_again_from_the_last_inputs_that_are_left() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("a"), step("b").needs(&["a"]), future("c").needs(&["b"])]);
    ["a", "b", "c"].iter().for_each(|key| {
        s.done("alice", key);
    });
    s.join("bob");
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: c pending again", "bob runs a (attempt 2)"]);
    assert_eq!((s.state("b"), s.state("c")), (Some(Waiting), Some(Waiting)));
    s.done("bob", "a");
    s.done("bob", "b");
    assert_sent(&s.done("bob", "c"), &["anna finds c at bob", "bob frees b"]);
}

#[test]
fn a_lost_result_that_nobody_needs_is_not_made_again() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [step("x").only_on(&["alice"]), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    s.fetched("bob", &["y"]);
    assert_sent(&s.worker_leaves("alice"), &[]);
    assert_eq!((s.state("x"), s.state("y")), (Some(Released), Some(Memory)));
}

#[test]
fn small_results_survive_their_worker() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done_with("alice", "x", Outcome::inline());
    assert_sent(&s.worker_leaves("alice"), &[]);
    assert_eq!(s.state("x"), Some(Memory));
    s.join("bob");
    assert_sent(&s.submit("anna", [future("y").needs(&["x"])]), &["bob runs y with x inline"]);
}

#[test]
fn small_results_stay_at_workers_once_the_scheduler_holds_enough() {
    let mut s = Script::with(|config| config.inline_bytes = 8);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x"), future("y")]);
    assert_sent(&s.done_with("alice", "x", Outcome::inline()), &["anna has x"]);
    assert_sent(&s.done_with("alice", "y", Outcome::inline()), &["anna finds y at alice"]);
    // when: there is room again
    s.release("anna", &["x"]);
    s.submit("anna", [future("z")]);
    assert_sent(&s.done_with("alice", "z", Outcome::inline()), &["anna has z"]);
}

#[test]
fn a_running_task_whose_input_is_lost_hears_where_the_new_one_is() {
    // given: bob is to fetch x from alice for y
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit(
        "anna",
        [step("x").rather_on(&["alice"]), future("y").needs(&["x"]).only_on(&["bob"])],
    );
    s.done("alice", "x");
    assert_eq!(s.processing("bob"), ["y"]);
    // when: alice is lost
    let sent = s.worker_leaves("alice");
    assert_eq!(s.state("y"), Some(Processing));
    assert_eq!(sent.len(), 1, "{sent:?}");
    let maker = if sent[0].starts_with("bob") { "bob" } else { "carol" };
    let sent = s.done(maker, "x");
    let place = if maker == "bob" { "bob finds x here" } else { "bob finds x from carol" };
    assert_sent(&sent, &[place]);
}

#[test]
fn a_worker_that_cannot_fetch_an_input_hears_of_other_holders() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    s.fetched("bob", &["x"]);
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["carol"])]);
    let sent = s.misses("carol", "x", &["alice"]);
    assert_sent(&sent, &["alice discards x", "carol finds x from bob"]);
}

#[test]
fn an_input_that_no_holder_can_give_is_made_again() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit(
        "anna",
        [future("x").only_on(&["alice"]), future("y").needs(&["x"]).only_on(&["bob"])],
    );
    s.done("alice", "x");
    // when: it is sought in vain again and again
    for _ in 0..8 {
        assert_sent(&s.misses("bob", "x", &["alice"]), &["bob finds x from alice"]);
    }
    let sent = s.misses("bob", "x", &["alice"]);
    let expected = ["alice discards x", "anna: x pending again", "alice runs x (attempt 2)"];
    assert_sent(&sent, &expected);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["bob finds x from alice", "anna finds x at alice"]);
}

#[test]
fn two_tries_are_enough_where_nobody_answers() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit(
        "anna",
        [future("x").only_on(&["alice"]), future("y").needs(&["x"]).only_on(&["bob"])],
    );
    s.done("alice", "x");
    for _ in 0..2 {
        assert_sent(&s.waits_in_vain("bob", "x", &["alice"]), &["bob finds x from alice"]);
    }
    let sent = s.waits_in_vain("bob", "x", &["alice"]);
    let expected = ["alice discards x", "anna: x pending again", "alice runs x (attempt 2)"];
    assert_sent(&sent, &expected);
}

#[test]
fn a_worker_that_misses_a_small_input_is_given_it() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done_with("alice", "x", Outcome::inline());
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    assert_sent(&s.misses("bob", "x", &[]), &["bob finds x inline"]);
}

#[test]
fn a_client_that_cannot_fetch_a_result_is_sent_elsewhere() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    s.fetched("bob", &["x"]);
    let sent = s.cannot_fetch("anna", "x", "alice");
    assert_sent(&sent, &["alice discards x", "anna finds x at bob"]);
}

#[test]
fn a_result_that_no_client_can_fetch_is_made_again() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    for _ in 0..8 {
        assert_sent(&s.cannot_fetch("anna", "x", "alice"), &["anna finds x at alice"]);
    }
    let sent = s.cannot_fetch("anna", "x", "alice");
    let expected = ["alice discards x", "anna: x pending again", "alice runs x (attempt 2)"];
    assert_sent(&sent, &expected);
}

#[test]
fn a_result_of_an_older_attempt_is_freed_and_the_newer_attempt_owns_the_task() {
    // given: alice was asked for x back, gave it, and bob runs it
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice", "bob"])]);
    let old = s.run("alice", "x");
    s.reschedules("alice", "x");
    assert_eq!(s.processing("bob"), ["x"]);
    // when: alice reports the first attempt as done all the same
    let sent = s.done_as("alice", old.task, old.attempt, Outcome::default());
    // then
    assert_sent(&sent, &["alice discards x"]);
    assert_eq!(s.counters().stale_messages, 1);
    assert_sent(&s.done("bob", "x"), &["anna finds x at bob"]);
}

#[test]
fn an_older_attempt_on_the_same_worker_does_not_free_the_newer_one() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let old = s.run("alice", "x");
    s.reschedules("alice", "x");
    let sent = s.done_as("alice", old.task, old.attempt, Outcome::default());
    assert_sent(&sent, &[]);
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
}

#[test]
fn messages_of_a_session_that_is_over_are_counted_and_dropped() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let old = s.number("alice");
    let run = s.run("alice", "x");
    s.worker_leaves("alice");
    s.join("alice");
    let done = taskloom_proto::worker::TaskDone {
        task: run.task,
        attempt: 2,
        size_bytes: 1,
        ..Default::default()
    };
    let message = taskloom_proto::worker::WorkerToScheduler::Done(vec![done]);
    assert_sent(&s.event(Event::WorkerMessage { worker: old, message }), &[]);
    assert_eq!((s.state("x"), s.counters().stale_messages), (Some(Processing), 1));
    assert_sent(&s.event(Event::WorkerLeft { worker: old }), &[]);
    assert_eq!(s.scheduler.worker_count(), 1);
}

#[test]
fn a_second_worker_of_one_name_is_refused() {
    let mut s = Script::anna_and(["alice"]);
    let sent = s.join(worker("alice").at("tcp://elsewhere:1", "there"));
    assert_eq!(sent[0], "alice is told to close");
    assert!(sent[1].contains("another --name"), "{sent:?}");
    assert_eq!(s.scheduler.worker_count(), 1);
}

#[test]
fn a_replica_of_what_is_gone_is_freed() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    let id = s.id("x");
    s.release("anna", &["x"]);
    let message = taskloom_proto::worker::WorkerToScheduler::Fetched(vec![id]);
    assert_sent(&s.report("bob", message), &["bob frees x"]);
}

#[test]
fn the_tasks_of_a_worker_that_says_goodbye_go_elsewhere_without_blame() {
    let mut s = Script::with(|config| config.allowed_failures = 0);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x"), future("y")]);
    s.join("bob");
    // when: it says that it closes, it gets nothing new
    assert_sent(&s.closes("alice"), &[]);
    assert_sent(&s.submit("anna", [future("z")]), &["bob runs z"]);
    // then: what it had is tried again
    s.worker_leaves("alice");
    s.done("bob", "z");
    assert_eq!(s.scheduler.tasks[s.index("x")].suspicions, 0);
    assert_eq!(s.counters().tasks_erred, 0);
}

#[test]
fn the_queue_of_a_lost_worker_is_taken_over() {
    // given: y and z wait for alice, since x is there and dear to move
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done_with("alice", "x", Outcome::of_bytes(500 << 20));
    s.submit("anna", [future("busy").only_on(&["alice"])]);
    s.submit("anna", [future("y").needs(&["x"]), future("z").only_on(&["bob"])]);
    assert_eq!(s.state("y"), Some(State::Queued));
    s.closes("alice");
    assert_sent(&s.done("bob", "z"), &["anna finds z at bob", "bob runs y with x from alice"]);
}

/// Results of alice are known to bob, who needs one, and to anna, who wants one.
fn alice_is_known() -> Script {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.client("bert");
    s.submit(
        "anna",
        [future("x").only_on(&["alice"]), future("y").needs(&["x"]).only_on(&["bob"])],
    );
    s.done("alice", "x");
    s
}

fn told(s: &Script) -> Vec<(&str, WorkerNo, &str)> {
    let told = s.words.told_gone.iter();
    let mut told: Vec<_> =
        told.map(|(name, gone)| (name.as_str(), gone.worker, gone.cut.as_str())).collect();
    told.sort_unstable();
    told
}

fn introductions(s: &Script) -> (usize, usize) {
    let workers = s.scheduler.workers.iter().map(|worker| worker.peers.len()).sum::<usize>();
    let clients = s.scheduler.clients.values().map(|client| client.peers.len()).sum::<usize>();
    (workers, clients)
}

#[test]
fn who_was_introduced_to_a_worker_that_is_gone_is_told_so_and_forgets_it() {
    for is_away_before in [false, true] {
        let mut s = alice_is_known();
        let alice = s.number("alice");
        assert_eq!(introductions(&s), (1, 1));
        if is_away_before {
            s.event(Event::Away(Party::Worker(alice)));
        }
        s.worker_leaves("alice");
        assert_eq!(introductions(&s), (0, 0));
        // Nobody else: it was seen to end, whatever its connection did before.
        assert_eq!(told(&s), [("anna", alice, ""), ("bob", alice, "")]);
    }
}

#[test]
fn all_are_told_to_cut_their_connections_to_a_worker_that_fell_silent() {
    let mut s = alice_is_known();
    let alice = s.number("alice");
    let address = s.scheduler.worker_address(alice).unwrap().to_string();
    let step = s.scheduler.config.worker_ttl_ns / 4;
    for _ in 0..6 {
        s.pass(step);
        s.heartbeat("bob");
        s.heartbeat("carol");
    }
    assert!(s.scheduler.worker_address(alice).is_none());
    assert_eq!(introductions(&s), (0, 0));
    let all = ["anna", "bert", "bob", "carol"];
    assert_eq!(told(&s), all.map(|name| (name, alice, address.as_str())));
}

#[test]
fn what_a_worker_tells_of_a_copy_before_it_has_discarded_it_does_not_count() {
    for has_discarded in [false, true] {
        let mut s = Script::anna_and(["alice"]);
        s.submit("anna", [future("x").rather_on(&["alice"])]);
        s.join("bob");
        // given: a copy of what nobody has, which is to go
        assert_sent(&s.fetched("bob", &["x"]), &["bob discards x"]);
        assert_sent(&s.fetched("bob", &["x"]), &[]);
        s.done("alice", "x");
        if has_discarded {
            let discarded = WorkerToScheduler::Discarded(vec![s.id("x")]);
            assert_sent(&s.report("bob", discarded), &[]);
        }
        // when
        assert_sent(&s.fetched("bob", &["x"]), &[]);
        let sent = s.worker_leaves("alice");
        // then
        let again = ["anna: x pending again", "bob runs x (attempt 2)"];
        assert_sent(&sent, if has_discarded { &[] } else { &again });
    }
}

#[test]
fn a_result_is_not_given_up_because_its_holder_is_away_and_has_not_heard_of_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    let alice = s.number("alice");
    s.event(Event::Away(Party::Worker(alice)));
    for _ in 0..100 {
        assert_sent(&s.cannot_fetch("anna", "x", "alice"), &["anna finds x at alice"]);
    }
    s.event(Event::Back(Party::Worker(alice)));
    let tries =
        (0..100).take_while(|_| s.cannot_fetch("anna", "x", "alice") == ["anna finds x at alice"]);
    assert_eq!(tries.count(), 8);
    assert_eq!(s.state("x"), Some(Processing));
}
