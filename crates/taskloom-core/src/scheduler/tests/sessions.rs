//! Connections that break and come back, and what outlives a session that does not.

use super::script::{Joining, Script, spec_hash, worker};
use super::task::{Task, future};
use super::*;
use taskloom_proto::SmallBytes;
use taskloom_proto::client::{ClientToScheduler, Handles, RegisterClient};
use taskloom_proto::rejoin::{Claim, Offered};
use taskloom_proto::worker::WorkerToScheduler;
use taskloom_types::Key;

const GRACE: u64 = 30 * Nanos::SECOND;
const SETTLE: u64 = 2 * Nanos::SECOND;

/// The epoch of another run of the scheduler.
const BEFORE: u64 = 77;

fn away(s: &mut Script, worker: &str) -> Vec<String> {
    let worker = s.words.worker_called(worker);
    s.event(Event::Away(Party::Worker(worker)))
}

fn back(s: &mut Script, worker: &str) -> Vec<String> {
    let worker = s.words.worker_called(worker);
    s.event(Event::Back(Party::Worker(worker)))
}

fn offer(s: &mut Script, worker: &str, offered: &[(u64, Task)]) -> Vec<String> {
    let one = |(number, task): &(u64, Task)| Offered {
        number: *number,
        key: Key::from_text(&task.key),
        spec_hash: spec_hash(task),
        size_bytes: 10_000,
    };
    let message = WorkerToScheduler::Offer(offered.iter().map(one).collect());
    let worker = s.words.worker_called(worker);
    s.event(Event::WorkerMessage { worker, message })
}

fn returning(name: &str) -> Joining {
    worker(name).returning_from(BEFORE)
}

#[test]
fn a_worker_whose_connection_broke_keeps_its_tasks_and_gets_no_others() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").calls("f"), future("y").calls("g")]);
    assert_eq!(s.processing("alice").len() + s.processing("bob").len(), 2);
    let before = s.processing("alice");
    assert_sent(&away(&mut s, "alice"), &[]);
    s.submit("anna", [future("z").calls("f")]);
    assert_eq!(s.processing("alice"), before);
    // when: it is back
    back(&mut s, "alice");
    assert_eq!(s.processing("alice"), before);
    assert_eq!(s.counters().sessions_resumed, 1);
    assert_eq!(s.counters().recomputed, 0);
}

#[test]
fn a_worker_that_is_away_for_too_long_is_lost_and_its_tasks_run_elsewhere() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("f")]);
    away(&mut s, "alice");
    assert_sent(&s.pass(GRACE - 1), &[]);
    s.join("bob");
    let said = s.pass(1);
    assert!(said.iter().any(|line| line.starts_with("alice is cut off")), "{said:?}");
    // The suspect runs alone, on the other worker.
    assert_eq!(s.processing("bob"), ["x"]);
    assert_eq!(s.counters().workers_lost, 1);
}

#[test]
fn no_silence_is_held_against_a_worker_that_is_away() {
    let mut s = Script::with(|config| config.worker_ttl_ns = Nanos::SECOND);
    s.client("anna");
    s.join("alice");
    s.submit("anna", [future("x").calls("f")]);
    away(&mut s, "alice");
    s.pass(GRACE / 2);
    assert_eq!(s.processing("alice"), ["x"]);
}

#[test]
fn a_scheduler_that_was_stopped_itself_gives_those_who_are_away_their_time_back() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("f")]);
    away(&mut s, "alice");
    s.pass(Nanos::SECOND);
    // when: it sleeps for much longer than the grace time
    s.now = s.now.after(10 * GRACE);
    s.poll();
    assert_eq!(s.processing("alice"), ["x"]);
    back(&mut s, "alice");
    assert_eq!(s.counters().workers_lost, 0);
}

#[test]
fn a_client_that_does_not_come_back_leaves_nothing_behind() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("f")]);
    let anna = s.client_number("anna");
    s.event(Event::Away(Party::Client(anna)));
    assert_eq!(s.processing("alice"), ["x"]);
    s.pass(GRACE);
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_worker_with_the_name_of_one_that_is_away_takes_its_place() {
    let mut s = Script::anna_and(["alice"]);
    s.submit("anna", [future("x").calls("f")]);
    away(&mut s, "alice");
    s.join("alice");
    assert_eq!(s.scheduler.worker_count(), 1);
    assert_eq!(s.processing("alice"), ["x"]);
}

