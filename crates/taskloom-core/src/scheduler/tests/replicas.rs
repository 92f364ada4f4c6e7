//! Copies by order: replicate, rebalance, and what a retired worker holds.

use super::*;
use taskloom_proto::Value;
use taskloom_proto::client::{Question, RetireWorkers};
use taskloom_proto::control::{ControlQuestion, NotAcquired, Rebalance, Replicate};
use taskloom_types::Key;

fn replicate(keys: &[&str], n: u32) -> Question {
    let keys = keys.iter().map(|key| Key::from_text(key)).collect();
    Question::Control(ControlQuestion::Replicate(Replicate { keys, n, workers: vec![] }))
}

fn rebalance() -> Question {
    Question::Control(ControlQuestion::Rebalance(Rebalance::default()))
}

fn retire(worker: &str, close: bool) -> Question {
    Question::RetireWorkers(RetireWorkers { workers: vec![worker.into()], close })
}

fn declines(s: &mut Script, worker: &str, key: &str) -> Vec<String> {
    let declined = NotAcquired { task: s.id(key), reason: "no".into() };
    s.report(worker, WorkerToScheduler::NotAcquired(declined))
}

/// x is at alice; bob and carol hold nothing.
fn x_at_alice() -> Script {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    s
}

fn failed(s: &mut Script) -> usize {
    let answer = s.answer().unwrap().value;
    let Some(Value::Map(failed)) = answer.get("failed") else { panic!() };
    failed.len()
}

#[test]
fn a_result_is_copied_to_as_many_workers_as_asked() {
    let mut s = x_at_alice();
    assert_sent(&s.request("anna", replicate(&["x"], 2)), &["bob copies x from alice"]);
    assert_sent(&s.fetched("bob", &["x"]), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 0);
    assert_sent(&s.request("anna", replicate(&["x"], 2)), &["anna gets an answer"]);
    let sent = s.request("anna", replicate(&["x"], 0));
    assert_sent(&sent, &["carol copies x from alice+bob"]);
}

#[test]
fn two_orders_of_one_copy_are_one_copy() {
    let mut s = x_at_alice();
    s.request("anna", replicate(&["x"], 2));
    assert_sent(&s.request("anna", replicate(&["x"], 2)), &[]);
    assert_sent(&s.fetched("bob", &["x"]), &["anna gets an answer", "anna gets an answer"]);
}

#[test]
fn what_is_no_result_is_named() {
    let mut s = x_at_alice();
    assert_sent(&s.request("anna", replicate(&["nothing"], 2)), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 1);
}

#[test]
fn a_copy_that_cannot_be_had_fails_after_some_tries() {
    let mut s = x_at_alice();
    s.request("anna", replicate(&["x"], 2));
    for _ in 0..2 {
        assert_sent(&declines(&mut s, "bob", "x"), &["bob copies x from alice"]);
    }
    assert_sent(&declines(&mut s, "bob", "x"), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 1);
}

#[test]
fn a_copy_ends_with_its_worker() {
    let mut s = x_at_alice();
    s.request("anna", replicate(&["x"], 2));
    assert_sent(&s.worker_leaves("bob"), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 1);
}

#[test]
fn a_copy_ends_with_the_result() {
    let mut s = x_at_alice();
    s.request("anna", replicate(&["x"], 2));
    let sent = s.release("anna", &["x"]);
    assert_sent(&sent, &["alice frees x", "bob frees x", "anna gets an answer"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn rebalancing_moves_results_and_drops_the_old_copies() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", ["a", "b", "c", "d"].map(|name| future(name).only_on(&["alice"])));
    for name in ["a", "b", "c", "d"] {
        s.done("alice", name);
    }
    let sent = s.request("anna", rebalance());
    assert_sent(&sent, &["bob copies a from alice", "bob copies b from alice"]);
    assert_sent(&s.fetched("bob", &["a"]), &["alice frees a"]);
    assert_sent(&s.fetched("bob", &["b"]), &["alice frees b", "anna gets an answer"]);
    assert_sent(&s.request("anna", rebalance()), &["anna gets an answer"]);
}

#[test]
fn a_result_that_a_task_needs_is_not_moved() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("a").only_on(&["alice"]), future("b").only_on(&["alice"])]);
    s.done("alice", "a");
    s.done("alice", "b");
    s.submit("anna", [future("c").needs(&["a"]).only_on(&["alice"])]);
    assert_sent(&s.request("anna", rebalance()), &["bob copies b from alice"]);
}

#[test]
fn a_retired_worker_that_stays_is_answered_when_others_hold_what_it_held() {
    let mut s = x_at_alice();
    assert_sent(&s.request("anna", retire("alice", false)), &["bob copies x from alice"]);
    assert_sent(&s.fetched("bob", &["x"]), &["anna gets an answer"]);
}

#[test]
fn a_retired_worker_whose_results_nobody_can_get_closes_in_the_end() {
    let mut s = x_at_alice();
    s.request("anna", retire("alice", true));
    let mut sent = Vec::new();
    for _ in 0..9 {
        sent = declines(&mut s, "bob", "x");
    }
    assert_sent(&sent, &["alice is told to close"]);
}

