//! A worker that leaves in order, and what its callers know then.

use super::*;
use std::sync::mpsc::Receiver;

type Answer = Result<ActorAnswer, FetchError>;

impl Plane {
    fn call_later(&self, name: &str, segments: Vec<Bytes>) -> Receiver<Answer> {
        let (sender, receiver) = channel();
        let actor = ActorLife { task: id(1), ..ActorLife::default() };
        let request =
            ActorRequest { kind: ActorCall::METHOD, name: name.into(), deps: vec![], segments };
        let done = Box::new(move |answer| sender.send(answer).unwrap_or_default());
        self.client.call(&self.server.address(), actor, request, done);
        receiver
    }

    fn wait_for_calls(&self, count: usize) {
        while self.store.calls.lock().len() < count {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn part(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.server.part(Box::new(move || sender.send(()).unwrap_or_default()));
        receiver
    }
}

#[test]
fn who_calls_a_worker_that_leaves_knows_what_has_begun() {
    let plane = plane(Store::default());
    let begun = plane.call_later("wait", vec![]);
    let queued = plane.call_later("queue", vec![]);
    plane.wait_for_calls(2);
    let alone = plane.part();
    assert!(matches!(queued.recv().unwrap(), Err(FetchError::Unreachable(_))));
    let lost = begun.recv().unwrap();
    assert!(matches!(&lost, Err(FetchError::Lost { reason, .. }) if reason.contains("leaves")));
    alone.recv().unwrap();
    // when: the call's turn comes after all
    let mut calls = std::mem::take(&mut *plane.store.calls.lock());
    assert!(!calls[1].begin());
}

#[test]
fn a_large_answer_that_is_on_its_way_arrives_before_its_worker_is_alone() {
    let plane = plane(Store::default());
    let value = bytes(7, 60_000_000);
    let call = plane.call_later("wait", vec![]);
    plane.wait_for_calls(1);
    let reply = plane.store.calls.lock().pop().unwrap();
    reply.reply(ActorAnswer::Value(vec![value.clone()]));
    let alone = plane.part();
    assert!(call.recv().unwrap() == Ok(ActorAnswer::Value(vec![value])));
    alone.recv().unwrap();
}

#[test]
fn a_call_that_comes_after_the_last_word_has_not_begun() {
    let plane = plane(Store::default());
    assert_eq!(plane.call_later("echo", vec![]).recv().unwrap(), Ok(ActorAnswer::Value(vec![])));
    plane.part().recv().unwrap();
    let late = plane.call_later("echo", vec![]).recv().unwrap();
    assert!(matches!(late, Err(FetchError::Unreachable(_))), "{late:?}");
}

#[test]
fn a_worker_that_nobody_asks_is_alone_at_once() {
    plane(Store::default()).part().recv().unwrap();
}

#[test]
fn a_caller_that_reads_nothing_is_not_waited_for_for_ever() {
    let plane = plane(Store::default());
    let address: taskloom_net::Address = plane.server.address().parse().unwrap();
    let options = ConnectOptions { timeout: std::time::Duration::from_secs(10), retry: false };
    let silent = connect(&address, Role::Peer, &token(), options).unwrap();
    plane.part().recv().unwrap();
    drop(silent);
}
