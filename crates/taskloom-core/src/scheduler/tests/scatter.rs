//! Data that clients put at workers.

use super::*;
use State::{Memory, Waiting};
use taskloom_proto::Value;
use taskloom_proto::client::{PlanScatter, Question};
use taskloom_types::Key;

fn plan(s: &mut Script, client: &str, keys: &[&str]) -> PlanScatter {
    let item = |key: &&str| (s.new_handle(client, key), Key::from_text(key), 100);
    PlanScatter { items: keys.iter().map(item).collect(), ..PlanScatter::default() }
}

/// Plans, and gives the addresses per value.
fn targets(s: &mut Script, client: &str, plan: PlanScatter) -> Vec<Vec<String>> {
    let Value::List(entries) = s.ask(client, Question::PlanScatter(plan)) else { panic!() };
    let addresses = |entry: Value| {
        let Value::List(parts) = entry else { panic!() };
        let Value::List(addresses) = parts[1].clone() else { panic!() };
        addresses.into_iter().map(|address| format!("{address:?}")).collect()
    };
    entries.into_iter().map(addresses).collect()
}

fn scatter(s: &mut Script, keys: &[&str]) -> Vec<Vec<String>> {
    let plan = plan(s, "anna", keys);
    targets(s, "anna", plan)
}

#[test]
fn values_go_to_workers_by_turns_and_are_ready_when_stored() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let places = scatter(&mut s, &["x", "y"]);
    assert_ne!(places[0], places[1]);
    assert_eq!(s.state("x"), Some(Waiting));
    let first = if places[0][0].contains("alice") { "alice" } else { "bob" };
    assert_sent(&s.stored(first, "x"), &[&format!("anna finds x at {first}")]);
    assert_eq!(s.state("x"), Some(Memory));
}

#[test]
fn a_broadcast_value_goes_to_all_workers() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let plan = PlanScatter { broadcast: true, ..plan(&mut s, "anna", &["x"]) };
    assert_eq!(targets(&mut s, "anna", plan)[0].len(), 2);
    s.stored("alice", "x");
    s.stored("bob", "x");
    assert_sent(&s.worker_leaves("alice"), &[]);
    assert_eq!(s.state("x"), Some(Memory));
    assert_sent(&s.release("anna", &["x"]), &["bob frees x"]);
}

#[test]
fn values_may_be_sent_to_certain_workers() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let plan = PlanScatter { workers: vec!["bob".into()], ..plan(&mut s, "anna", &["x", "y"]) };
    let places = targets(&mut s, "anna", plan);
    assert!(places.iter().all(|place| place[0].contains("bob")), "{places:?}");
}

#[test]
fn a_key_whose_data_is_there_needs_no_data_again() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    scatter(&mut s, &["x"]);
    s.stored("alice", "x");
    let again = plan(&mut s, "bert", &["x"]);
    assert_eq!(targets(&mut s, "bert", again), [Vec::<String>::new()]);
}

#[test]
fn a_scatter_waits_for_a_first_worker() {
    let mut s = Script::anna_and([]);
    let plan = PlanScatter { timeout_ns: 5 * Nanos::SECOND, ..plan(&mut s, "anna", &["x"]) };
    assert_sent(&s.request("anna", Question::PlanScatter(plan)), &[]);
    assert_sent(&s.join("alice"), &["alice is registered", "anna gets an answer"]);
}

#[test]
fn a_scatter_without_workers_ends_with_a_timeout() {
    let mut s = Script::anna_and([]);
    let plan = PlanScatter { timeout_ns: 5 * Nanos::SECOND, ..plan(&mut s, "anna", &["x"]) };
    s.request("anna", Question::PlanScatter(plan));
    assert_sent(&s.pass(4 * Nanos::SECOND), &[]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &["anna gets timeout"]);
}

