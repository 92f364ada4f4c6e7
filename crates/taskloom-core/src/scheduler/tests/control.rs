//! Events, calls before the first task, logs of tasks.

use super::*;
use bytes::Bytes;
use taskloom_proto::Value;
use taskloom_proto::client::Question;
use taskloom_proto::control::{ControlQuestion, EndSetup, LogEvent, LogRecord, Setup, TaskLog};
use taskloom_proto::worker::RunDone;
use taskloom_types::Key;

fn event(topic: &str, payload: &'static [u8]) -> LogEvent {
    LogEvent { topics: vec![topic.into()], payload: Bytes::from_static(payload) }
}

fn logs_event(s: &mut Script, client: &str, topic: &str) -> Vec<String> {
    s.say(client, ClientToScheduler::LogEvent(event(topic, b"x")))
}

fn subscribes(s: &mut Script, client: &str, topic: &str) {
    s.say(client, ClientToScheduler::Subscribe(vec![topic.into()]));
}

fn setup(name: &str) -> Question {
    let payload = Bytes::from_static(b"f");
    Question::Control(ControlQuestion::Setup(Setup { name: name.into(), payload }))
}

fn end_setup(name: &str) -> Question {
    let payload = Bytes::from_static(b"g");
    Question::Control(ControlQuestion::EndSetup(EndSetup { name: name.into(), payload }))
}

fn called(s: &mut Script, worker: &str, request: u64, ok: bool) -> Vec<String> {
    s.report(worker, WorkerToScheduler::RunDone(RunDone { request, ok, payload: Bytes::new() }))
}

fn writes(s: &mut Script, worker: &str, key: &str, text: &str) {
    let (task, attempt) = (s.id(key), 1);
    let records = vec![LogRecord { text: text.into(), ..LogRecord::default() }];
    s.report(worker, WorkerToScheduler::TaskLog(TaskLog { task, attempt, records }));
}

fn texts(s: &mut Script, key: &str) -> Vec<Value> {
    let keys = vec![Key::from_text(key)];
    let answer = s.ask("anna", Question::Control(ControlQuestion::TaskLogs(keys)));
    let Value::Map(entries) = answer else { panic!() };
    let Value::List(rows) = &entries[0].1 else { panic!() };
    rows.iter().filter_map(|row| row.get("text").cloned()).collect()
}

#[test]
fn an_event_is_told_to_those_who_subscribed_and_kept_for_the_others() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    subscribes(&mut s, "anna", "news");
    subscribes(&mut s, "anna", "news");
    assert_sent(&logs_event(&mut s, "bert", "news"), &["anna hears news"]);
    assert_sent(&logs_event(&mut s, "bert", "other"), &[]);
    let sent = s.report("alice", WorkerToScheduler::LogEvent(event("news", b"y")));
    assert_sent(&sent, &["anna hears news"]);
    let question = ControlQuestion::Events(Some("news".into()));
    let Value::Map(topics) = s.ask("bert", Question::Control(question)) else { panic!() };
    let Value::List(events) = &topics[0].1 else { panic!() };
    assert_eq!(events.len(), 2);
}

#[test]
fn nobody_hears_a_topic_after_unsubscribing_or_leaving() {
    let mut s = Script::anna_and([]);
    s.client("bert");
    subscribes(&mut s, "anna", "news");
    subscribes(&mut s, "bert", "news");
    s.say("anna", ClientToScheduler::Unsubscribe(vec!["news".into()]));
    assert_sent(&logs_event(&mut s, "anna", "news"), &["bert hears news"]);
    s.client_leaves("bert");
    assert_sent(&logs_event(&mut s, "anna", "news"), &[]);
}

#[test]
fn transitions_are_told_in_batches_while_somebody_subscribes() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.say("bert", ClientToScheduler::Subscribe(vec!["transitions".into()]));
    let sent = s.submit("anna", [future("x")]);
    assert_sent(&sent, &["alice runs x", "bert hears transitions"]);
    s.client_leaves("bert");
    assert_sent(&s.done("alice", "x"), &["anna finds x at alice"]);
}

#[test]
fn present_workers_make_a_registered_call_at_once() {
    let mut s = Script::anna_and(["alice", "bob"]);
    assert_sent(&s.request("anna", setup("p")), &["alice calls", "bob calls"]);
    assert_sent(&called(&mut s, "alice", 1, true), &[]);
    assert_sent(&called(&mut s, "bob", 1, false), &["anna gets an answer"]);
}

