//! Cancelled futures.

use super::*;
use State::{Memory, Processing, Queued, Released};

#[test]
fn cancelling_a_queued_task_drops_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("a"), future("b"), future("x")]);
    assert_eq!(s.state("x"), Some(Queued));
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    assert_eq!(s.state("x"), None);
}

#[test]
fn cancelling_a_running_task_frees_it_at_its_worker() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let sent = s.cancel("anna", &["x"]);
    let expected = ["anna: x cancelled, cancelled", "alice frees x", "alice interrupts x"];
    assert_sent(&sent, &expected);
    // then: its late result is not wanted
    let run = s.run("alice", "x");
    let sent = s.done_as("alice", run.task, run.attempt, Outcome::default());
    assert_sent(&sent, &["alice frees x"]);
}

#[test]
fn cancelling_a_task_cancels_those_that_need_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y").needs(&["x"]), future("z").needs(&["y"])]);
    let sent = s.cancel("anna", &["x"]);
    let expected = [
        "anna: x cancelled, cancelled",
        "anna: y cancelled, cancelled",
        "anna: z cancelled, cancelled",
        "alice frees x",
        "alice interrupts x",
    ];
    assert_sent(&sent, &expected);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn cancelling_an_input_does_not_harm_finished_results() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    let sent = s.cancel("anna", &["x"]);
    assert_sent(&sent, &["anna: x cancelled, cancelled", "alice frees x"]);
    assert_eq!((s.state("x"), s.state("y")), (Some(Released), Some(Memory)));
}

#[test]
fn what_another_client_holds_goes_on_for_it() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.desire("bert", "x");
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    assert_eq!(s.state("x"), Some(Processing));
    assert_sent(&s.done("alice", "x"), &["bert finds x at alice"]);
}

#[test]
fn what_another_clients_task_needs_goes_on() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.desire("bert", "x");
    s.submit("bert", [future("y").needs(&["x"])]);
    s.release("bert", &["x"]);
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    assert_sent(&s.done("alice", "x"), &["alice runs y with x here"]);
}

#[test]
fn force_cancels_for_all_clients() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x")]);
    s.desire("bert", "x");
    let sent = s.cancel_by_force("anna", &["x"]);
    let expected = [
        "anna: x cancelled, cancelled",
        "bert: x cancelled, cancelled",
        "alice frees x",
        "alice interrupts x with 5000 ms grace",
    ];
    assert_sent(&sent, &expected);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_cancelled_key_can_be_submitted_anew() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").arguments(1)]);
    s.cancel("anna", &["x"]);
    assert_sent(&s.submit("anna", [future("x").arguments(2)]), &["alice runs x"]);
}

#[test]
fn cancelling_twice_or_what_is_unknown_changes_nothing() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.cancel("anna", &["x"]);
    assert_sent(&s.cancel("anna", &["x"]), &[]);
    assert_sent(&s.cancel_by_force("anna", &["never"]), &[]);
}

#[test]
fn what_was_sent_ahead_is_cancelled_with_its_input() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    assert_eq!(s.processing("alice"), ["x", "y"]);
    s.cancel("anna", &["x"]);
    assert_eq!(s.processing("alice"), Vec::<String>::new());
    assert_eq!((s.state("x"), s.state("y")), (None, None));
}

#[test]
fn cancelling_what_was_fired_and_forgotten_ends_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.detach("anna", &["x"]);
    s.cancel("anna", &["x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_client_may_cancel_a_part_of_a_graph_that_is_still_being_sent() {
    let mut s = Script::anna_and(["alice"]);
    let submission = s.begin("anna", [future("x"), step("y").needs(&["x"])]);
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    s.done("alice", "x");
    let sent = s.piece("anna", submission, true, vec![future("z").needs(&["y"])]);
    assert_sent(&sent, &[]);
    s.done("alice", "y");
    assert_sent(&s.done("alice", "z"), &["anna finds z at alice", "alice frees y"]);
}

#[test]
fn cancelling_visits_each_task_once_however_many_paths_lead_to_it() {
    // given: 60 layers of two tasks, each needing both of the layer before: 2^60 paths
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    let mut tasks = vec![future("a0"), step("b0")];
    for layer in 1..60 {
        let inputs = [format!("a{}", layer - 1), format!("b{}", layer - 1)];
        let inputs = [inputs[0].as_str(), inputs[1].as_str()];
        tasks.extend(["a", "b"].map(|side| step(&format!("{side}{layer}")).needs(&inputs)));
    }
    tasks.push(future("end").needs(&["a59", "b59"]));
    s.submit_all("anna", tasks);
    // when: anna cancels the first, but bert waits for the last
    s.desire("bert", "end");
    let sent = s.cancel("anna", &["a0"]);
    assert_sent(&sent, &["anna: a0 cancelled, cancelled", "anna: end cancelled, cancelled"]);
    assert_eq!(s.state("end"), Some(State::Waiting));
    assert_sent(&s.client_leaves("bert"), &["alice frees b0 a0"]);
    assert_eq!(s.scheduler.task_count(), 0);
}
