//! Which worker gets a task.

use super::*;
use State::{Processing, Queued};

const MIB: u64 = 1 << 20;

/// x, of this size, is at alice; both workers are free.
fn x_at_alice(size_bytes: u64) -> Script {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done_with("alice", "x", Outcome::of_bytes(size_bytes));
    s
}

#[test]
fn a_task_runs_where_its_inputs_are() {
    let mut s = x_at_alice(10 * MIB);
    assert_sent(&s.submit("anna", [future("y").needs(&["x"])]), &["alice runs y with x here"]);
}

#[test]
fn a_task_runs_where_most_of_its_inputs_are() {
    let mut s = x_at_alice(10 * MIB);
    s.submit("anna", [future("z").only_on(&["bob"])]);
    s.done_with("bob", "z", Outcome::of_bytes(20 * MIB));
    let sent = s.submit("anna", [future("y").needs(&["x", "z"])]);
    assert_sent(&sent, &["bob runs y with x from alice, z here"]);
}

#[test]
fn an_idle_worker_gets_a_task_whose_inputs_are_at_a_busy_one() {
    // given: alice is busy for about 100 ms, and x could be moved in much less
    let mut s = x_at_alice(10_000);
    s.submit("anna", [future("busy").only_on(&["alice"])]);
    let sent = s.submit("anna", [future("y").needs(&["x"])]);
    assert_sent(&sent, &["bob runs y with x from alice"]);
}

#[test]
fn a_task_waits_for_a_busy_holder_when_its_input_is_dear_to_move() {
    // given: alice is busy for about 100 ms, and moving x takes a second
    let mut s = x_at_alice(500 * MIB);
    s.submit("anna", [future("busy").only_on(&["alice"])]);
    assert_sent(&s.submit("anna", [future("y").needs(&["x"])]), &[]);
    assert_eq!(s.state("y"), Some(Queued));
    assert_eq!(s.reason("y"), "waiting-for-slot");
    let sent = s.done("alice", "busy");
    assert_sent(&sent, &["anna finds busy at alice", "alice runs y with x here"]);
}

#[test]
fn small_inputs_do_not_bind_a_task_to_a_worker() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").only_on(&["alice"])]);
    s.done_with("alice", "x", Outcome::inline());
    s.submit("anna", [future("busy").only_on(&["alice"])]);
    let sent = s.submit("anna", [future("y").needs(&["x"])]);
    assert_sent(&sent, &["bob runs y with x inline"]);
}

#[test]
fn an_input_has_several_holders_once_it_was_fetched() {
    let mut s = x_at_alice(10_000);
    s.join("carol");
    s.submit("anna", [future("y").needs(&["x"]).only_on(&["bob"])]);
    s.fetched("bob", &["x"]);
    let sent = s.submit("anna", [future("z").needs(&["x"]).only_on(&["carol"])]);
    assert_sent(&sent, &["carol runs z with x from alice+bob"]);
    assert_sent(
        &s.release("anna", &["x", "z", "y"]),
        &["carol frees z", "bob frees y x", "alice frees x"],
    );
}

#[test]
fn tasks_without_inputs_are_spread() {
    let mut s = Script::anna_and(["alice", "bob"]);
    let sent = s.submit("anna", [future("a"), future("b")]);
    assert_sent(&sent, &["alice runs a", "bob runs b"]);
}

#[test]
fn a_worker_with_more_threads_gets_more() {
    let mut s = Script::anna_and([]);
    s.join(worker("alice").threads(3));
    s.join("bob");
    let tasks = (0..4).map(|i| future(&format!("t{i}"))).collect();
    s.submit_all("anna", tasks);
    assert_eq!((s.processing("alice").len(), s.processing("bob").len()), (3, 1));
}

#[test]
fn siblings_are_made_on_one_worker() {
    // given: alice and bob are busy, and the parts of two sums wait
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("known")]);
    s.done("alice", "known");
    s.submit("anna", [future("a").only_on(&["alice"]), future("b").only_on(&["bob"])]);
    let parts = ["a1", "b1", "a2", "b2"].map(step);
    let sums = [("sum-a", ["a1", "a2"]), ("sum-b", ["b1", "b2"])];
    let sums = sums.map(|(key, parts)| future(key).needs(&parts));
    s.submit_all("anna", parts.into_iter().chain(sums).collect());
    // when: one thread after the other becomes free
    assert_sent(&s.done("alice", "a"), &["anna finds a at alice", "alice runs a1"]);
    assert_sent(&s.done("bob", "b"), &["anna finds b at bob", "bob runs b1"]);
    // then: each goes on with the sibling of what it has made
    assert_sent(&s.done("bob", "b1"), &["bob runs b2"]);
    assert_sent(&s.done("alice", "a1"), &["alice runs a2"]);
    assert_sent(&s.done("alice", "a2"), &["alice runs sum-a with a1 here, a2 here"]);
}