#[test]
fn a_new_worker_makes_all_calls_in_their_order_before_its_first_task() {
    let mut s = Script::anna_and([]);
    s.request("anna", setup("p"));
    s.request("anna", setup("q"));
    s.request("anna", setup("p"));
    s.submit("anna", [future("x")]);
    assert_sent(&s.join("alice"), &["alice is registered", "alice calls"]);
    assert_sent(&called(&mut s, "alice", 4, true), &["alice calls"]);
    assert_sent(&called(&mut s, "alice", 5, true), &["alice runs x"]);
}

#[test]
fn a_call_that_fails_on_a_new_worker_is_told_and_the_worker_works() {
    let mut s = Script::anna_and([]);
    s.request("anna", setup("p"));
    s.submit("anna", [future("x")]);
    s.join("alice");
    let sent = called(&mut s, "alice", 2, false);
    assert!(sent[0].starts_with("anna: p failed on the new worker tcp://alice:1"), "{sent:?}");
    assert_eq!(sent[1], "alice runs x");
}

#[test]
fn a_call_that_does_not_end_on_a_new_worker_is_given_up_and_the_worker_works() {
    let mut s = Script::anna_and([]);
    s.scheduler.config.worker_ttl_ns = 1_000_000 * Nanos::SECOND;
    s.request("anna", setup("p"));
    s.request("anna", setup("q"));
    s.submit("anna", [future("x")]);
    s.join("alice");
    let sent = s.pass(300 * Nanos::SECOND);
    let told = "anna: p failed on the new worker tcp://alice:1, which works without: it did not \
                end within 300 s, and may still be going on";
    assert_sent(&sent, &[told, "alice calls"]);
    // Too late.
    assert_sent(&called(&mut s, "alice", 3, true), &[]);
    assert_sent(&called(&mut s, "alice", 4, true), &["alice runs x"]);
}

#[test]
fn a_worker_that_dies_while_it_prepares_leaves_nothing_behind() {
    let mut s = Script::anna_and([]);
    s.request("anna", setup("p"));
    s.join("alice");
    assert_sent(&s.worker_leaves("alice"), &[]);
    s.submit("anna", [future("x")]);
    assert_sent(&s.join("alice"), &["alice is registered", "alice calls"]);
    assert_sent(&called(&mut s, "alice", 3, true), &["alice runs x"]);
}

#[test]
fn waiting_for_workers_waits_until_they_are_prepared() {
    use taskloom_proto::client::WaitForWorkers;
    let mut s = Script::anna_and([]);
    s.request("anna", setup("p"));
    let wait = WaitForWorkers { count: 1, timeout_ns: 0 };
    s.request("anna", Question::WaitForWorkers(wait));
    s.join("alice");
    assert_sent(&called(&mut s, "alice", 2, true), &["anna gets an answer"]);
}

#[test]
fn an_ended_call_is_made_no_more_and_an_unknown_one_is_refused() {
    let mut s = Script::anna_and(["alice"]);
    s.request("anna", setup("p"));
    called(&mut s, "alice", 1, true);
    assert_sent(&s.request("anna", end_setup("p")), &["alice calls"]);
    assert_sent(&s.join("bob"), &["bob is registered"]);
    assert_sent(&s.request("anna", end_setup("p")), &["anna gets unknown-name"]);
}

#[test]
fn what_a_task_writes_is_kept_beyond_its_end_and_its_workers() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    writes(&mut s, "alice", "x", "hello");
    s.done("alice", "x");
    s.release("anna", &["x"]);
    s.worker_leaves("alice");
    assert_eq!(texts(&mut s, "x"), [Value::from("hello")]);
    assert!(texts(&mut s, "y").is_empty());
}

#[test]
fn other_work_under_a_key_starts_a_new_log() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x")]);
    writes(&mut s, "alice", "x", "old");
    s.done("alice", "x");
    s.release("anna", &["x"]);
    s.submit("anna", [future("x")]);
    writes(&mut s, "alice", "x", "new");
    assert_eq!(texts(&mut s, "x"), [Value::from("new")]);
}

#[test]
fn a_dump_has_every_task() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [step("x"), future("y").needs(&["x"])]);
    let dump = s.ask("anna", Question::Control(ControlQuestion::Dump));
    let Some(Value::Map(tasks)) = dump.get("tasks") else { panic!() };
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].1.get("state"), Some(&Value::from("processing")));
}
