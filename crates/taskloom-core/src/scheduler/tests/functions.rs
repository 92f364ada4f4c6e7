//! Functions: sent once, kept while somebody uses them.

use super::*;

#[test]
fn a_worker_learns_a_function_with_the_first_task_that_uses_it() {
    let mut s = Script::anna_and(["alice"]);
    let sent = s.submit("anna", [future("x").calls("inc")]);
    assert_sent(&sent, &["alice learns inc", "alice runs x"]);
    assert_sent(&s.submit("anna", [future("y").calls("inc")]), &["alice runs y"]);
}

#[test]
fn a_function_is_forgotten_when_no_client_and_no_task_uses_it() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    // when: the client's cache drops it
    assert_sent(&s.forget_functions("anna", &["inc"]), &[]);
    assert_eq!(s.scheduler.functions.len(), 1);
    // then: it goes with the last task
    s.done("alice", "x");
    let sent = s.release("anna", &["x"]);
    assert_sent(&sent, &["alice frees x", "alice forgets 1 functions"]);
    assert_eq!(s.scheduler.functions.len(), 0);
}

#[test]
fn a_function_that_a_client_knows_stays_without_tasks() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    assert_sent(&s.release("anna", &["x"]), &["alice frees x"]);
    assert_sent(&s.submit("anna", [future("y").calls("inc")]), &["alice runs y"]);
    assert_sent(&s.client_leaves("anna"), &["alice frees y", "alice forgets 1 functions"]);
}

#[test]
fn one_function_of_two_clients_is_one_function() {
    let mut s = Script::anna_and(["alice"]);
    s.client("bert");
    s.submit("anna", [future("x").calls("inc")]);
    assert_sent(&s.submit("bert", [future("y").calls("inc")]), &["alice runs y"]);
    s.client_leaves("anna");
    assert_eq!(s.scheduler.functions.len(), 1);
    s.client_leaves("bert");
    assert_eq!(s.scheduler.functions.len(), 0);
}

#[test]
fn a_forgotten_function_is_sent_anew() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    s.release("anna", &["x"]);
    s.forget_functions("anna", &["inc"]);
    let sent = s.submit("anna", [future("y").calls("inc")]);
    assert_sent(&sent, &["alice learns inc", "alice runs y"]);
}

#[test]
fn a_function_knows_nothing_of_workers_that_left() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("inc")]);
    s.worker_leaves("alice");
    assert_eq!(s.scheduler.functions.holdings().count(), 0);
    // when: another one takes its place
    let sent = s.join("bob");
    assert_sent(&sent, &["bob is registered", "bob learns inc", "bob runs x (attempt 2)"]);
    assert_eq!(s.scheduler.functions.holdings().count(), 1);
}

#[test]
fn functions_of_unknown_clients_are_not_kept() {
    let mut s = Script::anna_and(["alice"]);
    let function = taskloom_proto::client::RegisterFunction::default();
    let message = ClientToScheduler::RegisterFunction(function);
    s.event(Event::ClientMessage { client: ClientId(99), message });
    assert_eq!(s.scheduler.functions.len(), 0);
}

#[test]
fn prefixes_that_no_task_uses_are_kept_up_to_a_bound() {
    let mut s = Script::anna_and(["alice"]);
    for i in 0..5_000 {
        s.submit("anna", [future("x").prefix(&format!("prefix-{i}"))]);
        s.release("anna", &["x"]);
    }
    assert!(format!("{:?}", s.scheduler.prefixes).matches("name:").count() <= 4_200);
}

#[test]
fn what_is_known_of_a_prefix_outlives_its_tasks() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").prefix("sum")]);
    s.done_with("alice", "x", Outcome::inline().after_us(70));
    s.release("anna", &["x"]);
    let prefix = s.scheduler.prefixes.intern("sum");
    assert_eq!(s.scheduler.prefixes[prefix].duration_ns, 70_000);
}

#[test]
fn classes_of_restrictions_go_with_their_last_task() {
    let mut s = Script::anna_and(["alice"]);
    let before = s.scheduler.classes.iter().count();
    for i in 0..100 {
        s.submit("anna", [future("x").only_on(&[&format!("absent-{i}")])]);
        s.release("anna", &["x"]);
    }
    assert_eq!(s.scheduler.classes.iter().count(), before);
}
