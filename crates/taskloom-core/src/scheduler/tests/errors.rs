//! Runs that raise, and what becomes of them and of what depends on them.

use super::*;
use State::{Erred, Memory, Processing};

#[test]
fn an_error_reaches_all_dependents_with_its_first_cause() {
    let mut s = Script::anna_and(["alice"]);
    s.submit(
        "anna",
        [step("x"), step("y").needs(&["x"]), future("z").needs(&["y"]), future("w").needs(&["z"])],
    );
    let sent = s.raises("alice", "x");
    let expected = ["alice frees x", "anna: z failed, ValueError", "anna: w failed, ValueError"];
    assert_sent(&sent, &expected);
    let error = &s.words.errors["w"];
    assert_eq!(error.origin.as_ref().map(ToString::to_string).as_deref(), Some("x"));
    assert_eq!(error.worker, "tcp://alice:1");
}

#[test]
fn a_task_submitted_after_its_input_failed_fails_at_once() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.raises("alice", "x");
    let sent = s.submit("anna", [future("y").needs(&["x"])]);
    assert_sent(&sent, &["anna: y failed, ValueError"]);
}

#[test]
fn a_future_of_an_erred_key_is_told_at_once() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.raises("alice", "x");
    assert_sent(&s.desire("bert", "x"), &["bert: x failed, ValueError"]);
    s.release("anna", &["x"]);
    assert_eq!(s.state("x"), Some(Erred));
    s.release("bert", &["x"]);
    assert_eq!(s.state("x"), None);
}

#[test]
fn inputs_of_an_erred_task_are_released() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    let sent = s.raises("alice", "y");
    assert_sent(&sent, &["alice frees y x", "anna: y failed, ValueError"]);
}

#[test]
fn other_inputs_of_a_failed_task_are_not_made_any_more() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit(
        "anna",
        [
            step("x").only_on(&["alice"]),
            step("y").only_on(&["bob"]),
            future("z").needs(&["x", "y"]),
        ],
    );
    let sent = s.raises("alice", "x");
    assert_sent(&sent, &["alice frees x", "anna: z failed, ValueError", "bob frees y"]);
    assert_eq!(s.state("y"), Some(State::Released));
    s.release("anna", &["z"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_task_with_retries_is_tried_again_that_often() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(2)]);
    assert_sent(&s.raises("alice", "x"), &["alice runs x (attempt 2)"]);
    assert_sent(&s.raises("alice", "x"), &["alice runs x (attempt 3)"]);
    assert_sent(&s.raises("alice", "x"), &["alice frees x", "anna: x failed, ValueError"]);
}

#[test]
fn a_retry_that_succeeds_is_all_that_the_client_sees() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1)]);
    s.raises("alice", "x");
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
}

#[test]
fn the_loss_of_a_worker_uses_up_no_retry() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1)]);
    s.worker_leaves("alice");
    s.join("bob");
    assert_sent(&s.raises("bob", "x"), &["bob runs x (attempt 3)"]);
}

#[test]
fn a_task_that_raises_reschedule_runs_again_elsewhere_if_it_can() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.reschedules("alice", "x"), &["bob runs x (attempt 2)"]);
    assert_sent(&s.done("bob", "x"), &["anna finds x at bob"]);
}

#[test]
fn trying_again_starts_with_the_first_cause() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), step("y").needs(&["x"]), future("z").needs(&["y"])]);
    s.raises("alice", "x");
    let sent = s.retry("anna", &["z"]);
    assert_sent(&sent, &["anna: z pending again", "alice runs x (attempt 2)"]);
    s.done("alice", "x");
    s.done("alice", "y");
    assert_sent(&s.done("alice", "z"), &["anna finds z at alice", "alice frees y"]);
}

#[test]
fn trying_again_what_is_finished_tells_so_again() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    assert_sent(&s.retry("anna", &["x"]), &["anna finds x at alice"]);
    assert_eq!(s.state("x"), Some(Memory));
}

#[test]
fn trying_again_what_runs_changes_nothing() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.retry("anna", &["x"]), &[]);
    assert_eq!(s.state("x"), Some(Processing));
}

#[test]
fn what_came_without_its_function_fails_and_cannot_be_tried_again() {
    let mut s = Script::anna_and(["alice"]);
    let mut batch = s.batch("anna", 1, true, vec![future("x")]);
    batch.tasks[0].functions.push(5);
    let sent = s.say("anna", taskloom_proto::client::ClientToScheduler::Submit(batch));
    assert_sent(&sent, &["anna: x failed, ProtocolError"]);
    assert_sent(&s.retry("anna", &["x"]), &["anna: x failed, ProtocolError"]);
}

#[test]
fn a_late_error_of_an_older_attempt_is_counted_and_dropped() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").rather_on(&["alice"])]);
    s.reschedules("alice", "x");
    assert_eq!(s.processing("alice"), ["x"]);
    let mut older = s.run("alice", "x");
    older.attempt = 1;
    let erred = taskloom_proto::worker::TaskErred {
        task: older.task,
        attempt: older.attempt,
        ..Default::default()
    };
    let sent = s.report("alice", taskloom_proto::worker::WorkerToScheduler::Erred(erred));
    assert_sent(&sent, &[]);
    assert_eq!((s.state("x"), s.counters().stale_messages), (Some(Processing), 1));
}

#[test]
fn a_task_that_needs_itself_by_way_of_another_fails() {
    // given: a needs b, which was asked for before anybody submitted it
    let mut s = Script::anna_and(["alice"]);
    s.desire("anna", "b");
    s.submit("anna", [future("a").needs(&["b"])]);
    // when: b comes, and needs a
    let sent = s.submit("anna", [future("b").needs(&["a"])]);
    // then
    let expected =
        ["anna: a failed, ValueError", "anna: b failed, ValueError", "anna: b failed, ValueError"];
    let mut sent = sent;
    sent.sort();
    assert_sent(&sent, &expected);
    assert!(s.words.errors["b"].message.contains("needs itself"));
    s.cancel("anna", &["a", "b"]);
    s.client_leaves("anna");
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_task_that_is_its_own_input_fails() {
    let mut s = Script::anna_and(["alice"]);
    s.desire("anna", "x");
    let sent = s.submit("anna", [future("x").needs(&["x"])]);
    assert_sent(&sent, &["anna: x failed, ValueError", "anna: x failed, ValueError"]);
}
