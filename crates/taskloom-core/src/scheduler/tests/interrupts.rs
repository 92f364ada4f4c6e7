//! Cancelled runs that are interrupted, and runs that do not end.

use super::*;
use State::Processing;
use taskloom_proto::ExitKind;
use taskloom_proto::policy::{RunLimits, StuckRun};

fn supervised() -> Script {
    let mut s = Script::new();
    s.supervisor();
    s.client("anna");
    s.join(worker("alice").threads(2).supervised());
    s
}

#[test]
fn a_running_task_that_is_cancelled_is_interrupted_after_it_is_freed() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let expected = ["anna: x cancelled, cancelled", "alice frees x", "alice interrupts x"];
    assert_sent(&s.cancel("anna", &["x"]), &expected);
}

#[test]
fn a_grace_is_told_where_the_task_or_force_sets_one() {
    let mut s = Script::with(|config| config.cancel_grace_ns = 4 * Nanos::SECOND);
    s.client("anna");
    s.join(worker("alice").threads(3));
    let own = |key| future(key).cancel_grace_ms(70);
    s.submit("anna", [own("x"), own("y"), future("z")]);
    let interrupt = |sent: Vec<String>| sent.last().cloned().unwrap();
    assert_eq!(interrupt(s.cancel("anna", &["x"])), "alice interrupts x with 70 ms grace");
    assert_eq!(interrupt(s.cancel_by_force("anna", &["y"])), "alice interrupts y with 70 ms grace");
    let sent = s.cancel_by_force("anna", &["z"]);
    assert_eq!(interrupt(sent), "alice interrupts z with 4000 ms grace");
}

#[test]
fn a_run_that_another_client_waits_for_is_not_interrupted() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.desire("bert", "x");
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
}

#[test]
fn a_run_that_another_clients_task_needs_is_not_interrupted() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.desire("bert", "x");
    s.submit("bert", [future("y").needs(&["x"])]);
    s.release("bert", &["x"]);
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    assert_eq!(s.state("x"), Some(Processing));
}

#[test]
fn a_released_run_goes_on() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
}

#[test]
fn the_worker_is_told_the_limits_of_a_run() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").limits_ms(100, 2000), future("y")]);
    let limits = |s: &Script, key| s.scheduler.limits_of(s.index(key));
    let expected = RunLimits { timeout_ns: 100_000_000, hard_timeout_ns: 2_000_000_000 };
    assert_eq!(limits(&s, "x").as_deref(), Some(&expected));
    assert_eq!(limits(&s, "y"), None);
}

#[test]
fn the_process_of_a_stuck_run_is_replaced_and_others_in_it_run_again_without_blame() {
    let mut s = supervised();
    s.submit("anna", [future("x").limits_ms(0, 1000), future("y")]);
    let sent = s.is_stuck("alice", "x");
    assert_eq!(sent[0], "supervisor restarts alice");
    assert!(sent.contains(&"anna: x failed, TaskTimeout".to_string()), "{sent:?}");
    let error = &s.words.errors["x"];
    assert!(error.message.contains("ran for 1.5 s on worker alice"), "{}", error.message);
    assert!(error.message.contains("hard_timeout of 1 s"), "{}", error.message);
    // when: the process is gone
    s.exited("alice", ExitKind::Requested, &["x", "y"]);
    assert_eq!(s.state("y"), Some(State::NoWorker));
    assert_sent(&s.join("alice"), &["alice is registered", "alice runs y (attempt 2)"]);
    let y = s.index("y");
    assert_eq!(s.scheduler.tasks[y].suspicions, 0);
}

#[test]
fn a_stuck_run_with_retries_is_tried_again_elsewhere() {
    let mut s = supervised();
    s.submit("anna", [future("x").retries(1).retries_on(&["TimeoutError"], &[]).limits_ms(0, 9)]);
    s.join("bob");
    let sent = s.is_stuck("alice", "x");
    let expected = ["supervisor restarts alice", "alice frees x", "bob runs x (attempt 2)"];
    assert_sent(&sent, &expected);
}

#[test]
fn where_no_process_can_be_replaced_the_task_fails_and_the_worker_goes_on() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").limits_ms(0, 1000), future("y"), future("z")]);
    let expected = ["alice frees x", "anna: x failed, TaskTimeout", "alice runs z"];
    assert_sent(&s.is_stuck("alice", "x"), &expected);
}

#[test]
fn a_cancelled_run_that_goes_on_beyond_its_grace_costs_its_process() {
    let mut s = supervised();
    s.submit("anna", [future("x")]);
    s.cancel_by_force("anna", &["x"]);
    assert_sent(&s.is_stuck("alice", "x"), &["supervisor restarts alice"]);
    assert_eq!(s.counters().processes_replaced, 1);
    // The same is not asked for twice.
    assert_sent(&s.is_stuck("alice", "x"), &[]);
}

#[test]
fn an_old_report_of_a_stuck_run_does_not_harm_the_new_attempt() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").limits_ms(0, 1000)]);
    s.worker_leaves("alice");
    s.join("alice");
    assert_eq!(s.state("x"), Some(Processing));
    let attempt_before = StuckRun { task: s.id("x"), attempt: 1, running_ns: 1 };
    assert_sent(&s.report("alice", WorkerToScheduler::Stuck(attempt_before)), &[]);
    assert_eq!(s.state("x"), Some(Processing));
}
