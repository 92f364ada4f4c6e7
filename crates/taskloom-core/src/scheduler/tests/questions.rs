//! Requests: restart, retire, calls on all workers, waiting for workers, and what is known.

use super::*;
use State::{Memory, Processing};
use bytes::Bytes;
use taskloom_proto::Value;
use taskloom_proto::client::{
    Question, Replay, RestartWorkers, RetireWorkers, RunEverywhere, WaitForWorkers,
};
use taskloom_proto::worker::RunDone;
use taskloom_types::Key;

fn wait_for(count: u32, timeout_ns: u64) -> Question {
    Question::WaitForWorkers(WaitForWorkers { count, timeout_ns })
}

fn call_everywhere() -> Question {
    Question::RunEverywhere(RunEverywhere {
        payload: Bytes::from_static(b"f"),
        ..Default::default()
    })
}

fn answers_call(s: &mut Script, worker: &str, request: u64) -> Vec<String> {
    let done = RunDone { request, ok: true, payload: Bytes::from_static(b"value") };
    s.report(worker, WorkerToScheduler::RunDone(done))
}

fn restart(workers: &[&str], timeout_ns: u64) -> Question {
    let workers = workers.iter().map(ToString::to_string).collect();
    Question::Restart(RestartWorkers { timeout_ns, workers })
}

fn retire(workers: &[&str], close: bool) -> Question {
    let workers = workers.iter().map(ToString::to_string).collect();
    Question::RetireWorkers(RetireWorkers { workers, close })
}

#[test]
fn waiting_for_workers_ends_when_enough_are_there() {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.request("anna", wait_for(1, 0)), &["anna gets an answer"]);
    assert_sent(&s.request("anna", wait_for(2, 0)), &[]);
    assert_sent(&s.join("bob"), &["bob is registered", "anna gets an answer"]);
}

#[test]
fn waiting_for_workers_ends_in_time() {
    let mut s = Script::anna_and(["alice"]);
    s.request("anna", wait_for(2, 3 * Nanos::SECOND));
    assert_sent(&s.pass(2 * Nanos::SECOND), &[]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &["anna gets timeout"]);
    let answer = s.answer().unwrap();
    assert_eq!(answer.error, "only 1 of 2 workers arrived in time");
}

#[test]
fn a_call_on_all_workers_is_answered_when_all_have() {
    let mut s = Script::anna_and(["alice", "bob"]);
    assert_sent(&s.request("anna", call_everywhere()), &["alice calls", "bob calls"]);
    assert_sent(&answers_call(&mut s, "alice", 1), &[]);
    assert_sent(&answers_call(&mut s, "bob", 1), &["anna gets an answer"]);
    let Value::Map(answers) = s.answer().unwrap().value else { panic!() };
    assert_eq!(answers.len(), 2);
    // then: answering twice is no trouble
    assert_sent(&answers_call(&mut s, "bob", 1), &[]);
}

#[test]
fn a_worker_that_dies_in_a_call_on_all_workers_counts_as_failed() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.request("anna", call_everywhere());
    answers_call(&mut s, "alice", 1);
    assert_sent(&s.worker_leaves("bob"), &["anna gets an answer"]);
    let Value::Map(answers) = s.answer().unwrap().value else { panic!() };
    let Value::List(bob) = &answers[1].1 else { panic!() };
    assert_eq!(bob[0], Value::Bool(false));
}

#[test]
fn a_call_on_workers_that_are_absent_fails_at_once() {
    let mut s = Script::anna_and(["alice"]);
    let run = RunEverywhere { workers: vec!["bob".into()], ..RunEverywhere::default() };
    assert_sent(&s.request("anna", Question::RunEverywhere(run)), &["anna gets unknown"]);
}

#[test]
fn answers_for_a_vanished_client_are_dropped() {
    let mut s = Script::anna_and(["alice"]);
    s.request("anna", call_everywhere());
    s.request("anna", wait_for(5, Nanos::SECOND));
    s.client_leaves("anna");
    assert_sent(&answers_call(&mut s, "alice", 1), &[]);
    assert_sent(&s.pass(2 * Nanos::SECOND), &[]);
}

#[test]
fn a_restart_forgets_all_tasks_and_ends_with_new_workers() {
    let mut s = Script::new();
    s.client("anna");
    s.client("bert");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    s.desire("bert", "x");
    let sent = s.request("anna", restart(&[], 0));
    let expected = [
        "anna: x cancelled, scheduler-restart",
        "bert: x cancelled, scheduler-restart",
        "anna: y cancelled, scheduler-restart",
        "alice frees x",
        "supervisor restarts alice",
    ];
    assert_sent(&sent, &expected);
    assert_eq!(s.scheduler.task_count(), 0);
    assert_sent(&s.worker_leaves("alice"), &[]);
    let sent = s.join(worker("alice").supervised());
    assert_sent(&sent, &["alice is registered", "anna gets an answer"]);
    assert_sent(&s.submit("anna", [future("x")]), &["alice runs x"]);
}

