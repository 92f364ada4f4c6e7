//! Locks, semaphores and events: fair, in time, and free again when their holders are gone.

use super::*;
use taskloom_proto::Value;
use taskloom_proto::client::Question;
use taskloom_proto::coordination::{
    Acquire, AcquireMany, Coordination, RegisterSemaphore, SetEvent, Settle, WaitFor,
};
use taskloom_types::Key;

pub const FOREVER: Option<u64> = None;
pub const AT_ONCE: Option<u64> = Some(0);
pub const A_SECOND: Option<u64> = Some(Nanos::SECOND);

pub fn key(name: &str) -> Key {
    Key::from_text(name)
}

/// Asks for something of a shared object; the request's number.
pub fn ask(s: &mut Script, client: &str, what: Coordination) -> u64 {
    s.request(client, Question::Coordinate(what));
    s.last_request()
}

/// The answer to a request, if it came: its value, or the kind of its error.
pub fn told(s: &mut Script, request: u64) -> Option<Result<Value, String>> {
    let answer = s.answer_to(request)?;
    Some(if answer.error_kind.is_empty() { Ok(answer.value) } else { Err(answer.error_kind) })
}

#[track_caller]
pub fn assert_told(s: &mut Script, request: u64, value: impl Into<Value>) {
    assert_eq!(told(s, request), Some(Ok(value.into())));
}

#[track_caller]
pub fn assert_waits(s: &mut Script, request: u64) {
    assert_eq!(told(s, request), None);
}

#[track_caller]
pub fn assert_fails(s: &mut Script, request: u64, kind: &str) {
    assert_eq!(told(s, request), Some(Err(kind.into())));
}

/// The client lets go of what the request waits for or was given.
pub fn let_go(s: &mut Script, client: &str, request: u64) {
    s.say(client, ClientToScheduler::Settle(Settle { request, is_taken: false }));
}

fn lock(s: &mut Script, client: &str, timeout_ns: Option<u64>) -> u64 {
    let acquire = Acquire { timeout_ns, ..semaphore_of("l", 1) };
    ask(s, client, Coordination::Acquire(Acquire { is_lasting: false, ..acquire }))
}

fn semaphore_of(name: &str, max_leases: u32) -> Acquire {
    Acquire { name: key(name), max_leases, registers: true, is_lasting: true, timeout_ns: FOREVER }
}

fn acquire(s: &mut Script, client: &str, acquire: Acquire) -> u64 {
    ask(s, client, Coordination::Acquire(acquire))
}

fn release(s: &mut Script, client: &str, lease: u64) -> bool {
    let request = ask(s, client, Coordination::Release(lease));
    told(s, request) == Some(Ok(Value::Bool(true)))
}

fn many(s: &mut Script, client: &str, names: &[&str], count: u32) -> u64 {
    let names = names.iter().map(|name| key(name)).collect();
    ask(s, client, Coordination::AcquireMany(AcquireMany { names, count, timeout_ns: FOREVER }))
}

fn wait_for_event(s: &mut Script, client: &str, timeout_ns: Option<u64>) -> u64 {
    ask(s, client, Coordination::WaitForEvent(WaitFor { name: key("e"), timeout_ns }))
}

fn set_event(s: &mut Script, is_set: bool) {
    ask(s, "anna", Coordination::SetEvent(SetEvent { name: key("e"), is_set }));
}

/// Nothing of any lock, semaphore, event or queue is kept.
#[track_caller]
pub fn assert_nothing_is_kept(s: &Script) {
    assert_eq!(s.scheduler.coordinator.kept(), (0, 0));
}

