//! How many workers there should be, and which can go.

use super::task::Task;
use super::*;
use taskloom_proto::Value;
use taskloom_proto::client::{Adapt, Question};

/// Work shall take a second; new workers have one thread.
fn adapt(close: u32, workers: &[&str]) -> Question {
    let workers = workers.iter().map(ToString::to_string).collect();
    Question::Adapt(Adapt { target_ns: Nanos::SECOND, threads: 1, close, workers })
}

#[track_caller]
fn assert_wants(s: &mut Script, target: u32, workers: u32) {
    let answer = s.ask("anna", adapt(0, &[]));
    assert_eq!(answer.get("target"), Some(&Value::from(target)));
    assert_eq!(answer.get("workers"), Some(&Value::from(workers)));
}

fn tasks(count: usize) -> Vec<Task> {
    (0..count).map(|n| future(&format!("x-{n}"))).collect()
}

#[test]
fn without_work_no_worker_is_wanted() {
    let mut s = Script::anna_and(["alice"]);
    assert_wants(&mut s, 0, 1);
}

#[test]
fn work_without_workers_wants_some_before_its_duration_is_known() {
    let mut s = Script::anna_and([]);
    s.submit("anna", [future("x")]);
    assert_wants(&mut s, 1, 0);
    s.submit_all("anna", tasks(9));
    assert_wants(&mut s, 5, 0);
}

#[test]
fn short_tasks_want_as_many_workers_as_end_them_in_the_target_time() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x-first")]);
    s.done("alice", "x-first");
    // 40 tasks of 100 ms each
    s.submit_all("anna", tasks(40));
    assert_wants(&mut s, 4, 1);
}

#[test]
fn no_more_workers_are_wanted_than_have_something_to_run() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x-first")]);
    s.done_with("alice", "x-first", Outcome::default().after_us(60_000_000));
    s.submit_all("anna", tasks(3));
    assert_wants(&mut s, 3, 1);
}

#[test]
fn a_task_that_nobody_may_run_wants_a_worker() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").gpu(1.0)]);
    assert_wants(&mut s, 1, 1);
}

#[test]
fn workers_whose_memory_is_full_want_as_many_again() {
    let mut s = Script::anna_and([]);
    s.join(worker("alice").memory(1_000));
    s.submit("anna", [future("x")]);
    s.done_with("alice", "x", Outcome::of_bytes(500));
    assert_wants(&mut s, 0, 1);
    s.submit("anna", [future("y")]);
    s.done_with("alice", "y", Outcome::of_bytes(300));
    assert_wants(&mut s, 2, 1);
}

#[test]
fn an_idle_worker_that_holds_nothing_is_retired_first() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit("anna", [future("x").only_on(&["alice"]), future("y").only_on(&["bob"])]);
    s.done("bob", "y");
    let all = ["alice", "bob", "carol"];
    let sent = s.request("anna", adapt(3, &all));
    // alice runs x; bob alone holds y
    assert_sent(&sent, &["anna gets an answer", "carol is told to close"]);
    assert_eq!(
        s.answer().unwrap().value.get("retired"),
        Some(&Value::List(vec![Value::from("carol")]))
    );
}

#[test]
fn of_two_that_hold_the_same_result_one_stays() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done("alice", "x");
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    s.fetched("bob", &["x"]);
    s.done("bob", "y");
    s.release("anna", &["y"]);
    let sent = s.request("anna", adapt(2, &["alice", "bob"]));
    assert_sent(&sent, &["anna gets an answer", "bob is told to close"]);
    s.worker_leaves("bob");
    assert_eq!(s.state("x"), Some(State::Memory));
}

#[test]
fn only_workers_that_are_named_are_retired_and_no_more_than_asked_for() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    let sent = s.request("anna", adapt(1, &["alice", "bob"]));
    assert_sent(&sent, &["anna gets an answer", "bob is told to close"]);
    // bob, who is leaving, counts no more
    assert_wants(&mut s, 0, 2);
}