#[test]
fn a_sibling_that_waits_for_a_busy_worker_is_taken_by_an_idle_one() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done("alice", "known");
    s.submit("anna", [step("a1"), step("a2"), future("sum").needs(&["a1", "a2"])]);
    assert_eq!(s.state("a2"), Some(Queued));
    assert_sent(&s.join("bob"), &["bob is registered", "bob runs a2"]);
}

#[test]
fn a_chain_is_sent_ahead_as_far_as_there_is_room() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    let tasks = [step("a"), step("b").needs(&["a"]), future("c").needs(&["b"])];
    let sent = s.submit("anna", tasks);
    let expected = ["alice runs a", "alice runs b with a here", "alice runs c with b here"];
    let other = expected.map(|line| line.replace("alice", "bob"));
    assert!(sent == lines(&expected) || sent == other, "{sent:?}");
    assert_eq!(s.counters().run_ahead, 2);
}

#[test]
fn what_needs_inputs_of_two_workers_is_not_sent_ahead() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    s.submit(
        "anna",
        [
            step("a").only_on(&["alice"]),
            step("b").only_on(&["bob"]),
            future("c").needs(&["a", "b"]),
        ],
    );
    assert_eq!(s.reason("c"), "waiting-for-dependencies");
    s.done("alice", "a");
    let sent = s.done("bob", "b");
    assert_eq!(s.state("c"), Some(Processing));
    assert_eq!(sent.len(), 1);
}

#[test]
fn nothing_is_sent_ahead_of_an_input_while_its_run_time_is_unknown() {
    let mut s = Script::anna_and(["alice"]);
    let sent = s.submit("anna", [step("a"), future("b").needs(&["a"])]);
    assert_sent(&sent, &["alice runs a"]);
}

#[test]
fn what_was_sent_ahead_comes_back_when_its_input_is_made_elsewhere() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    s.submit("anna", [step("a"), step("b").needs(&["a"]), future("c").needs(&["b"])]);
    assert_eq!(s.reason("c"), "sent-ahead");
    // when: a is to be tried again
    let sent = s.reschedules("alice", "a");
    // then: b and c are taken back, and all go out again
    let expected = [
        "alice frees b c",
        "alice runs a (attempt 2)",
        "alice runs b (attempt 2) with a here",
        "alice runs c (attempt 2) with b here",
    ];
    assert_sent(&sent, &expected);
}

#[test]
fn what_was_sent_ahead_fails_with_its_input() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("known")]);
    s.done_with("alice", "known", Outcome::default().after_us(10));
    s.submit("anna", [step("a"), future("b").needs(&["a"])]);
    let sent = s.raises("alice", "a");
    assert_sent(&sent, &["alice frees a b", "anna: b failed, ValueError"]);
    assert_eq!(s.processing("alice"), Vec::<String>::new());
}

#[test]
fn a_worker_whose_tasks_all_wait_for_a_lost_input_still_looks_for_work() {
    // given: w is held by bob only; alice has two medium-long tasks that need it; dave is busy
    let mut s = Script::anna_and(["alice", "bob", "dave"]);
    s.submit("anna", [future("known").only_on(&["alice"])]);
    s.done_with("alice", "known", Outcome::of_bytes(8).after_us(15_000));
    s.submit("anna", [future("w").only_on(&["bob"])]);
    s.done_with("bob", "w", Outcome::of_bytes(8).after_us(15_000));
    s.submit("anna", ["s", "t", "u"].map(|key| future(key).only_on(&["dave"])));
    s.submit("anna", ["y", "z"].map(|key| future(key).needs(&["w"]).only_on(&["alice"])));
    assert_eq!(s.processing("alice"), ["y", "z"]);
    // when: w is lost, and can be made nowhere for now
    s.worker_leaves("bob");
    // then: its threads are free for others
    let sent = s.submit("anna", [future("new")]);
    assert_sent(&sent, &["alice runs new"]);
}
