//! Tasks that only some workers may run, and what they occupy there.

use super::*;
use State::{NoWorker, Queued};

fn gpu_cluster() -> Script {
    let mut s = Script::anna_and(["plain"]);
    s.join(worker("card").threads(4).with(gpu(1.0)));
    s
}

#[test]
fn a_worker_is_called_by_name_address_or_host() {
    for word in ["bob", "tcp://10.0.0.2:55", "10.0.0.2", "second-host"] {
        let mut s = Script::anna_and(["alice"]);
        s.join(worker("bob").at("tcp://10.0.0.2:55", "second-host"));
        assert_sent(&s.submit("anna", [future("x").only_on(&[word])]), &["bob runs x"]);
    }
}

#[test]
fn a_task_whose_workers_are_absent_waits_for_them() {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.submit("anna", [future("x").only_on(&["bob", "carol"])]), &[]);
    assert_eq!((s.state("x"), s.reason("x").as_str()), (Some(NoWorker), "no-worker"));
    assert_sent(&s.join("dave"), &["dave is registered"]);
    assert_sent(&s.join("carol"), &["carol is registered", "carol runs x"]);
}

#[test]
fn a_task_that_may_run_elsewhere_does_when_its_workers_are_absent() {
    let mut s = Script::anna_and(["alice"]);
    assert_sent(&s.submit("anna", [future("x").rather_on(&["bob"])]), &["alice runs x"]);
    s.join("bob");
    assert_sent(&s.submit("anna", [future("y").rather_on(&["bob"])]), &["bob runs y"]);
}

#[test]
fn a_restriction_outlives_its_worker() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["bob"])]);
    assert_sent(&s.worker_leaves("bob"), &[]);
    assert_sent(&s.join("bob"), &["bob is registered", "bob runs x (attempt 2)"]);
}

#[test]
fn a_resource_is_given_to_one_task_at_a_time() {
    let mut s = gpu_cluster();
    let sent = s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    assert_sent(&sent, &["card runs a"]);
    assert_eq!((s.state("b"), s.reason("b").as_str()), (Some(Queued), "waiting-for-resources"));
    assert_sent(&s.done("card", "a"), &["anna finds a at card", "card runs b"]);
}

#[test]
fn fractions_of_a_resource_add_up() {
    let mut s = gpu_cluster();
    let tasks = ["a", "b", "c"].map(|key| future(key).gpu(0.5));
    assert_sent(&s.submit("anna", tasks), &["card runs a", "card runs b"]);
    assert_sent(&s.done("card", "b"), &["anna finds b at card", "card runs c"]);
}

#[test]
fn a_task_that_asks_for_more_than_anybody_has_stays_pending() {
    let mut s = gpu_cluster();
    assert_sent(&s.submit("anna", [future("x").gpu(2.0)]), &[]);
    assert_eq!(s.reason("x"), "no-worker");
    s.join(worker("large").with(gpu(2.0)));
    assert_eq!(s.processing("large"), ["x"]);
}

#[test]
fn other_tasks_run_while_a_resource_is_in_use() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    let sent = s.submit("anna", [future("c").only_on(&["card"])]);
    assert_sent(&sent, &["card runs c"]);
}

#[test]
fn a_resource_of_a_cancelled_run_is_free_only_when_the_run_has_ended() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    // when: a is cancelled while a thread is in it
    let sent = s.cancel("anna", &["a"]);
    let expected = ["anna: a cancelled, cancelled", "card frees a", "card interrupts a"];
    assert_sent(&sent, &expected);
    // then: b waits until the thread is back
    assert_eq!(s.reason("b"), "waiting-for-resources");
    assert_sent(&s.run_ended("card", "a"), &["card runs b"]);
}

#[test]
fn the_end_of_a_cancelled_run_may_also_come_as_its_outcome() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    s.cancel("anna", &["a"]);
    // when: the report was on its way when the worker was told
    assert_sent(&s.done("card", "a"), &["card frees a", "card runs b"]);
    // then: hearing of the end again frees nothing twice
    s.run_ended("card", "a");
    assert_sent(&s.submit("anna", [future("c").gpu(1.0)]), &[]);
}

#[test]
fn a_task_that_seceded_keeps_its_resource() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    assert_sent(&s.secedes("card", "a"), &[]);
    assert_eq!(s.reason("a"), "seceded");
    assert_eq!(s.state("b"), Some(Queued));
}

#[test]
fn a_resource_is_free_again_after_an_error_and_a_retry() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0).retries(1), future("b").gpu(1.0)]);
    assert_sent(&s.raises("card", "a"), &["card runs a (attempt 2)"]);
    let sent = s.raises("card", "a");
    assert_sent(&sent, &["card frees a", "anna: a failed, ValueError", "card runs b"]);
}

#[test]
fn a_new_worker_has_all_of_its_resources() {
    let mut s = gpu_cluster();
    s.submit("anna", [future("a").gpu(1.0), future("b").gpu(1.0)]);
    s.closes("card");
    s.worker_leaves("card");
    let sent = s.join(worker("card").with(gpu(1.0)));
    assert_sent(&sent, &["card is registered", "card runs a (attempt 2)"]);
}

#[test]
fn nonsense_from_workers_and_clients_is_no_trouble() {
    let mut s = Script::anna_and([]);
    s.join(worker("many").threads(u32::MAX));
    s.join(worker("none").threads(0));
    let sizes = Outcome { size_bytes: u64::MAX, duration_ns: u64::MAX, inline: false };
    for round in 0..4 {
        let keys: Vec<String> = (0..3).map(|i| format!("t{round}-{i}")).collect();
        s.submit_all("anna", keys.iter().map(|key| future(key).only_on(&["many"])).collect());
        for key in &keys {
            s.done_with("many", key, sizes.clone());
        }
        let inputs: Vec<&str> = keys.iter().map(String::as_str).collect();
        s.submit("anna", [future(&format!("sum{round}")).needs(&inputs).rather_on(&["none"])]);
    }
    s.worker_leaves("many");
    assert_eq!(s.counters().illegal_transitions, 0);
}

#[test]
fn a_worker_that_says_it_has_no_thread_gets_one() {
    let mut s = Script::anna_and([]);
    s.join(worker("none").threads(0));
    assert_sent(&s.submit("anna", [future("x")]), &["none runs x"]);
}