#[test]
fn a_value_whose_worker_is_lost_on_the_way_is_lost() {
    let mut s = Script::anna_and(["alice"]);
    scatter(&mut s, &["x"]);
    s.submit("anna", [future("y").needs(&["x"])]);
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: x cancelled, lost", "anna: y cancelled, lost"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_stored_value_that_is_lost_is_not_made_again() {
    let mut s = Script::anna_and(["alice"]);
    scatter(&mut s, &["x"]);
    s.stored("alice", "x");
    assert_sent(&s.submit("anna", [future("y").needs(&["x"])]), &["alice runs y with x here"]);
    let sent = s.worker_leaves("alice");
    assert!(sent.contains(&"anna: x cancelled, lost".to_string()), "{sent:?}");
    assert!(sent.contains(&"anna: y cancelled, lost".to_string()), "{sent:?}");
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_result_made_from_lost_data_is_lost_with_its_worker() {
    let mut s = Script::anna_and(["alice"]);
    scatter(&mut s, &["x"]);
    s.stored("alice", "x");
    s.submit("anna", [future("y").needs(&["x"])]);
    s.done("alice", "y");
    s.release("anna", &["x"]);
    let sent = s.worker_leaves("alice");
    assert_sent(&sent, &["anna: y pending again", "anna: y cancelled, lost"]);
}

#[test]
fn a_value_whose_client_vanished_before_it_came_is_lost_for_others_after_a_while() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    scatter(&mut s, &["x"]);
    s.desire("bert", "x");
    assert_sent(&s.client_leaves("anna"), &[]);
    assert_sent(&s.pass(3 * Nanos::SECOND), &["bert: x cancelled, lost"]);
}

#[test]
fn news_of_a_stored_value_may_come_after_its_client_left() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    scatter(&mut s, &["x"]);
    s.desire("bert", "x");
    s.client_leaves("anna");
    assert_sent(&s.stored("alice", "x"), &["bert finds x at alice"]);
    assert_sent(&s.pass(3 * Nanos::SECOND), &[]);
}

#[test]
fn two_clients_may_put_the_same_value() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.client("bert");
    let first = scatter(&mut s, &["x"]);
    let again = plan(&mut s, "bert", &["x"]);
    let second = targets(&mut s, "bert", again);
    assert_ne!(first, second);
    // when: one of the two workers is lost, the other has it
    let (lost, left) =
        if first[0][0].contains("alice") { ("alice", "bob") } else { ("bob", "alice") };
    assert_sent(&s.worker_leaves(lost), &[]);
    let sent = s.stored(left, "x");
    assert_sent(&sent, &[&format!("anna finds x at {left}"), &format!("bert finds x at {left}")]);
}

#[test]
fn data_under_the_key_of_a_forgotten_task_is_other_data() {
    // given: only the lineage of y knows how x was made
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    s.done("alice", "x");
    s.done("alice", "y");
    let old = s.id("x");
    // when: x is scattered
    assert_eq!(scatter(&mut s, &["x"])[0].len(), 1);
    // then: it is another task, and the old one still makes y again
    assert_ne!(s.id("x"), old);
    assert_sent(&s.stored("alice", "x"), &["anna finds x at alice"]);
}

#[test]
fn stored_data_that_nobody_planned_is_freed() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["bob"])]);
    assert_sent(&s.stored("alice", "x"), &["alice discards x"]);
}

#[test]
fn d35_a_broken_connection_does_not_lose_data_that_cannot_be_made_again() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let plan = PlanScatter { workers: vec!["alice".into()], ..plan(&mut s, "anna", &["x"]) };
    s.request("anna", Question::PlanScatter(plan));
    s.stored("alice", "x");
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    for _ in 0..4 {
        assert_sent(&s.misses("bob", "x", &["alice"]), &["bob finds x from alice"]);
        assert_sent(&s.waits_in_vain("bob", "x", &["alice"]), &["bob finds x from alice"]);
    }
    // then: but it is not sought for ever
    let sent = s.misses("bob", "x", &["alice"]);
    let failure = "anna: y failed, WorkerUnreachableError";
    assert_sent(&sent, &["bob frees y", failure, "bob finds x from alice"]);
    // and: who reaches it may use it
    let sent = s.submit("anna", [future("z").needs(&["x"]).only_on(&["alice"])]);
    assert_sent(&sent, &["alice runs z with x here"]);
}

#[test]
fn a_value_whose_scatter_waits_is_not_lost_when_it_is_to_be_tried_again() {
    let mut s = Script::anna_and([]);
    let plan = PlanScatter { timeout_ns: 5 * Nanos::SECOND, ..plan(&mut s, "anna", &["x"]) };
    s.request("anna", Question::PlanScatter(plan));
    assert!(s.retry("anna", &["x"]).is_empty());
}

#[test]
fn a_value_that_is_released_while_its_scatter_waits_is_not_kept() {
    let mut s = Script::anna_and([]);
    let plan = PlanScatter { timeout_ns: 5 * Nanos::SECOND, ..plan(&mut s, "anna", &["x", "y"]) };
    s.request("anna", Question::PlanScatter(plan));
    s.release("anna", &["x"]);
    s.join("alice");
    assert_eq!((s.state("x"), s.state("y")), (None, Some(Waiting)));
}
