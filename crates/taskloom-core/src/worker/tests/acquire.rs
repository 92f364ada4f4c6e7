//! Copies that the scheduler orders.

use super::*;
use taskloom_proto::control::NotAcquired;

fn order(s: &mut Script, index: u32, holders: &[WorkerNo]) -> Vec<Action> {
    let holders = holders.iter().copied().collect();
    let dep = DepRef { task: task(index), size_bytes: 10, holders, value: None };
    s.on(|worker, now| worker.on_acquire(now, vec![dep]))
}

fn fetch(peer: WorkerNo, address: &str, index: u32) -> Action {
    Action::Fetch { peer, address: address.into(), tasks: vec![task(index)] }
}

fn reported(index: u32) -> Action {
    Action::Send(WorkerToScheduler::Fetched(vec![task(index)]))
}

fn declined(index: u32, why: &str) -> Action {
    let declined = NotAcquired { task: task(index), reason: why.into() };
    Action::Send(WorkerToScheduler::NotAcquired(declined))
}

#[test]
fn an_ordered_copy_is_fetched_kept_and_reported() {
    let mut s = Script::new();
    assert_eq!(order(&mut s, 1, &[ALICE]), [fetch(ALICE, "alice", 1)]);
    assert_eq!(s.fetched(ALICE, &[(1, VALUE)]), [reported(1)]);
    assert!(s.worker.has_value(task(1)));
    assert_eq!(s.free(&[1]), [Action::DropValue(task(1))]);
    s.assert_empty();
}

#[test]
fn an_order_is_sought_at_every_holder_and_declined_in_the_end() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE, BOB]);
    assert_eq!(s.fetched(ALICE, &[(1, MISSING)]), [fetch(BOB, "bob", 1)]);
    let sent = s.unreachable(BOB);
    assert_eq!(sent, [declined(1, "none of its holders could give it")]);
    s.assert_empty();
}

#[test]
fn what_a_holder_cannot_serialize_is_declined_with_the_reason() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    let error = ErrorInfo { message: "cannot".into(), ..ErrorInfo::default() };
    let sent = s.fetched(ALICE, &[(1, FetchOutcome::Failed(error))]);
    assert_eq!(sent, [declined(1, "cannot")]);
    s.assert_empty();
}

#[test]
fn what_is_here_already_is_reported_again() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    s.fetched(ALICE, &[(1, VALUE)]);
    assert_eq!(order(&mut s, 1, &[ALICE]), [reported(1)]);
}

#[test]
fn an_order_that_is_called_off_leaves_nothing_behind() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    order(&mut s, 1, &[ALICE]);
    s.free(&[1]);
    s.fetched(ALICE, &[(1, VALUE)]);
    s.assert_empty();
}

#[test]
fn a_worker_that_runs_the_task_itself_declines() {
    let mut s = Script::new();
    s.compute([run(1)]);
    assert_eq!(order(&mut s, 1, &[ALICE]), [declined(1, "the worker runs the task itself")]);
}

#[test]
fn a_run_and_an_order_share_one_fetch_and_the_run_outlives_a_declined_order() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    s.compute([run(2).needs_from(1, 10, &[ALICE])]);
    let missing =
        DepMissing { dep: task(1), asked: [ALICE].into_iter().collect(), is_silence: false };
    let sent = s.fetched(ALICE, &[(1, MISSING)]);
    let expected = [
        declined(1, "none of its holders could give it"),
        Action::Send(WorkerToScheduler::DepMissing(missing)),
    ];
    assert_eq!(sent, expected);
    s.holders(1, &[BOB]);
    s.fetched(BOB, &[(1, VALUE)]);
    assert_eq!(s.start(), Some(2));
}

#[test]
fn an_order_is_met_by_an_inline_value_that_a_run_brings() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    let sent = s.compute([run(2).needs_inline(1, b"value")]);
    assert!(sent.contains(&reported(1)), "{sent:?}");
    s.start_all();
    assert!(s.worker.has_value(task(1)));
}

#[test]
fn what_is_discarded_is_said_to_be() {
    let mut s = Script::new();
    order(&mut s, 1, &[ALICE]);
    s.fetched(ALICE, &[(1, VALUE)]);
    let sent = s.on(|worker, _| worker.on_discard(vec![task(1), task(2)]));
    let discarded = WorkerToScheduler::Discarded(vec![task(1), task(2)]);
    assert_eq!(sent, [Action::DropValue(task(1)), Action::Send(discarded)]);
    s.assert_empty();
}
