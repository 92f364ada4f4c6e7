//! Who holds what: references of clients, of dependents, of open submissions.

use super::*;
use State::{Memory, Processing, Queued, Released, Waiting};
use taskloom_proto::client::{ClientToScheduler, Handles, RegisterClient, SubmitBatch};
use taskloom_types::Handle;

#[test]
fn a_result_is_kept_until_the_last_client_releases_it() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    assert_sent(&s.submit("bert", [future("x")]), &[]);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["anna finds x at alice", "bert finds x at alice"]);
    assert_sent(&s.release("anna", &["x"]), &[]);
    assert_eq!(s.state("x"), Some(Memory));
    assert_sent(&s.release("bert", &["x"]), &["alice frees x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_second_future_of_a_finished_key_is_ready_at_once() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.done_with("alice", "x", Outcome::inline());
    assert_sent(&s.submit("bert", [future("x")]), &["bert has x"]);
    assert_sent(&s.desire("anna", "x"), &["anna has x"]);
}

#[test]
fn each_future_of_one_client_for_one_key_counts() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let first = s.handles("anna", &["x"]);
    s.submit("anna", [future("x")]);
    s.say("anna", ClientToScheduler::Release(first));
    assert_eq!(s.state("x"), Some(Processing));
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
}

#[test]
fn an_input_goes_when_the_last_task_that_needs_it_is_done() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"]), future("z").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    assert_eq!(s.state("x"), Some(Memory));
    assert_sent(&s.done("alice", "z"), &["anna finds z at alice", "alice frees x"]);
    assert_eq!(s.state("x"), Some(Released));
    // then: what is left of x is how to make it again, as long as something is made from it
    s.release("anna", &["y", "z"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn an_input_that_is_used_twice_by_one_task_is_counted_twice() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x", "x"])]);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["alice runs y with x here, x here"]);
    assert_sent(&s.done("alice", "y"), &["anna finds y at alice", "alice frees x"]);
    s.release("anna", &["y"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn releasing_the_end_of_a_chain_releases_all_of_it_however_long() {
    let mut s = Script::new();
    s.client("anna");
    let link = |i: u32| match i {
        0 => step("c0"),
        i => step(&format!("c{i}")).needs(&[&format!("c{}", i - 1)]),
    };
    for first in (0..200).step_by(10) {
        s.piece("anna", 7, false, (first..first + 10).map(link).collect());
    }
    s.piece("anna", 7, true, vec![future("end").needs(&["c199"])]);
    assert_eq!(s.scheduler.task_count(), 201);
    s.release("anna", &["end"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn outputs_of_a_graph_that_nobody_asked_for_are_forgotten_once_it_is_complete() {
    let mut s = Script::anna_and(["alice"]);
    let submission = s.begin("anna", [step("x"), step("unasked").needs(&["x"])]);
    assert_eq!(s.state("unasked"), Some(Waiting));
    let sent = s.piece("anna", submission, true, vec![future("y").needs(&["x"])]);
    assert_sent(&sent, &[]);
    assert_eq!((s.state("unasked"), s.state("x")), (None, Some(Processing)));
}

#[test]
fn a_key_that_nothing_holds_any_more_can_name_other_work() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").arguments(1)]);
    s.done("alice", "x");
    s.release("anna", &["x"]);
    assert_sent(&s.submit("anna", [future("x").arguments(2)]), &["alice runs x"]);
    assert_eq!(s.counters().collisions, 0);
}

#[test]
fn a_key_that_only_lineage_keeps_can_name_other_work() {
    // given: y was made from x, which is gone but could be made again
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [step("x").arguments(1), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    assert_eq!(s.state("x"), Some(Released));
    let old = s.id("x");
    // when: x now names other work
    let sent = s.submit("anna", [future("x").arguments(2).only_on(&["bob"])]);
    assert_sent(&sent, &["bob runs x"]);
    s.done("bob", "x");
    // then: to make y again, the old x is made again
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: y pending again", "bob runs x (attempt 2)"]);
    let again = s.run("bob", "x");
    assert_eq!(again.task, old);
    let sent = s.done_as("bob", again.task, again.attempt, Outcome::default());
    assert_sent(&sent, &["bob runs y (attempt 2) with x here"]);
    s.done("bob", "y");
    s.release("anna", &["x", "y"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn what_only_a_vanished_client_wanted_goes() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [step("x"), future("y").needs(&["x"]), future("z").needs(&["x"])]);
    s.begin("anna", [step("open")]);
    s.desire("bert", "z");
    s.client_leaves("anna");
    assert_eq!((s.state("y"), s.state("open")), (None, None));
    assert_eq!((s.state("x"), s.state("z")), (Some(Processing), Some(Waiting)));
    assert_sent(&s.client_leaves("bert"), &["alice frees x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_task_that_was_fired_and_forgotten_is_kept_until_it_is_done() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    s.detach("anna", &["y"]);
    assert_sent(&s.release("anna", &["y"]), &[]);
    s.client_leaves("anna");
    assert_sent(&s.done("alice", "x"), &["alice runs y with x here"]);
    assert_sent(&s.done("alice", "y"), &["alice frees y x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_task_that_was_fired_and_forgotten_goes_when_it_fails() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.detach("anna", &["x"]);
    s.release("anna", &["x"]);
    s.raises("alice", "x");
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_key_may_be_asked_for_before_it_is_submitted() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    assert_sent(&s.desire("bert", "x"), &[]);
    assert_eq!(s.reason("x"), "not-submitted");
    assert_sent(&s.submit("bert", [future("y").needs(&["x"])]), &[]);
    assert_sent(&s.submit("anna", [future("x")]), &["alice runs x"]);
    let sent = s.done("alice", "x");
    let expected = ["bert finds x at alice", "anna finds x at alice", "alice runs y with x here"];
    assert_sent(&sent, &expected);
}

#[test]
fn a_call_that_came_without_its_input_does_not_keep_its_key_from_who_has_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.release("anna", &["x"]);
    s.submit("anna", [future("y").needs(&["x"])]);
    s.client("bert");
    let sent = s.submit("bert", [future("x"), future("y").needs(&["x"])]);
    assert_sent(&sent, &["alice runs x"]);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["bert finds x at alice", "alice runs y with x here"]);
    // and: hers has failed
    s.release("anna", &["y"]);
    assert_sent(&s.done("alice", "y"), &["bert finds y at alice"]);
}

#[test]
fn a_task_whose_input_was_released_before_fails_and_says_so() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.release("anna", &["x"]);
    let sent = s.submit("anna", [future("y").needs(&["x"])]);
    assert_sent(&sent, &["anna: y failed, CancelledError"]);
    assert!(s.words.errors["y"].message.contains("missing-dependency"));
}

#[test]
fn releasing_what_is_not_held_changes_nothing() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let nonsense = Handles { handles: vec![Handle(77), Handle(0)] };
    assert_sent(&s.say("anna", ClientToScheduler::Release(nonsense)), &[]);
    let nobody = ClientId(99);
    let release = ClientToScheduler::Release(s.handles("anna", &["x"]));
    assert_sent(&s.event(Event::ClientMessage { client: nobody, message: release }), &[]);
    assert_eq!(s.state("x"), Some(Processing));
}

#[test]
fn a_client_that_registers_twice_keeps_its_futures() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.say("anna", ClientToScheduler::Register(RegisterClient::default()));
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
}

#[test]
fn a_handle_that_is_used_again_lets_go_of_what_it_named() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let mut batch = s.batch("anna", 9, true, vec![future("y")]);
    batch.tasks[0].handle = s.handle("anna", "x");
    let sent = s.say("anna", ClientToScheduler::Submit(batch));
    assert_sent(&sent, &["alice frees x", "alice runs y"]);
    assert_eq!((s.state("x"), s.state("y")), (None, Some(Processing)));
}

#[test]
fn a_submission_of_an_unknown_client_is_counted_and_dropped() {
    let mut s = Script::anna_and(["alice"]);
    let message = ClientToScheduler::Submit(SubmitBatch::default());
    s.event(Event::ClientMessage { client: ClientId(99), message });
    assert_eq!(s.counters().stale_messages, 1);
}

#[test]
fn the_graph_runs_before_its_last_piece_is_there() {
    let mut s = Script::anna_and(["alice"]);
    let submission = s.begin("anna", [step("x"), step("y").needs(&["x"])]);
    assert_eq!((s.state("x"), s.state("y")), (Some(Processing), Some(Waiting)));
    s.done("alice", "x");
    let sent = s.done("alice", "y");
    assert_sent(&sent, &[]);
    let sent = s.piece("anna", submission, true, vec![future("z").needs(&["y"])]);
    assert_sent(&sent, &["alice frees x", "alice runs z with y here"]);
    assert_eq!(s.state("y"), Some(Memory));
}

#[test]
fn a_slot_that_was_freed_is_another_task() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let old = s.run("alice", "x");
    s.release("anna", &["x"]);
    s.submit("anna", [future("y")]);
    assert_eq!(s.id("y").index, old.task.index);
    // when: the old run is reported
    let sent = s.done_as("alice", old.task, old.attempt, Outcome::default());
    // then: it is not y's
    assert_sent(&sent, &["alice frees x"]);
    assert_eq!(s.state("y"), Some(Processing));
    assert_eq!(s.counters().stale_messages, 1);
}

#[test]
fn a_queued_task_that_is_wanted_again_runs_once() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("a"), future("b"), future("x")]);
    assert_eq!(s.state("x"), Some(Queued));
    s.release("anna", &["x"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "a");
    assert_sent(&s.done("alice", "b"), &["anna finds b at alice", "alice runs x"]);
}

#[test]
fn a_key_that_nobody_submitted_is_not_kept_by_firing_and_forgetting_it() {
    let mut s = Script::anna_and(["alice"]);
    s.desire("anna", "x");
    s.detach("anna", &["x"]);
    s.release("anna", &["x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}
