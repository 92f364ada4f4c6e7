//! Workers that leave in order.

use super::*;
use taskloom_proto::client::Closing;
use taskloom_proto::supervisor::SupervisorToScheduler;
use taskloom_proto::worker::WorkerToScheduler;

fn leave(s: &mut Script, worker: &str) -> Vec<String> {
    s.report(worker, WorkerToScheduler::Leave(Closing::default()))
}

fn supervisor_stops(s: &mut Script, names: &[&str]) -> Vec<String> {
    let names = names.iter().map(ToString::to_string).collect();
    let message = SupervisorToScheduler::Stopping(names);
    s.event(Event::SupervisorMessage { supervisor: script::SUPERVISOR, message })
}

#[test]
fn a_worker_that_wants_to_leave_and_has_nothing_is_closed_at_once() {
    let mut s = Script::anna_and(["alice", "bob"]);
    assert_sent(&leave(&mut s, "alice"), &["alice is told to close"]);
    // Its supervisor is not asked to end it: it does so by itself.
    s.worker_leaves("alice");
    assert_eq!(s.counters().workers_lost, 0);
}

#[test]
fn what_it_has_not_started_runs_elsewhere_and_what_only_it_holds_is_copied_first() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("held").calls("f")]);
    s.done("alice", "held");
    s.submit("anna", [future("x").calls("f")]);
    s.join("bob");
    let said = leave(&mut s, "alice");
    assert_eq!(said, ["alice is asked for x back"]);
    s.gives_back("alice", "x");
    assert_eq!(s.processing("bob"), ["x"]);
    assert_eq!(s.poll(), [""; 0], "it is not closed before its result is copied");
    let said = s.fetched("bob", &["held"]);
    assert!(said.contains(&"alice is told to close".to_string()), "{said:?}");
    s.worker_leaves("alice");
    assert_eq!((s.state("held"), s.counters().recomputed), (Some(State::Memory), 0));
}

#[test]
fn workers_of_a_supervisor_that_stops_do_not_hand_over_to_each_other() {
    let mut s = Script::new();
    s.client("anna");
    s.supervisor();
    s.join(worker("alice").supervised());
    s.join(worker("bob").supervised());
    s.submit("anna", [future("x").calls("f")]);
    let holder = if s.processing("alice").is_empty() { "bob" } else { "alice" };
    s.done(holder, "x");
    supervisor_stops(&mut s, &["alice", "bob"]);
    let closed = format!("{holder} is told to close");
    assert_sent(&leave(&mut s, holder), &[&closed]);
}
