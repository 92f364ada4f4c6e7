//! Queues, variables, datasets and metadata: nothing is lost, and futures in values stay alive.

use super::coordination::{
    A_SECOND, AT_ONCE, FOREVER, ask, assert_fails, assert_nothing_is_kept, assert_told,
    assert_waits, key, let_go, told,
};
use super::*;
use bytes::Bytes;
use taskloom_proto::Value;
use taskloom_proto::coordination::{
    Coordination, GetItems, OpenQueue, Publish, PutItem, SetMetadata, SetVariable, Settle,
    SharedValue, WaitFor,
};

fn value(payload: &str, futures: &[&str]) -> SharedValue {
    let keys = futures.iter().map(|name| key(name)).collect();
    SharedValue { payload: Bytes::copy_from_slice(payload.as_bytes()), keys }
}

fn open(s: &mut Script, client: &str, max_size: u64) -> u64 {
    let open = OpenQueue { name: key("q"), max_size };
    let request = ask(s, client, Coordination::OpenQueue(open));
    assert_told(s, request, true);
    request
}

fn put_value(s: &mut Script, client: &str, value: SharedValue, timeout_ns: Option<u64>) -> u64 {
    ask(s, client, Coordination::PutItem(PutItem { name: key("q"), value, timeout_ns }))
}

fn put(s: &mut Script, client: &str, payload: &str) -> u64 {
    put_value(s, client, value(payload, &[]), FOREVER)
}

fn get_with(s: &mut Script, client: &str, count: u32, timeout_ns: Option<u64>) -> u64 {
    ask(s, client, Coordination::GetItems(GetItems { name: key("q"), count, timeout_ns }))
}

fn get(s: &mut Script, client: &str) -> u64 {
    get_with(s, client, 1, FOREVER)
}

fn take(s: &mut Script, client: &str, request: u64) {
    s.say(client, ClientToScheduler::Settle(Settle { request, is_taken: true }));
}

/// The payloads that a request was given, in words; futures whose task is gone have a `?`.
#[track_caller]
fn given(s: &mut Script, request: u64) -> String {
    let Some(Ok(Value::List(items))) = told(s, request) else { panic!("nothing was given") };
    let word = |item: &Value| {
        let Value::List(parts) = item else { return "-".to_string() };
        let [Value::Bytes(payload), Value::List(keys), Value::List(known)] = parts.as_slice()
        else {
            panic!("no value: {item:?}")
        };
        let mut word = String::from_utf8_lossy(payload).to_string();
        for (future, known) in keys.iter().zip(known) {
            let Value::Key(future) = future else { panic!("no key: {future:?}") };
            word += &format!("+{future}");
            word += if *known == Value::Bool(true) { "" } else { "?" };
        }
        word
    };
    items.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn set(s: &mut Script, client: &str, value: SharedValue) -> u64 {
    ask(s, client, Coordination::SetVariable(SetVariable { name: key("v"), value }))
}

fn read(s: &mut Script, client: &str, timeout_ns: Option<u64>) -> u64 {
    ask(s, client, Coordination::GetVariable(WaitFor { name: key("v"), timeout_ns }))
}

fn size(s: &mut Script, client: &str) -> u64 {
    ask(s, client, Coordination::QueueSize(key("q")))
}

fn publish(s: &mut Script, entries: &[(&str, SharedValue)], replaces: bool) -> u64 {
    let entries = entries.iter().map(|(name, value)| (key(name), value.clone())).collect();
    ask(s, "anna", Coordination::Publish(Publish { entries, replaces }))
}

fn anna_and_bert() -> Script {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s
}

/// Anna's task x is in memory at alice.
fn with_result() -> Script {
    let mut s = anna_and_bert();
    s.submit("anna", [future("x")]);
    s.done("alice", "x");
    s
}

#[test]
fn values_leave_a_queue_in_the_order_in_which_they_came() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    for payload in ["1", "2", "3"] {
        put(&mut s, "anna", payload);
    }
    let first = get(&mut s, "bert");
    assert_eq!(given(&mut s, first), "1");
    take(&mut s, "bert", first);
    let rest = get_with(&mut s, "bert", 0, FOREVER);
    assert_eq!(given(&mut s, rest), "2 3");
    let none = get_with(&mut s, "bert", 0, FOREVER);
    assert_eq!(given(&mut s, none), "");
}

