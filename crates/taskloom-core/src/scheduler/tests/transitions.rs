//! Every transition of the table, made by what the table says makes it.

use super::*;
use State::{Erred, Memory, NoWorker, Processing, Queued, Released, Waiting};
use taskloom_proto::client::{PlanScatter, Question};
use taskloom_types::Key;

/// A script and the key in it that made the transition.
type Scenario = fn() -> (Script, &'static str);

/// One scenario for each line of [`TRANSITIONS`].
const SCENARIOS: &[(State, State, Scenario)] = &[
    (Released, Waiting, a_wanted_task_waits),
    (Waiting, Queued, a_task_without_inputs_is_queued),
    (Waiting, NoWorker, without_workers_nobody_can_run_it),
    (Waiting, Processing, a_task_runs_ahead_of_its_input),
    (Waiting, Memory, scattered_data_arrives),
    (Waiting, Erred, an_input_fails),
    (Waiting, Released, a_waiting_task_is_released),
    (Queued, Processing, a_task_without_inputs_is_queued),
    (Queued, NoWorker, the_last_worker_leaves),
    (Queued, Waiting, the_input_of_a_queued_task_is_lost),
    (Queued, Erred, a_queued_task_of_an_open_graph_is_cancelled_by_force),
    (Queued, Released, a_queued_task_is_released),
    (NoWorker, Queued, the_right_worker_joins),
    (NoWorker, Waiting, the_input_of_a_task_without_worker_is_lost),
    (NoWorker, Erred, no_worker_comes_in_time),
    (NoWorker, Released, a_task_without_worker_is_released),
    (Processing, Memory, a_run_ends_well),
    (Processing, Erred, a_run_raises),
    (Processing, Waiting, a_worker_dies),
    (Processing, Released, a_running_task_is_released),
    (Memory, Released, a_result_is_released),
    (Erred, Released, an_erred_task_is_tried_again),
];

#[test]
fn every_transition_of_the_table_happens_for_the_reason_that_it_names() {
    for (from, to, scenario) in SCENARIOS {
        let (script, key) = scenario();
        let story = script.story(key);
        assert!(story.contains(&(*from, *to)), "{from:?} to {to:?}: the story is {story:?}");
    }
}

#[test]
fn the_table_and_its_scenarios_name_the_same_transitions() {
    let table: Vec<_> = TRANSITIONS.iter().map(|(from, to, _)| (*from, *to)).collect();
    let shown: Vec<_> = SCENARIOS.iter().map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(table, shown);
}

#[test]
fn a_transition_is_legal_exactly_if_the_table_has_it() {
    for from in State::ALL {
        for to in State::ALL {
            let listed = TRANSITIONS.iter().any(|(f, t, _)| (*f, *t) == (from, to));
            assert_eq!(is_legal(from, to), listed, "{from:?} to {to:?}");
        }
    }
}

fn a_wanted_task_waits() -> (Script, &'static str) {
    let mut s = Script::anna_and([]);
    s.submit("anna", [future("x")]);
    (s, "x")
}

fn a_task_without_inputs_is_queued() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.submit("anna", [future("x")]), &["alice runs x"]);
    (s, "x")
}

fn without_workers_nobody_can_run_it() -> (Script, &'static str) {
    let mut s = Script::anna_and([]);
    assert_sent(&s.submit("anna", [future("x")]), &[]);
    assert_eq!(s.state("x"), Some(NoWorker));
    (s, "x")
}

fn a_task_runs_ahead_of_its_input() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("first")]);
    s.done_with("alice", "first", Outcome::default().after_us(10));
    let sent = s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    assert_sent(&sent, &["alice runs x", "alice runs y with x here"]);
    (s, "y")
}

fn scattered_data_arrives() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    let items = vec![(s.new_handle("anna", "x"), Key::from_text("x"), 10)];
    s.request("anna", Question::PlanScatter(PlanScatter { items, ..PlanScatter::default() }));
    assert_sent(&s.stored("alice", "x"), &["anna finds x at alice"]);
    (s, "x")
}

fn an_input_fails() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    assert_sent(&s.raises("alice", "x"), &["alice frees x", "anna: y failed, ValueError"]);
    (s, "y")
}