#[test]
fn a_result_that_a_worker_brings_along_is_not_made_again() {
    let mut s = Script::new();
    // The client is faster than the worker that holds what it wants.
    s.joining_client("anna", RegisterClient { returns_from: BEFORE, ..RegisterClient::default() });
    s.join(returning("bob"));
    s.submit("anna", [future("x").calls("f"), future("y").needs(&["x"])]);
    assert_eq!(s.processing("bob"), [""; 0], "nothing is placed yet");
    s.join(returning("alice"));
    let said = offer(&mut s, "alice", &[(4, future("x").calls("f"))]);
    assert!(said.contains(&"alice has x as its 4".to_string()), "{said:?}");
    assert_eq!(s.state("x"), Some(State::Memory));
    s.pass(SETTLE);
    assert_eq!(s.state("y"), Some(State::Processing));
    assert_eq!((s.counters().results_adopted, s.counters().tasks_done), (1, 0));
}

#[test]
fn a_result_that_was_offered_first_waits_for_the_submission() {
    let mut s = Script::new();
    s.join(returning("alice"));
    assert_sent(&offer(&mut s, "alice", &[(1, future("x").calls("f"))]), &[]);
    s.client("anna");
    let said = s.submit("anna", [future("x").calls("f")]);
    assert!(said.contains(&"alice has x as its 1".to_string()), "{said:?}");
    assert_eq!(s.state("x"), Some(State::Memory));
}

#[test]
fn an_offer_of_other_work_under_the_same_key_is_of_no_use() {
    let mut s = Script::with(|config| config.worker_ttl_ns = 10 * GRACE);
    s.join(returning("alice"));
    offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
    s.client("anna");
    s.submit("anna", [future("x").calls("g")]);
    assert_ne!(s.state("x"), Some(State::Memory));
    // In the end the worker may drop it.
    let said = s.pass(GRACE);
    assert!(said.contains(&"alice may drop its [1]".to_string()), "{said:?}");
}

#[test]
fn a_worker_that_was_given_up_brings_its_results_back_into_the_same_run() {
    let mut s = Script::anna_and(["alice", "bob"]);
    s.submit("anna", [future("x").calls("f")]);
    s.done("alice", "x");
    s.worker_leaves("alice");
    assert_eq!(s.processing("bob"), ["x"], "it is made again");
    s.join(worker("alice").returning_from(1));
    let said = offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
    assert!(said.contains(&"bob frees x".to_string()), "{said:?}");
    assert_eq!(s.state("x"), Some(State::Memory));
    assert_eq!(s.processing("bob"), [""; 0]);
}

fn claim(s: &mut Script, key: &str, value: Option<&[u8]>) -> Vec<String> {
    let handle = s.new_handle("anna", key);
    let value = value.map(SmallBytes::copy_of);
    let spec_hash = spec_hash(&future(key).calls("f"));
    let claim = Claim { handle, key: Key::from_text(key), spec_hash, value };
    s.say("anna", ClientToScheduler::Claim(vec![claim]))
}

fn returning_anna() -> Script {
    let mut s = Script::new();
    s.joining_client("anna", RegisterClient { returns_from: BEFORE, ..RegisterClient::default() });
    s
}

#[test]
fn a_claimed_result_is_found_when_its_worker_comes() {
    let mut s = returning_anna();
    claim(&mut s, "x", None);
    s.submit("anna", [future("y").needs(&["x"])]);
    s.join(returning("alice"));
    offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
    assert_eq!(s.state("x"), Some(State::Memory));
    s.pass(SETTLE);
    assert_eq!(s.processing("alice"), ["y"]);
}