#[test]
fn a_restart_in_the_middle_of_a_submission_leaves_nothing_behind() {
    let mut s = Script::anna_and(["alice"]);
    let submission = s.begin("anna", [step("x"), step("y").needs(&["x"])]);
    s.request("anna", restart(&[], 0));
    assert_eq!(s.scheduler.task_count(), 0);
    let sent = s.piece("anna", submission, true, vec![future("z").needs(&["y"]), future("w")]);
    assert_sent(&sent, &["anna: z failed, CancelledError", "alice runs w"]);
    s.release("anna", &["z", "w"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_restart_of_some_workers_keeps_the_tasks_and_blames_none() {
    let mut s = Script::with(|config| config.allowed_failures = 0);
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.submit("anna", [future("x")]);
    assert_sent(&s.request("anna", restart(&["alice"], 0)), &["supervisor restarts alice"]);
    s.worker_leaves("alice");
    let sent = s.join(worker("alice").supervised());
    let expected = ["alice is registered", "alice runs x (attempt 2)", "anna gets an answer"];
    assert_sent(&sent, &expected);
}

#[test]
fn a_supervisor_that_comes_back_late_hears_what_was_asked_meanwhile() {
    let mut s = Script::new();
    s.client("anna");
    s.join(worker("alice").supervised());
    assert_sent(&s.request("anna", restart(&["alice"], 0)), &[]);
    assert_sent(&s.supervisor(), &["supervisor restarts alice"]);
    s.worker_leaves("alice");
    let sent = s.join(worker("alice").supervised());
    assert_sent(&sent, &["alice is registered", "anna gets an answer"]);
    // and only as long as the process is there
    assert_sent(&s.supervisor(), &[]);
}

#[test]
fn a_restart_that_takes_too_long_ends_with_a_timeout() {
    let mut s = Script::new();
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.request("anna", restart(&[], 2 * Nanos::SECOND));
    assert_sent(&s.pass(3 * Nanos::SECOND), &["anna gets timeout"]);
}

#[test]
fn a_retired_worker_finishes_what_it_runs_gets_nothing_new_and_closes() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    assert_sent(&s.request("anna", retire(&["alice"], true)), &[]);
    assert_sent(&s.submit("anna", [future("y").rather_on(&["alice"])]), &["bob runs y"]);
    let sent = s.done("alice", "x");
    assert_sent(&sent, &["anna finds x at alice", "bob copies x from alice"]);
    // then: it goes when what only it held is elsewhere
    let sent = s.fetched("bob", &["x"]);
    assert_sent(&sent, &["alice is told to close"]);
    assert_sent(&s.worker_leaves("alice"), &["anna gets an answer"]);
    assert_eq!(s.state("x"), Some(Memory));
}

#[test]
fn a_supervised_worker_that_is_retired_is_not_started_again() {
    let mut s = Script::new();
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    let sent = s.request("anna", retire(&["alice"], true));
    assert_sent(&sent, &["alice is told to close", "supervisor stops alice"]);
    assert_sent(&s.worker_leaves("alice"), &["anna gets an answer"]);
}

#[test]
fn a_retired_worker_that_is_not_to_close_is_answered_at_once() {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.request("anna", retire(&["alice"], false)), &["anna gets an answer"]);
    assert_sent(&s.submit("anna", [future("x")]), &[]);
}

#[test]
fn retiring_without_names_takes_idle_workers_that_hold_nothing() {
    let mut s = Script::anna_and(["alice", "bob", "carol"]);
    s.submit("anna", [future("x").only_on(&["alice"]), future("y").only_on(&["bob"])]);
    s.done("bob", "y");
    assert_sent(&s.request("anna", retire(&[], true)), &["carol is told to close"]);
}

#[test]
fn a_shutdown_tells_everybody() {
    let mut s = Script::anna_and(["alice"]);
    s.supervisor();
    let sent = s.request("anna", Question::Shutdown);
    let expected = [
        "anna gets an answer",
        "supervisor closes",
        "alice is told to close",
        "anna sees the end",
        "stop",
    ];
    assert_sent(&sent, &expected);
}

#[test]
fn a_barrier_is_answered_after_what_came_before_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.request("anna", Question::Barrier), &["anna gets an answer"]);
}

#[test]
fn every_reason_for_waiting_has_a_name() {
    let mut s = Script::anna_and(["alice"]);
    assert_eq!(s.reason("x"), "unknown-key");
    s.submit("anna", [future("x"), future("y").needs(&["x"]), future("z").only_on(&["bob"])]);
    assert_eq!(s.reason("x"), "processing");
    assert_eq!(s.reason("y"), "waiting-for-dependencies");
    assert_eq!(s.reason("z"), "no-worker");
    s.secedes("alice", "x");
    assert_eq!(s.reason("x"), "seceded");
    s.rejoins("alice", "x");
    s.done("alice", "x");
    assert_eq!(s.reason("x"), "finished");
    s.submit("anna", [future("a"), future("b")]);
    assert_eq!(s.reason("b"), "waiting-for-slot");
    s.raises("alice", "y");
    assert_eq!(s.reason("y"), "erred");
    s.desire("anna", "later");
    assert_eq!(s.reason("later"), "not-submitted");
}