#[test]
fn those_who_wait_for_values_are_served_in_the_order_in_which_they_came() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    let (first, second) = (get(&mut s, "bert"), get(&mut s, "anna"));
    put(&mut s, "anna", "1");
    put(&mut s, "anna", "2");
    assert_eq!(given(&mut s, first), "1");
    assert_eq!(given(&mut s, second), "2");
}

#[test]
fn a_full_queue_makes_those_wait_who_put() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 1);
    let first = put(&mut s, "anna", "1");
    assert_told(&mut s, first, Value::Null);
    let (second, third) = (put(&mut s, "anna", "2"), put(&mut s, "anna", "3"));
    let hasty = put_value(&mut s, "bert", value("x", &[]), AT_ONCE);
    assert_fails(&mut s, hasty, "timeout");
    let late = put_value(&mut s, "bert", value("y", &[]), A_SECOND);
    s.pass(2 * Nanos::SECOND);
    assert_fails(&mut s, late, "timeout");
    let got = get(&mut s, "bert");
    assert_eq!(given(&mut s, got), "1");
    assert_told(&mut s, second, Value::Null);
    assert_waits(&mut s, third);
}

#[test]
fn a_batch_may_be_larger_than_the_queue() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 1);
    let batch = get_with(&mut s, "bert", 3, FOREVER);
    for payload in ["1", "2", "3"] {
        put(&mut s, "anna", payload);
    }
    assert_eq!(given(&mut s, batch), "1 2 3");
}

#[test]
fn a_batch_that_is_not_complete_in_time_leaves_everything_in_its_order() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    put(&mut s, "anna", "1");
    put(&mut s, "anna", "2");
    let batch = get_with(&mut s, "bert", 3, A_SECOND);
    s.pass(2 * Nanos::SECOND);
    assert_fails(&mut s, batch, "timeout");
    let all = get_with(&mut s, "bert", 0, FOREVER);
    assert_eq!(given(&mut s, all), "1 2");
}

#[test]
fn a_value_that_was_not_taken_is_given_to_the_next() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    put(&mut s, "anna", "1");
    put(&mut s, "anna", "2");
    let given_up = get(&mut s, "bert");
    let_go(&mut s, "bert", given_up);
    let dying = get(&mut s, "bert");
    assert_eq!(given(&mut s, dying), "1");
    s.client_leaves("bert");
    let next = get(&mut s, "anna");
    assert_eq!(given(&mut s, next), "1");
}

#[test]
fn who_gives_up_waiting_swallows_nothing() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    let (first, second) = (get(&mut s, "bert"), get(&mut s, "anna"));
    let_go(&mut s, "bert", first);
    put(&mut s, "anna", "1");
    assert_waits(&mut s, first);
    assert_eq!(given(&mut s, second), "1");
}

#[test]
fn the_last_user_who_closes_a_queue_takes_it_away() {
    let mut s = anna_and_bert();
    let (first, second) = (open(&mut s, "anna", 0), open(&mut s, "bert", 0));
    put(&mut s, "anna", "1");
    ask(&mut s, "anna", Coordination::CloseQueue(first));
    let count = size(&mut s, "bert");
    assert_told(&mut s, count, 1);
    ask(&mut s, "bert", Coordination::CloseQueue(second));
    assert_nothing_is_kept(&s);
    let late = get(&mut s, "bert");
    assert_fails(&mut s, late, "gone");
}

#[test]
fn a_queue_with_values_outlives_its_users_and_an_empty_one_does_not() {
    let mut s = anna_and_bert();
    open(&mut s, "anna", 0);
    put(&mut s, "anna", "1");
    s.client_leaves("anna");
    open(&mut s, "bert", 0);
    let got = get(&mut s, "bert");
    assert_eq!(given(&mut s, got), "1");
    take(&mut s, "bert", got);
    s.client_leaves("bert");
    assert_nothing_is_kept(&s);
}