#[test]
fn a_claimed_result_that_nobody_brings_is_lost_and_so_is_what_needs_it() {
    let mut s = returning_anna();
    claim(&mut s, "x", None);
    s.submit("anna", [future("y").needs(&["x"])]);
    s.join(returning("alice"));
    let said = s.pass(GRACE);
    assert!(said.iter().any(|line| line.contains("x") && line.contains("lost")), "{said:?}");
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn a_result_that_the_client_has_itself_needs_no_worker() {
    let mut s = returning_anna();
    claim(&mut s, "x", Some(b"value"));
    s.submit("anna", [future("y").needs(&["x"])]);
    assert_eq!(s.state("x"), Some(State::Memory));
    s.join(returning("alice"));
    s.pass(SETTLE);
    assert_eq!(s.processing("alice"), ["y"]);
    let handles = vec![s.handle("anna", "x"), s.handle("anna", "y")];
    s.say("anna", ClientToScheduler::Release(Handles { handles }));
    assert_eq!(s.scheduler.task_count(), 0);
}

#[test]
fn whoever_only_knows_a_key_gets_what_a_worker_brings_under_it() {
    for offered_first in [false, true] {
        let mut s = returning_anna();
        s.join(returning("alice"));
        if offered_first {
            offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
            s.desire("anna", "x");
        } else {
            s.desire("anna", "x");
            offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
        }
        assert_eq!(s.state("x"), Some(State::Memory), "offered first: {offered_first}");
    }
}

#[test]
fn a_claim_makes_known_what_work_a_key_stands_for() {
    let mut s = returning_anna();
    s.client("ben");
    s.desire("ben", "x");
    claim(&mut s, "x", None);
    s.join(returning("alice"));
    let said = offer(&mut s, "alice", &[(1, future("x").calls("g"))]);
    assert!(!said.contains(&"alice has x as its 1".to_string()), "other work: {said:?}");
    offer(&mut s, "alice", &[(2, future("x").calls("f"))]);
    assert_eq!(s.state("x"), Some(State::Memory));
}

#[test]
fn a_failed_task_of_an_earlier_session_that_is_to_be_tried_again_is_lost() {
    let mut s = returning_anna();
    s.new_handle("anna", "x");
    let said = s.retry("anna", &["x"]);
    assert!(said.iter().any(|line| line.contains("x") && line.contains("lost")), "{said:?}");
}

#[test]
fn a_claim_of_what_another_client_makes_waits_for_that_client() {
    let mut s = returning_anna();
    s.pass(SETTLE);
    let handle = s.new_handle("anna", "x");
    let unknown = Claim { handle, key: Key::from_text("x"), ..Claim::default() };
    s.say("anna", ClientToScheduler::Claim(vec![unknown]));
    assert_sent(&s.pass(GRACE - 1), &[]);
    let said = s.pass(1);
    assert!(said.iter().any(|line| line.contains("x") && line.contains("lost")), "{said:?}");
}

#[test]
fn offers_end_with_their_worker() {
    let mut s = Script::new();
    s.join(returning("alice"));
    offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
    s.worker_leaves("alice");
    s.client("anna");
    s.submit("anna", [future("x").calls("f")]);
    assert_eq!(s.state("x"), Some(State::NoWorker));
}

#[test]
fn ids_of_one_run_mean_nothing_in_another() {
    let id = |epoch: u64| {
        let mut scheduler = Scheduler::new(Config::default(), epoch);
        let index = scheduler.insert_task(Key::from_text("x"));
        scheduler.tasks.id(index)
    };
    assert_ne!(id(0x1234_5678_0000_0001), id(0x8765_4321_0000_0001));
}

/// Ben knows the key, and perhaps the value, but not the work.
fn claim_the_key(s: &mut Script, value: Option<&[u8]>) -> Vec<String> {
    let handle = s.new_handle("ben", "x");
    let value = value.map(SmallBytes::copy_of);
    let claim = Claim { handle, key: Key::from_text("x"), spec_hash: 0, value };
    s.say("ben", ClientToScheduler::Claim(vec![claim]))
}

#[test]
fn whoever_knows_only_the_key_may_claim_it_before_the_one_who_made_it() {
    for anna_has_it in [true, false] {
        let mut s = returning_anna();
        s.client("ben");
        claim_the_key(&mut s, Some(b"value"));
        let (said, known_as) = if anna_has_it {
            (claim(&mut s, "x", Some(b"value")), "data")
        } else {
            (s.submit("anna", [future("x").calls("f")]), "f")
        };
        assert_sent(&said, &["anna has x"]);
        // and from now on the key stands for that work
        s.client("carol");
        let said = s.submit("carol", [future("x").calls("g")]);
        assert_eq!(said[0], format!("carol: x is {known_as}(…), not g(…)"));
    }
}

#[test]
fn what_a_client_has_itself_it_keeps_although_its_key_is_used_for_other_work() {
    let mut s = returning_anna();
    s.client("ben");
    s.join("alice");
    s.submit("ben", [future("x").calls("g")]);
    assert_sent(&claim(&mut s, "x", Some(b"value")), &["anna has x"]);
    s.pass(SETTLE);
    assert_sent(&s.done("alice", "x"), &["ben finds x at alice"]);
    // then: whoever needs anna's x gets that
    let sent = s.submit("anna", [future("y").needs(&["x"])]);
    assert_sent(&sent, &["alice runs y with x inline"]);
    s.release("anna", &["x", "y"]);
    s.release("ben", &["x"]);
    assert_eq!(s.scheduler.task_count(), 0);
}

/// Anna's `y` was made from `x`, which she lets go. A value is kept for the sake of `y`; else only
/// the name is left.
fn let_x_rest(s: &mut Script, is_value: bool) {
    s.submit("anna", [future("y").needs(&["x"])]);
    s.pass(SETTLE);
    s.done_with("alice", "y", Outcome::inline());
    s.release("anna", &["x"]);
    let state = if is_value { State::Memory } else { State::Released };
    assert_eq!(s.state("x"), Some(state));
}

#[test]
fn what_another_client_has_and_let_go_is_not_lost_to_one_that_has_it_too() {
    let mut s = returning_anna();
    claim(&mut s, "x", Some(b"value"));
    s.join("alice");
    let_x_rest(&mut s, true);
    s.client("ben");
    assert_sent(&claim_the_key(&mut s, Some(b"value")), &["ben has x"]);
}

#[test]
fn a_small_value_that_nothing_can_make_again_is_kept_for_what_was_made_of_it() {
    let mut s = returning_anna();
    claim(&mut s, "x", Some(b"value"));
    s.join("alice");
    s.submit("anna", [future("y").needs(&["x"])]);
    s.pass(SETTLE);
    s.done("alice", "y");
    s.release("anna", &["x"]);
    // when: the result is lost
    s.join("bob");
    assert_sent(
        &s.worker_leaves("alice"),
        &["anna: y pending again", "bob runs y (attempt 2) with x inline"],
    );
    // then: it goes with the last result that was made of it
    s.done("bob", "y");
    s.release("anna", &["y"]);
    assert_eq!((s.state("x"), s.state("y")), (None, None));
}

#[test]
fn a_claimed_result_whose_work_is_submitted_can_be_made_again() {
    for is_there in [true, false] {
        let mut s = returning_anna();
        s.join(returning("alice"));
        offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
        claim(&mut s, "x", None);
        if !is_there {
            let_x_rest(&mut s, false);
        }
        s.client("ben");
        s.submit("ben", [future("x").calls("f")]);
        // when
        s.join("bob");
        s.worker_leaves("alice");
        // then
        s.pass(SETTLE);
        assert_eq!(s.processing("bob"), ["x"], "there: {is_there}");
    }
}

#[test]
fn what_a_client_has_itself_is_not_lost_with_the_worker_that_offers_it_too() {
    for is_asked_for_before in [false, true] {
        let mut s = returning_anna();
        s.join(returning("alice"));
        offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
        if is_asked_for_before {
            s.client("ben");
            s.desire("ben", "x");
        }
        claim(&mut s, "x", Some(b"value"));
        s.worker_leaves("alice");
        assert_eq!(s.state("x"), Some(State::Memory));
    }
}

#[test]
fn a_claimed_key_is_not_used_for_other_work_but_in_a_graph_whose_keys_name_values() {
    let mut s = returning_anna();
    claim(&mut s, "x", None);
    s.client("ben");
    let said = s.submit("ben", [future("x").calls("g")]);
    assert_sent(&said, &["ben: x is other work of an earlier session, not g(…)"]);
    s.join(returning("alice"));
    offer(&mut s, "alice", &[(1, future("x").calls("f"))]);
    assert_eq!(s.state("x"), Some(State::Memory));
    // but
    claim(&mut s, "y", None);
    assert_sent(&s.submit("ben", [future("y").calls("g").graph()]), &[]);
    s.pass(SETTLE);
    assert_eq!(s.processing("alice"), ["y"]);
}