fn a_waiting_task_is_released() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    assert_sent(&s.release("anna", &["y"]), &["alice frees x"]);
    assert_eq!((s.state("x"), s.state("y")), (None, None));
    (s, "y")
}

/// Three tasks for one thread: the last waits in the scheduler.
fn a_queued_task() -> Script {
    let mut s = Script::anna_and(["alice"]);
    let sent = s.submit("anna", [future("a"), future("b"), future("x")]);
    assert_sent(&sent, &["alice runs a", "alice runs b"]);
    assert_eq!(s.state("x"), Some(Queued));
    s
}

fn the_last_worker_leaves() -> (Script, &'static str) {
    let mut s = a_queued_task();
    s.worker_leaves("alice");
    assert_eq!(s.state("x"), Some(NoWorker));
    (s, "x")
}

fn the_input_of_a_queued_task_is_lost() -> (Script, &'static str) {
    // given: x is made by bob; y may only run at alice, who is busy
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["bob"])]);
    s.done("bob", "x");
    let busy = |key: &str| future(key).only_on(&["alice"]);
    s.submit("anna", [busy("a"), busy("b"), busy("y").needs(&["x"])]);
    assert_eq!(s.state("y"), Some(Queued));
    // when
    assert_sent(&s.worker_leaves("bob"), &["anna: x pending again"]);
    // then
    assert_eq!((s.state("x"), s.state("y")), (Some(NoWorker), Some(Waiting)));
    (s, "y")
}

fn a_queued_task_of_an_open_graph_is_cancelled_by_force() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("a"), future("b")]);
    s.begin("anna", [step("x")]);
    s.desire("bert", "x");
    assert_eq!(s.state("x"), Some(Queued));
    assert_sent(&s.cancel_by_force("bert", &["x"]), &["bert: x cancelled, cancelled"]);
    (s, "x")
}

fn a_queued_task_is_released() -> (Script, &'static str) {
    let mut s = a_queued_task();
    assert_sent(&s.release("anna", &["x"]), &[]);
    assert_eq!(s.state("x"), None);
    (s, "x")
}

fn the_right_worker_joins() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.submit("anna", [future("x").only_on(&["bob"])]), &[]);
    assert_sent(&s.join("bob"), &["bob is registered", "bob runs x"]);
    (s, "x")
}

fn the_input_of_a_task_without_worker_is_lost() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"]).only_on(&["carol"])]);
    s.done("alice", "x");
    assert_eq!(s.state("y"), Some(NoWorker));
    s.worker_leaves("alice");
    assert_eq!(s.state("y"), Some(Waiting));
    (s, "y")
}

fn no_worker_comes_in_time() -> (Script, &'static str) {
    let mut s = Script::with(|config| config.no_workers_timeout_ns = Some(3 * Nanos::SECOND));
    s.client("anna");
    s.submit("anna", [future("x")]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &[]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &["anna: x failed, NoValidWorkerError"]);
    (s, "x")
}

fn a_task_without_worker_is_released() -> (Script, &'static str) {
    let mut s = Script::anna_and([]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.release("anna", &["x"]), &[]);
    assert_eq!(s.state("x"), None);
    (s, "x")
}

fn a_run_ends_well() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
    (s, "x")
}

fn a_run_raises() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.raises("alice", "x"), &["alice frees x", "anna: x failed, ValueError"]);
    (s, "x")
}

fn a_worker_dies() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").rather_on(&["alice"])]);
    assert_sent(&s.worker_leaves("alice"), &["bob runs x (attempt 2)"]);
    (s, "x")
}

fn a_running_task_is_released() -> (Script, &'static str) {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
    assert_eq!(s.state("x"), None);
    (s, "x")
}

fn a_result_is_released() -> (Script, &'static str) {
    let (mut s, _) = a_run_ends_well();
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
    assert_eq!(s.state("x"), None);
    (s, "x")
}

fn an_erred_task_is_tried_again() -> (Script, &'static str) {
    let (mut s, _) = a_run_raises();
    let sent = s.retry("anna", &["x"]);
    assert_sent(&sent, &["anna: x pending again", "alice runs x (attempt 2)"]);
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
    (s, "x")
}