#[test]
fn explain_names_what_is_missing_and_what_was_asked_for() {
    let mut s = Script::anna_and(["alice"]);
    let tasks = [step("x"), future("y").needs(&["x"]).only_on(&["bob"]).gpu(2.0).retries(3)];
    s.submit("anna", tasks);
    let answer = s.ask("anna", Question::Explain(Key::from_text("y")));
    let missing = Value::List(vec![Value::Key(Key::from_text("x")), Value::from("processing")]);
    assert_eq!(answer.get("missing_dependencies"), Some(&Value::List(vec![missing])));
    assert_eq!(answer.get("workers"), Some(&Value::List(vec![Value::from("bob")])));
    assert_eq!(answer.get("retries_left"), Some(&Value::from(3u32)));
    let wanted = Value::map([("GPU", Value::from(2.0))]);
    assert_eq!(answer.get("resources"), Some(&wanted));
}

#[test]
fn who_has_and_has_what_agree() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"]), future("y").only_on(&["bob"])]);
    s.done("alice", "x");
    let key = |name: &str| Value::Key(Key::from_text(name));
    let alice = Value::from("tcp://alice:1");
    let holders =
        vec![(key("x"), Value::List(vec![alice.clone()])), (key("y"), Value::List(vec![]))];
    assert_eq!(s.ask("anna", Question::WhoHas(vec![])), Value::Map(holders));
    let held = vec![(alice, Value::List(vec![key("x")]))];
    assert_eq!(s.ask("anna", Question::HasWhat(vec!["alice".into()])), Value::Map(held));
    let busy = vec![(Value::from("tcp://bob:1"), Value::List(vec![key("y")]))];
    assert_eq!(s.ask("anna", Question::Processing(vec!["bob".into()])), Value::Map(busy));
    let sizes = vec![(key("x"), Value::from(10_000u64))];
    assert_eq!(s.ask("anna", Question::SizeBytes(vec![])), Value::Map(sizes));
    s.release("anna", &["x", "y"]);
    assert_eq!(s.ask("anna", Question::WhoHas(vec![])), Value::Map(vec![]));
}

#[test]
fn locate_tells_where_to_fetch_in_the_order_asked() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    let handles = vec![taskloom_types::Handle(999), s.handle("anna", "x")];
    let id = Value::Int(s.id("x").to_u64() as i64);
    let place = Value::List(vec![id, Value::List(vec![Value::from("tcp://alice:1")])]);
    let answer = s.ask("anna", Question::Locate(handles));
    assert_eq!(answer, Value::List(vec![Value::Null, place]));
}

#[test]
fn a_story_tells_the_transitions_of_a_key() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    let Value::List(story) = s.ask("anna", Question::Story(Key::from_text("x"))) else { panic!() };
    assert_eq!(story.len(), 4);
    let Value::List(last) = &story[3] else { panic!() };
    assert_eq!(last[1..3], [Value::from("processing"), Value::from("memory")]);
}

#[test]
fn the_scheduler_describes_itself() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    let info = s.ask("anna", Question::SchedulerInfo);
    assert_eq!(info.get("n_workers"), Some(&Value::from(1usize)));
    let counters = s.ask("anna", Question::Counters);
    assert_eq!(counters.get("tasks_submitted"), Some(&Value::from(1u64)));
    assert_eq!((s.state("x"), s.counters().illegal_transitions), (Some(Processing), 0));
    s.done("alice", "x");
    assert_eq!(s.state("x"), Some(Memory));
}

fn replay(key: &str, cause: bool) -> Question {
    Question::Replay(Replay { key: Key::from_text(key), cause })
}

#[test]
fn a_call_is_given_out_to_be_made_again_elsewhere() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    let call = s.ask("anna", replay("y", false));
    let inputs = Value::List(vec![Value::Key(Key::from_text("x"))]);
    assert_eq!(call.get("key"), Some(&Value::Key(Key::from_text("y"))));
    assert_eq!(call.get("inputs"), Some(&inputs));
    assert!(matches!(call.get("body"), Some(Value::Bytes(_))));
}

#[test]
fn of_a_failure_the_call_that_failed_first_is_given_out() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x"), future("y").needs(&["x"])]);
    s.raises("alice", "x");
    let call = s.ask("anna", replay("y", true));
    assert_eq!(call.get("key"), Some(&Value::Key(Key::from_text("x"))));
}

#[test]
fn what_is_no_call_is_named() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    s.desire("anna", "later");
    for (key, cause, kind) in
        [("later", false, "no-call"), ("nobody", false, "unknown"), ("x", true, "no-error")]
    {
        s.request("anna", replay(key, cause));
        let answer = s.answer().unwrap();
        assert_eq!(answer.error_kind, kind);
        assert!(answer.error.contains(key), "{}", answer.error);
    }
}
