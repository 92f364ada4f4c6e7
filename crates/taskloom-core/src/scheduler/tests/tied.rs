//! Inputs that cannot be sent.

use super::*;
use taskloom_proto::ErrorInfo;
use taskloom_proto::worker::{TaskAttempt, UnsentInput};

/// The worker cannot get an input of this run, which `holder` has.
fn cannot_get(s: &mut Script, worker: &str, key: &str, holder: &str) -> Vec<String> {
    let TaskAttempt { task, attempt } = s.run(worker, key);
    let error = ErrorInfo { type_name: "TypeError".into(), ..ErrorInfo::default() };
    let unsent = UnsentInput { task, attempt, holder: s.number(holder), error };
    s.report(worker, WorkerToScheduler::Unsent(unsent))
}

/// A socket is at alice, who is busy; what needs it went to bob.
fn socket_at_alice() -> Script {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("socket").only_on(&["alice"])]);
    s.done("alice", "socket");
    s.submit("anna", [future("long").only_on(&["alice"])]);
    s.submit("anna", [future("port").needs(&["socket"])]);
    assert!(s.processing("bob").contains(&"port".to_string()));
    s
}

#[test]
fn a_task_runs_where_its_input_is_when_that_cannot_be_sent() {
    let mut s = socket_at_alice();
    cannot_get(&mut s, "bob", "port", "alice");
    assert!(s.processing("bob").is_empty(), "bob does not get it again");
    s.done("alice", "long");
    assert!(s.processing("alice").contains(&"port".to_string()));
    assert_sent(&s.done("alice", "port"), &["anna finds port at alice"]);
}

#[test]
fn a_task_that_must_not_run_where_its_input_is_fails() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("socket").only_on(&["alice"])]);
    s.done("alice", "socket");
    s.submit("anna", [future("port").needs(&["socket"]).only_on(&["bob"])]);
    let sent = cannot_get(&mut s, "bob", "port", "alice");
    assert_sent(&sent, &["bob frees port", "anna: port failed, TypeError"]);
}

#[test]
fn a_task_with_two_such_inputs_at_two_workers_fails() {
    let mut s = socket_at_alice();
    s.submit("anna", [future("other").only_on(&["bob"])]);
    cannot_get(&mut s, "bob", "port", "alice");
    s.done("alice", "long");
    let sent = cannot_get(&mut s, "alice", "port", "bob");
    assert_sent(&sent, &["alice frees port", "anna: port failed, TypeError"]);
}

#[test]
fn a_task_is_free_again_when_the_worker_with_its_input_has_left() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("socket").rather_on(&["alice"])]);
    s.done("alice", "socket");
    s.submit("anna", [future("port").needs(&["socket"]).rather_on(&["bob"])]);
    cannot_get(&mut s, "bob", "port", "alice");
    s.worker_leaves("alice");
    s.done("bob", "socket");
    assert_sent(&s.done("bob", "port"), &["anna finds port at bob"]);
}
