//! Retries with a policy.

use super::*;
use State::{Erred, Processing, Waiting};
use taskloom_proto::Value;
use taskloom_proto::client::{Question, RestartWorkers};
use taskloom_types::Key;

const MS: u64 = Nanos::MILLISECOND;

#[test]
fn a_failed_task_is_tried_again_after_its_pause() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(2).pauses_ms(&[100, 300])]);
    assert_sent(&s.raises("alice", "x"), &[]);
    assert_eq!((s.state("x"), s.reason("x")), (Some(Waiting), "waiting-for-retry".into()));
    assert_sent(&s.pass(99 * MS), &[]);
    assert_sent(&s.pass(MS), &["alice runs x (attempt 2)"]);
    s.raises("alice", "x");
    assert_sent(&s.pass(299 * MS), &[]);
    assert_sent(&s.pass(MS), &["alice runs x (attempt 3)"]);
    assert_sent(&s.raises("alice", "x"), &["alice frees x", "anna: x failed, ValueError"]);
}

#[test]
fn explain_says_when_a_task_is_tried_again() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100])]);
    s.raises("alice", "x");
    s.pass(40 * MS);
    let answer = s.ask("anna", Question::Explain(Key::from_text("x")));
    assert_eq!(answer.get("retry_in_s"), Some(&Value::Float(0.06)));
}

#[test]
fn others_run_during_a_pause() {
    let mut s = Script::anna_and(["alice"]);
    let others = [future("y"), future("z")];
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100])]);
    s.submit("anna", others);
    assert_eq!(s.processing("alice"), ["x", "y"]);
    assert_sent(&s.raises("alice", "x"), &["alice runs z"]);
}

#[test]
fn a_policy_without_pauses_tries_at_once() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1).pauses_ms(&[])]);
    assert_sent(&s.raises("alice", "x"), &["alice runs x (attempt 2)"]);
}

#[test]
fn only_the_named_exceptions_are_followed_by_another_attempt() {
    let mut s = Script::anna_and(["alice"]);
    let task = |key| future(key).retries(3).retries_on(&["OSError"], &["FileNotFoundError"]);
    s.submit("anna", [task("x"), task("y"), task("z")]);
    let os_error = ["socket.gaierror", "builtins.OSError"];
    let missing = ["builtins.FileNotFoundError", "builtins.OSError"];
    assert_sent(&s.raises_one_of("alice", "x", &os_error), &["alice runs x (attempt 2)"]);
    s.done("alice", "x");
    let sent = s.raises_one_of("alice", "y", &["builtins.KeyError"]);
    assert_sent(&sent, &["alice frees y", "anna: y failed, Odd", "alice runs z"]);
    let sent = s.raises_one_of("alice", "z", &missing);
    assert_sent(&sent, &["alice frees z", "anna: z failed, Odd"]);
}

#[test]
fn clients_are_not_told_the_bases_of_an_exception() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.raises_one_of("alice", "x", &["builtins.OSError"]);
    assert_eq!(s.words.errors["x"].types, Vec::<String>::new());
}

#[test]
fn a_task_in_a_pause_can_be_cancelled() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100]), future("y").needs(&["x"])]);
    s.raises("alice", "x");
    let expected = ["anna: x cancelled, cancelled", "anna: y cancelled, cancelled"];
    assert_sent(&s.cancel("anna", &["x"]), &expected);
    assert_eq!(s.scheduler.task_count(), 0);
    assert_sent(&s.pass(200 * MS), &[]);
}

#[test]
fn an_input_that_is_lost_in_a_pause_is_made_first() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"]).retries(1).pauses_ms(&[100])]);
    s.done("alice", "x");
    s.raises("alice", "y");
    // when: x is lost with alice
    s.worker_leaves("alice");
    s.join("bob");
    assert_eq!(s.reason("y"), "waiting-for-retry");
    assert_sent(&s.pass(100 * MS), &[]);
    assert_eq!(s.reason("y"), "waiting-for-dependencies");
    assert_sent(&s.done("bob", "x"), &["bob runs y (attempt 2) with x here"]);
}

#[test]
fn an_input_that_comes_back_in_a_pause_does_not_end_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"]).retries(1).pauses_ms(&[100])]);
    s.done("alice", "x");
    s.raises("alice", "y");
    s.worker_leaves("alice");
    s.join("bob");
    assert_sent(&s.done("bob", "x"), &[]);
    assert_eq!(s.state("y"), Some(Waiting));
    assert_sent(&s.pass(100 * MS), &["bob runs y (attempt 2) with x here"]);
}

#[test]
fn an_input_that_fails_in_a_pause_fails_the_task() {
    let mut s = Script::anna_and(["alice"]);
    let second = future("y").needs(&["x"]).retries(1).pauses_ms(&[1000]);
    s.submit("anna", [step("x"), second]);
    s.done("alice", "x");
    s.raises("alice", "y");
    s.worker_leaves("alice");
    s.join("bob");
    assert_sent(&s.raises("bob", "x"), &["bob frees x", "anna: y failed, ValueError"]);
    assert_eq!(s.state("y"), Some(Erred));
    s.pass(2 * Nanos::SECOND);
}

#[test]
fn dependents_wait_while_an_input_is_in_a_pause() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100]), future("y").needs(&["x"])]);
    s.raises("alice", "x");
    assert_eq!(s.state("y"), Some(Waiting));
    s.pass(100 * MS);
    s.done("alice", "x");
    assert_eq!(s.state("y"), Some(Processing));
}

#[test]
fn what_was_sent_ahead_of_a_task_comes_back_for_its_pause() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100]), future("y").needs(&["x"])]);
    assert_eq!(s.processing("alice"), ["x", "y"]);
    assert_sent(&s.raises("alice", "x"), &["alice frees y"]);
    assert_eq!(s.state("y"), Some(Waiting));
}

#[test]
fn a_restart_forgets_pauses() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").retries(1).pauses_ms(&[100])]);
    s.raises("alice", "x");
    s.request("anna", Question::Restart(RestartWorkers::default()));
    assert_eq!(s.scheduler.task_count(), 0);
    assert_eq!(s.scheduler.delays.len(), 0);
}

#[test]
fn a_task_without_a_policy_pays_no_memory_for_those_with_one() {
    // A larger record is to be a decision: memory per task is a promise.
    assert_eq!(size_of::<super::super::task::TaskRecord>(), 304);
}