#[test]
fn the_last_worker_is_retired_without_copies() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    assert_sent(&s.request("anna", retire("alice", true)), &["alice is told to close"]);
}

/// A large result at alice, and so many workers that hold nothing.
fn large_x_at_alice(others: &[&str]) -> Script {
    let mut s = Script::anna_and(["alice"]);
    others.iter().for_each(|name| drop(s.join(*name)));
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done_with("alice", "x", Outcome::of_bytes(5_000_000));
    s
}

#[test]
fn a_large_result_spreads_as_a_tree() {
    let mut s = large_x_at_alice(&["bob", "carol", "dave", "erin", "frank"]);
    let sent = s.request("anna", replicate(&["x"], 0));
    assert_sent(&sent, &["bob copies x from alice", "carol copies x from alice"]);
    // bob serves two from now on, and alice has a turn again.
    assert_sent(
        &s.fetched("bob", &["x"]),
        &["dave copies x from bob", "erin copies x from bob", "frank copies x from alice"],
    );
    for worker in ["carol", "dave", "erin"] {
        assert_sent(&s.fetched(worker, &["x"]), &[]);
    }
    assert_sent(&s.fetched("frank", &["x"]), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 0);
}

#[test]
fn copies_that_wait_for_a_holder_that_is_lost_come_from_another_one() {
    let mut s = large_x_at_alice(&["bob", "carol", "dave"]);
    s.request("anna", replicate(&["x"], 0));
    let sent = s.fetched("bob", &["x"]);
    assert_sent(&sent, &["dave copies x from bob"]);
    s.worker_leaves("alice");
    assert_sent(&declines(&mut s, "carol", "x"), &["carol copies x from bob"]);
    s.fetched("carol", &["x"]);
    assert_sent(&s.fetched("dave", &["x"]), &["anna gets an answer"]);
}

#[test]
fn a_worker_that_leaves_gives_its_turn_to_the_next() {
    let mut s = large_x_at_alice(&["bob", "carol", "dave"]);
    s.request("anna", replicate(&["x"], 0));
    assert_sent(&s.worker_leaves("carol"), &["dave copies x from alice"]);
    s.fetched("bob", &["x"]);
    assert_sent(&s.fetched("dave", &["x"]), &["anna gets an answer"]);
    assert_eq!(failed(&mut s), 1);
}

#[test]
fn a_large_result_that_is_released_while_it_spreads_ends_all_copies() {
    let mut s = large_x_at_alice(&["bob", "carol", "dave", "erin"]);
    s.request("anna", replicate(&["x"], 0));
    let sent = s.release("anna", &["x"]);
    assert!(sent.contains(&"anna gets an answer".to_string()), "{sent:?}");
    assert!(!sent.iter().any(|message| message.contains("copies")), "{sent:?}");
    assert_eq!(failed(&mut s), 4);
}

/// x is at alice, and bob, who would rather not have it, has a copy.
fn spare_x_at_bob() -> Script {
    let mut s = x_at_alice();
    s.request("anna", replicate(&["x"], 2));
    s.fetched("bob", &["x"]);
    s
}

fn spares(s: &mut Script, worker: &str, key: &str) -> Vec<String> {
    let spare = WorkerToScheduler::Spare(vec![s.id(key)]);
    s.report(worker, spare)
}

#[test]
fn a_copy_goes_where_memory_is_short_and_the_last_one_stays() {
    let mut s = spare_x_at_bob();
    assert_sent(&spares(&mut s, "bob", "x"), &["bob frees x"]);
    assert_sent(&spares(&mut s, "alice", "x"), &[]);
    // A second answer to the same question would free a copy that was fetched since.
    assert_sent(&spares(&mut s, "bob", "x"), &[]);
    assert_eq!(s.scheduler.counters().spared_copies, 1);
}

#[test]
fn the_maker_of_a_result_may_drop_it_too_when_another_has_it() {
    let mut s = spare_x_at_bob();
    assert_sent(&spares(&mut s, "alice", "x"), &["alice frees x"]);
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["carol"])]);
    s.worker_leaves("bob");
    // The last copy is gone: it is made again.
    assert!(s.processing("alice").contains(&"x".to_string()));
}

#[test]
fn a_copy_whose_other_holder_leaves_stays() {
    let mut s = x_at_alice();
    s.request("anna", retire("alice", true));
    s.fetched("bob", &["x"]);
    assert_sent(&spares(&mut s, "bob", "x"), &[]);
}

#[test]
fn a_copy_that_was_ordered_and_had_to_be_discarded_is_ordered_again() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    assert_sent(&s.fetched("bob", &["x"]), &["bob discards x"]);
    s.done("alice", "x");
    assert_sent(&s.request("anna", replicate(&["x"], 2)), &["bob copies x from alice"]);
    assert_sent(&s.fetched("bob", &["x"]), &[]);
    let discarded = WorkerToScheduler::Discarded(vec![s.id("x")]);
    assert_sent(&s.report("bob", discarded), &["bob copies x from alice"]);
    assert_sent(&s.fetched("bob", &["x"]), &["anna gets an answer"]);
}
