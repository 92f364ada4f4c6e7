//! A new session: what is offered, what goes, and what old runs may still do.

use super::*;
use taskloom_proto::rejoin::{Adopted, Offered};

/// As [`run`], with a name across sessions.
fn named(index: u32) -> Sent {
    let mut sent = run(index);
    sent.0.key = Key::from_text(&index.to_string());
    sent.0.spec_hash = u64::from(index) + 100;
    sent
}

fn offered(number: u64, index: u32) -> Offered {
    let (key, spec_hash) = (Key::from_text(&index.to_string()), u64::from(index) + 100);
    Offered { number, key, spec_hash, size_bytes: 10 }
}

fn keep(index: u32, number: u64) -> Action {
    Action::KeepValue { task: task(index), number }
}

fn offer(offers: Vec<Offered>) -> Action {
    Action::Send(WorkerToScheduler::Offer(offers))
}

impl Script {
    fn begin_session(&mut self) -> Vec<Action> {
        self.on(|worker, _| worker.begin_session())
    }

    fn adopt(&mut self, number: u64, index: u32) -> Vec<Action> {
        let adopted = vec![Adopted { number, task: task(index) }];
        self.on(|worker, _| worker.on_adopt(adopted))
    }
}

#[test]
fn results_are_offered_and_fetched_copies_go() {
    let mut s = Script::new();
    s.compute([named(1), run(2).needs_from(7, 10, &[ALICE])]);
    s.start_all();
    s.finish(1, 1);
    s.fetched(ALICE, &[(7, VALUE)]);
    let expected = [keep(1, 1), drop_value(7), offer(vec![offered(1, 1)])];
    assert_eq!(s.begin_session(), expected);
    assert_eq!(s.worker.managed_bytes(), 10);
    assert_eq!(s.start(), None, "a run of the old session does not start");
}

#[test]
fn an_adopted_result_serves_under_its_new_id_and_is_offered_again() {
    let mut s = Script::new();
    s.compute([named(1)]);
    s.start();
    s.finish(1, 1);
    s.begin_session();
    let taken = Action::TakeKept { number: 1, task: task(40) };
    assert_eq!(s.adopt(1, 40), [taken]);
    s.compute([run(41).needs(40)]);
    assert_eq!(s.start(), Some(41));
    s.finish(41, 1);
    let again = s.begin_session();
    let old = Offered { number: 2, ..offered(2, 1) };
    let Some(Action::Send(WorkerToScheduler::Offer(offers))) = again.last() else {
        panic!("nothing is offered: {again:?}");
    };
    assert_eq!((offers.len(), &offers[0]), (2, &old));
}

#[test]
fn a_declined_result_goes_and_an_unknown_number_changes_nothing() {
    let mut s = Script::new();
    s.compute([named(1)]);
    s.start();
    s.finish(1, 1);
    s.begin_session();
    assert_eq!(s.on(|worker, _| worker.on_decline(&[1, 2])), [Action::DropKept(1)]);
    assert_eq!(s.adopt(1, 40), []);
    s.assert_empty();
}

#[test]
fn the_end_of_a_run_of_the_old_session_is_nobodys() {
    let mut s = Script::new();
    let mut busy = named(1);
    busy.0.flags = TaskSpec::RESOURCES;
    s.compute([busy]);
    s.start();
    assert_eq!(s.begin_session(), [abandoned(1, 1)]);
    // The next session may run a task of the same id, as another attempt.
    s.compute([named(1).attempt(2)]);
    assert!(!s.finish(1, 1));
    assert_eq!(s.drained(), []);
    assert_eq!(s.start(), Some(1));
    assert!(s.finish(1, 2));
}

#[test]
fn what_the_old_session_had_to_say_is_not_said_to_the_new_one() {
    let mut s = Script::new();
    s.compute([named(1)]);
    s.start();
    s.worker.on_erred(task(1), 1, 0, boom());
    assert_eq!(s.begin_session(), []);
    s.assert_empty();
}

#[test]
fn a_scattered_value_is_offered_under_the_name_that_it_was_given() {
    let mut s = Script::new();
    s.on(|worker, _| worker.on_stored(scattered(5), 10));
    assert_eq!(s.begin_session(), [keep(5, 1), offer(vec![offered(1, 5)])]);
}

#[test]
fn what_a_session_did_not_decide_about_is_offered_in_the_next_one_again() {
    let mut s = Script::new();
    s.on(|worker, _| worker.on_stored(scattered(5), 10));
    s.begin_session();
    assert_eq!(s.begin_session(), [offer(vec![offered(1, 5)])]);
    s.on(|worker, _| worker.on_stored(scattered(6), 10));
    assert_eq!(s.begin_session(), [keep(6, 2), offer(vec![offered(1, 5), offered(2, 6)])]);
    assert_eq!(s.adopt(1, 7), [Action::TakeKept { number: 1, task: task(7) }]);
}

#[test]
fn an_actor_is_not_offered() {
    let mut s = Script::new();
    let mut actor = named(1);
    actor.0.flags = TaskSpec::ACTOR;
    s.compute([actor]);
    s.start();
    s.finish(1, 1);
    assert_eq!(s.begin_session(), [drop_value(1)]);
}