#[test]
fn a_value_on_its_way_comes_back_to_a_queue_that_nobody_uses_any_more() {
    let mut s = anna_and_bert();
    open(&mut s, "bert", 0);
    put(&mut s, "bert", "1");
    get(&mut s, "bert");
    s.client_leaves("bert");
    open(&mut s, "anna", 0);
    let got = get(&mut s, "anna");
    assert_eq!(given(&mut s, got), "1");
}

#[test]
fn a_value_on_its_way_does_not_come_back_to_a_queue_that_was_closed() {
    let mut s = anna_and_bert();
    let first = open(&mut s, "anna", 0);
    put(&mut s, "anna", "1");
    let old = get(&mut s, "bert");
    ask(&mut s, "anna", Coordination::CloseQueue(first));
    open(&mut s, "anna", 0);
    let_go(&mut s, "bert", old);
    let count = size(&mut s, "anna");
    assert_told(&mut s, count, 0);
}

#[test]
fn a_future_in_a_queue_keeps_its_result_when_its_client_is_gone() {
    let mut s = with_result();
    open(&mut s, "anna", 0);
    put_value(&mut s, "anna", value("f", &["x"]), FOREVER);
    s.client_leaves("anna");
    assert_eq!(s.state("x"), Some(State::Memory));
    let got = get(&mut s, "bert");
    assert_eq!(given(&mut s, got), "f+x");
    // It is kept until bert has asked for it himself.
    assert_eq!(s.state("x"), Some(State::Memory));
    s.desire("bert", "x");
    take(&mut s, "bert", got);
    assert_eq!(s.state("x"), Some(State::Memory));
    assert_sent(&s.release("bert", &["x"]), &["alice frees x"]);
}

#[test]
fn a_task_that_only_a_variable_holds_runs_to_its_end() {
    let mut s = anna_and_bert();
    s.submit("anna", [future("x")]);
    set(&mut s, "anna", value("f", &["x"]));
    s.client_leaves("anna");
    s.done("alice", "x");
    assert_eq!(s.state("x"), Some(State::Memory));
    set(&mut s, "bert", value("other", &[]));
    assert_eq!(s.state("x"), None);
}

#[test]
fn the_lost_result_of_a_future_in_a_variable_is_computed_again() {
    let mut s = with_result();
    s.join("bob");
    set(&mut s, "anna", value("f", &["x"]));
    s.client_leaves("anna");
    s.worker_leaves("alice");
    assert_eq!(s.state("x"), Some(State::Processing));
}

#[test]
fn reading_a_variable_waits_until_it_is_set() {
    let mut s = anna_and_bert();
    let (first, late) = (read(&mut s, "bert", FOREVER), read(&mut s, "bert", A_SECOND));
    let hasty = read(&mut s, "bert", AT_ONCE);
    assert_fails(&mut s, hasty, "timeout");
    s.pass(2 * Nanos::SECOND);
    assert_fails(&mut s, late, "timeout");
    set(&mut s, "anna", value("1", &[]));
    assert_eq!(given(&mut s, first), "1");
    let again = read(&mut s, "anna", FOREVER);
    assert_eq!(given(&mut s, again), "1");
    ask(&mut s, "anna", Coordination::DeleteVariable(key("v")));
    let after = read(&mut s, "anna", FOREVER);
    assert_waits(&mut s, after);
}

#[test]
fn another_clients_cancel_does_not_take_what_a_variable_holds() {
    let mut s = with_result();
    set(&mut s, "anna", value("f", &["x"]));
    assert_sent(&s.cancel("anna", &["x"]), &["anna: x cancelled, cancelled"]);
    assert_eq!(s.state("x"), Some(State::Memory));
    ask(&mut s, "anna", Coordination::DeleteVariable(key("v")));
    assert_eq!(s.state("x"), None);
}

#[test]
fn a_future_that_was_cancelled_by_force_is_given_as_gone() {
    let mut s = with_result();
    set(&mut s, "anna", value("f", &["x"]));
    s.cancel_by_force("anna", &["x"]);
    assert_eq!(s.state("x"), None);
    let got = read(&mut s, "bert", FOREVER);
    assert_eq!(given(&mut s, got), "f+x?");
}