fn anna_and_bert() -> Script {
    let mut s = Script::anna_and([]);
    s.client("bert");
    s
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_the_order_in_which_they_came() {
    let mut s = anna_and_bert();
    s.client("cleo");
    let first = lock(&mut s, "anna", FOREVER);
    let (second, third) = (lock(&mut s, "bert", FOREVER), lock(&mut s, "cleo", FOREVER));
    assert_told(&mut s, first, true);
    assert_waits(&mut s, second);
    assert!(release(&mut s, "anna", first));
    assert_told(&mut s, second, true);
    assert_waits(&mut s, third);
    assert!(release(&mut s, "bert", second));
    assert_told(&mut s, third, true);
    assert!(release(&mut s, "cleo", third));
    assert_nothing_is_kept(&s);
}

#[test]
fn a_lease_is_released_once_and_only_by_its_holder() {
    let mut s = anna_and_bert();
    let lease = lock(&mut s, "anna", FOREVER);
    assert!(!release(&mut s, "bert", lease));
    assert!(release(&mut s, "anna", lease));
    assert!(!release(&mut s, "anna", lease));
}

#[test]
fn who_does_not_want_to_wait_is_answered_at_once() {
    let mut s = anna_and_bert();
    lock(&mut s, "anna", AT_ONCE);
    let second = lock(&mut s, "bert", AT_ONCE);
    assert_told(&mut s, second, false);
}

#[test]
fn a_wait_ends_in_time_and_the_lock_does_not_go_to_the_one_who_gave_up() {
    let mut s = anna_and_bert();
    let first = lock(&mut s, "anna", FOREVER);
    let (second, third) = (lock(&mut s, "bert", A_SECOND), lock(&mut s, "bert", FOREVER));
    s.pass(Nanos::SECOND / 2);
    assert_waits(&mut s, second);
    s.pass(Nanos::SECOND);
    assert_told(&mut s, second, false);
    release(&mut s, "anna", first);
    assert_told(&mut s, third, true);
}

#[test]
fn the_lock_of_a_client_that_is_gone_is_free() {
    let mut s = anna_and_bert();
    lock(&mut s, "anna", FOREVER);
    // The other request of the dying one must not get it.
    lock(&mut s, "anna", FOREVER);
    let next = lock(&mut s, "bert", FOREVER);
    s.client_leaves("anna");
    assert_told(&mut s, next, true);
    s.client_leaves("bert");
    assert_nothing_is_kept(&s);
}

#[test]
fn a_request_that_is_given_up_leaves_no_lock_behind_granted_or_not() {
    let mut s = anna_and_bert();
    let first = lock(&mut s, "anna", FOREVER);
    let (second, third) = (lock(&mut s, "bert", A_SECOND), lock(&mut s, "bert", FOREVER));
    let_go(&mut s, "bert", second);
    // The grant is on its way when anna gives up.
    let_go(&mut s, "anna", first);
    assert_told(&mut s, third, true);
    assert_waits(&mut s, second);
    let_go(&mut s, "bert", third);
    let_go(&mut s, "bert", third);
    assert_nothing_is_kept(&s);
}

#[test]
fn a_semaphore_gives_out_as_many_leases_as_it_has() {
    let mut s = anna_and_bert();
    let leases: Vec<u64> = (0..3).map(|_| acquire(&mut s, "anna", semaphore_of("s", 2))).collect();
    assert_told(&mut s, leases[0], true);
    assert_told(&mut s, leases[1], true);
    assert_waits(&mut s, leases[2]);
    let count = ask(&mut s, "bert", Coordination::CountLeases(key("s")));
    assert_told(&mut s, count, 2);
    release(&mut s, "anna", leases[1]);
    assert_told(&mut s, leases[2], true);
}

#[test]
fn a_semaphore_is_not_used_with_two_sizes() {
    let mut s = anna_and_bert();
    let lease = acquire(&mut s, "anna", semaphore_of("s", 2));
    release(&mut s, "anna", lease);
    let other = acquire(&mut s, "bert", semaphore_of("s", 3));
    assert_fails(&mut s, other, "value");
    let none = RegisterSemaphore { name: key("t"), max_leases: 0 };
    let none = ask(&mut s, "bert", Coordination::RegisterSemaphore(none));
    assert_fails(&mut s, none, "value");
    // It is kept for anna, who used it, and for nobody else.
    s.client_leaves("anna");
    assert_nothing_is_kept(&s);
}

#[test]
fn closing_a_semaphore_ends_all_that_waits_and_all_that_is_held() {
    let mut s = anna_and_bert();
    let held = acquire(&mut s, "anna", semaphore_of("s", 1));
    let waiting = acquire(&mut s, "bert", semaphore_of("s", 1));
    let close = ask(&mut s, "bert", Coordination::CloseSemaphore(key("s")));
    assert_told(&mut s, close, vec![Value::from(1), Value::from(1)]);
    assert_fails(&mut s, waiting, "gone");
    assert!(!release(&mut s, "anna", held));
    let known = Acquire { registers: false, ..semaphore_of("s", 1) };
    let again = acquire(&mut s, "anna", known);
    assert_fails(&mut s, again, "gone");
}

#[test]
fn several_locks_are_got_all_at_once_or_not_at_all() {
    let mut s = anna_and_bert();
    let left = many(&mut s, "anna", &["a", "b"], 2);
    let right = many(&mut s, "bert", &["b", "c"], 2);
    assert_told(&mut s, left, true);
    assert_waits(&mut s, right);
    // c is free, but bert came before.
    let later = many(&mut s, "anna", &["c"], 1);
    assert_waits(&mut s, later);
    release(&mut s, "anna", left);
    assert_told(&mut s, right, true);
    s.client_leaves("bert");
    assert_told(&mut s, later, true);
    release(&mut s, "anna", later);
    assert_nothing_is_kept(&s);
}

#[test]
fn those_who_wait_for_crossing_locks_all_get_them_in_the_end() {
    let mut s = anna_and_bert();
    let rings: Vec<u64> = [["a", "b"], ["b", "c"], ["c", "a"], ["b", "a"]]
        .iter()
        .map(|names| many(&mut s, "anna", names, 2))
        .collect();
    for request in rings {
        assert_told(&mut s, request, true);
        release(&mut s, "anna", request);
    }
    assert_nothing_is_kept(&s);
}

#[test]
fn some_of_several_locks_are_enough_if_the_request_says_so() {
    let mut s = anna_and_bert();
    let one = many(&mut s, "anna", &["a"], 1);
    let any = many(&mut s, "bert", &["a", "b", "c"], 2);
    assert_told(&mut s, any, true);
    let two = many(&mut s, "bert", &["a", "c"], 2);
    assert_waits(&mut s, two);
    let_go(&mut s, "bert", any);
    assert_waits(&mut s, two);
    release(&mut s, "anna", one);
    assert_told(&mut s, two, true);
    let too_many = many(&mut s, "anna", &["a", "a"], 2);
    assert_fails(&mut s, too_many, "value");
}

#[test]
fn who_gives_up_several_locks_is_in_nobodys_way() {
    let mut s = anna_and_bert();
    let held = many(&mut s, "anna", &["a"], 1);
    let both = many(&mut s, "anna", &["a", "b"], 2);
    let free = many(&mut s, "bert", &["b"], 1);
    assert_waits(&mut s, free);
    let_go(&mut s, "anna", both);
    assert_told(&mut s, free, true);
    assert_told(&mut s, held, true);
}

#[test]
fn an_event_lets_all_go_on_until_it_is_cleared() {
    let mut s = anna_and_bert();
    let waiting =
        [wait_for_event(&mut s, "anna", FOREVER), wait_for_event(&mut s, "bert", A_SECOND)];
    set_event(&mut s, true);
    waiting.into_iter().for_each(|request| assert_told(&mut s, request, true));
    let later = wait_for_event(&mut s, "bert", AT_ONCE);
    assert_told(&mut s, later, true);
    set_event(&mut s, false);
    let late = wait_for_event(&mut s, "bert", A_SECOND);
    let is_set = ask(&mut s, "bert", Coordination::IsEventSet(key("e")));
    assert_told(&mut s, is_set, false);
    s.pass(2 * Nanos::SECOND);
    assert_told(&mut s, late, false);
    assert_nothing_is_kept(&s);
}

#[test]
fn a_request_number_that_is_in_use_is_dropped_and_counted() {
    let mut s = anna_and_bert();
    let lease = lock(&mut s, "anna", FOREVER);
    let again = Coordination::CountLeases(key("l"));
    let request =
        taskloom_proto::client::Request { id: lease, question: Question::Coordinate(again) };
    s.say("anna", ClientToScheduler::Request(request));
    assert_eq!(s.counters().stale_messages, 1);
    assert!(release(&mut s, "anna", lease));
}

#[test]
fn the_locks_of_a_worker_that_is_lost_are_free() {
    let mut s = Script::anna_and(["alice"]);
    s.client_of_worker("task", "alice");
    lock(&mut s, "task", FOREVER);
    let next = lock(&mut s, "anna", FOREVER);
    assert_waits(&mut s, next);
    s.worker_leaves("alice");
    assert_told(&mut s, next, true);
}