#[test]
fn a_future_that_nobody_holds_cannot_be_shared() {
    let mut s = anna_and_bert();
    let request = set(&mut s, "anna", value("f", &["x"]));
    assert_fails(&mut s, request, "lost");
    assert_nothing_is_kept(&s);
}

#[test]
fn values_that_share_a_future_keep_it_until_the_last_is_gone() {
    let mut s = with_result();
    open(&mut s, "anna", 0);
    put_value(&mut s, "anna", value("q", &["x", "x"]), FOREVER);
    set(&mut s, "anna", value("v", &["x"]));
    s.release("anna", &["x"]);
    ask(&mut s, "anna", Coordination::DeleteVariable(key("v")));
    assert_eq!(s.state("x"), Some(State::Memory));
    let got = get(&mut s, "bert");
    take(&mut s, "bert", got);
    assert_eq!(s.state("x"), None);
}

#[test]
fn datasets_outlive_their_client_and_names_are_used_once() {
    let mut s = with_result();
    let first = publish(&mut s, &[("d", value("f", &["x"]))], false);
    assert_told(&mut s, first, Value::Null);
    let again = publish(&mut s, &[("new", value("n", &[])), ("d", value("g", &[]))], false);
    assert_fails(&mut s, again, "key");
    s.client_leaves("anna");
    let got = ask(&mut s, "bert", Coordination::GetDatasets(vec![key("d"), key("new")]));
    assert_eq!(given(&mut s, got), "f+x -");
    take(&mut s, "bert", got);
    let names = ask(&mut s, "bert", Coordination::ListDatasets(0));
    assert_told(&mut s, names, vec![Value::Key(key("d"))]);
    ask(&mut s, "bert", Coordination::Unpublish(vec![key("d"), key("never")]));
    assert_eq!(s.state("x"), None);
}

#[test]
fn a_published_dataset_may_be_replaced() {
    let mut s = with_result();
    publish(&mut s, &[("d", value("f", &["x"]))], false);
    s.release("anna", &["x"]);
    publish(&mut s, &[("d", value("g", &[]))], true);
    assert_eq!(s.state("x"), None);
}

#[test]
fn metadata_are_a_tree() {
    let mut s = anna_and_bert();
    let text = |words: &[&str]| words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>();
    let note = |s: &mut Script, path: &[&str], value: Value| {
        let set = SetMetadata { path: text(path), value };
        ask(s, "anna", Coordination::SetMetadata(set))
    };
    note(&mut s, &["a", "b"], Value::from(1));
    note(&mut s, &["a", "c", "d"], Value::List(vec![Value::from(2), Value::from(3)]));
    let all = ask(&mut s, "bert", Coordination::GetMetadata(text(&["a", "b"])));
    assert_told(&mut s, all, 1);
    let deep = vec![Value::from("a"), Value::from("c"), Value::from("d"), Value::Int(-1)];
    let deep = ask(&mut s, "bert", Coordination::GetMetadata(deep));
    assert_told(&mut s, deep, 3);
    let missing = ask(&mut s, "bert", Coordination::GetMetadata(text(&["a", "b", "c"])));
    assert_fails(&mut s, missing, "key");
    // A map on the way takes the place of what is no map.
    note(&mut s, &["a", "b", "c"], Value::Null);
    let map = ask(&mut s, "bert", Coordination::GetMetadata(text(&["a", "b"])));
    assert_told(&mut s, map, Value::map([("c", Value::Null)]));
    let nowhere = note(&mut s, &[], Value::Null);
    assert_fails(&mut s, nowhere, "value");
    let too_deep = note(&mut s, &["x"; 64], Value::Null);
    assert_fails(&mut s, too_deep, "value");
}

#[test]
fn what_is_noted_under_a_tasks_key_goes_with_the_task() {
    let mut s = with_result();
    let set = SetMetadata { path: vec![Value::from("x")], value: Value::from(1) };
    ask(&mut s, "anna", Coordination::SetMetadata(set));
    s.release("anna", &["x"]);
    let gone = ask(&mut s, "bert", Coordination::GetMetadata(vec![Value::from("x")]));
    assert_fails(&mut s, gone, "key");
}
