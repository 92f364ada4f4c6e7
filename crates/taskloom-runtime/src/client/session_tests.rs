//! What a client says when a new session begins, against a link that records it.

use super::*;
use crate::link::{Link, NewSession, Sink};
use crate::message::Message;
use bytes::Bytes;
use taskloom_proto::ErrorInfo;
use taskloom_proto::client::{Collect, KeyErred, KeyReady, KeysCancelled, SubmitBatch, TaskSpec};

#[derive(Default)]
struct Recorder(Mutex<Vec<ClientToScheduler>>);

impl Link<ClientToScheduler> for Recorder {
    fn send(&self, message: ClientToScheduler) {
        self.0.lock().push(message);
    }
    fn send_kept(&self, message: ClientToScheduler) -> Option<Bytes> {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        self.send(message);
        Some(frame.into())
    }
    fn flush(&self) {}
    fn close(&self) {}
}

/// Nothing is done later here: tests say when.
struct Never;

impl Timers for Never {
    fn after(&self, _: Duration, _: Box<dyn FnOnce() + Send>) {}
}

struct Bench {
    client: Arc<Client>,
    inbox: Arc<dyn Sink<SchedulerToClient>>,
    recorder: Arc<Recorder>,
    epoch: u64,
}

impl Bench {
    fn new() -> Self {
        Self::of(false)
    }

    fn of(strict: bool) -> Self {
        let config = ClientConfig {
            name: "test".into(),
            strict,
            worker: String::new(),
            token: Token::new("secret"),
            relayed: false,
        };
        let data = DataClient::new(IoThread::start().unwrap(), config.token.clone());
        let recorder = Arc::new(Recorder::default());
        let timers = Arc::new(Never);
        let (client, inbox) = Client::join_over(&config, timers, data, recorder.clone(), 1);
        Self { client, inbox, recorder, epoch: 1 }
    }

    fn submit(&self, key: &str, needs: &[&Held]) -> Held {
        let number = self.client.next_submission();
        let mut submission = self.client.submission();
        let held = submission.add(Key::from_text(key), 7);
        let task = TaskSpec {
            handle: held.entry().handle,
            flags: TaskSpec::WANTED,
            key: Key::from_text(key),
            spec_hash: 7,
            deps: needs.iter().map(|input| input.entry().handle).collect(),
            ..TaskSpec::default()
        };
        let (last, tasks) = (true, vec![task]);
        submission.send(SubmitBatch { submission: number, last, tasks, ..SubmitBatch::default() });
        submission.flush();
        held
    }

    /// The result is with a worker.
    fn ready(&self, held: &Held) {
        let ready = KeyReady { handle: held.entry().handle, size_bytes: 9, ..KeyReady::default() };
        self.inbox.deliver(&mut vec![SchedulerToClient::Ready(vec![ready])]);
    }

    fn erred(&self, held: &Held) {
        let handles = vec![held.entry().handle];
        let erred = KeyErred { handles, error: ErrorInfo::default() };
        self.inbox.deliver(&mut vec![SchedulerToClient::Erred(erred)]);
    }

    fn drop_now(&self, held: Held) {
        drop(held);
        self.client.flush_releases();
    }

    /// The key is in use for other work.
    fn collides(&self, held: &Held) {
        let (handle, key) = (held.entry().handle, held.entry().key.clone());
        let collision = Collision { handle, key, ..Collision::default() };
        self.inbox.deliver(&mut vec![SchedulerToClient::Collision(collision)]);
    }

    /// All that is said in a new session.
    fn open_session(&mut self) -> Vec<ClientToScheduler> {
        self.epoch += 1;
        let restart = || self.recorder.0.lock().clear();
        let (epoch, reason) = (self.epoch, "the scheduler was started again");
        let session = NewSession { epoch, is_same_run: false, reason, restart: &restart };
        assert!(self.inbox.on_new_session(&session));
        self.sent()
    }

    /// The hashes of what is claimed in a new session.
    fn claimed_hashes(&mut self) -> Vec<u64> {
        let of = |message| match message {
            ClientToScheduler::Claim(claims) => claims,
            _ => Vec::new(),
        };
        let claims = self.open_session().into_iter().flat_map(of);
        claims.map(|claim| claim.spec_hash).collect()
    }

    /// The keys that are submitted, those that are claimed, and what is released, in a new session.
    fn begin_session(&mut self) -> (Vec<Key>, Vec<Key>, Vec<Handle>) {
        let (mut submitted, mut claimed, mut released) = (Vec::new(), Vec::new(), Vec::new());
        for message in self.open_session() {
            match message {
                ClientToScheduler::Submit(batch) => {
                    submitted.extend(batch.tasks.into_iter().map(|task| task.key));
                }
                ClientToScheduler::Claim(claims) => {
                    claimed.extend(claims.into_iter().map(|claim| claim.key));
                }
                ClientToScheduler::Release(list) => released.extend(list.handles),
                _ => {}
            }
        }
        (submitted, claimed, released)
    }

    fn sent(&self) -> Vec<ClientToScheduler> {
        std::mem::take(&mut *self.recorder.0.lock())
    }
}

fn keys<const N: usize>(names: [&str; N]) -> Vec<Key> {
    names.map(Key::from_text).to_vec()
}

#[test]
fn an_unfinished_input_that_was_let_go_is_submitted_again_with_what_needs_it() {
    let mut bench = Bench::new();
    let (other, x) = (bench.submit("other", &[]), bench.submit("x", &[]));
    let handle = x.entry().handle;
    let _y = bench.submit("y", &[&x]);
    bench.drop_now(x);
    bench.ready(&other);
    let (submitted, claimed, released) = bench.begin_session();
    assert_eq!(submitted, keys(["x", "y"]));
    assert_eq!(claimed, keys(["other"]));
    assert_eq!(released, [handle], "it is kept by what needs it");
}

#[test]
fn an_input_that_had_ended_when_it_was_let_go_is_claimed_for_what_needs_it() {
    let mut bench = Bench::new();
    let x = bench.submit("x", &[]);
    bench.ready(&x);
    let _y = bench.submit("y", &[&x]);
    bench.drop_now(x);
    let (submitted, claimed, _) = bench.begin_session();
    assert_eq!((submitted, claimed), (keys(["y"]), keys(["x"])));
}

#[test]
fn what_is_kept_for_the_sake_of_a_task_goes_when_that_ends() {
    let mut bench = Bench::new();
    let mut last = bench.submit("0", &[]);
    for step in 1..100 {
        let next = bench.submit(&step.to_string(), &[&last]);
        bench.drop_now(std::mem::replace(&mut last, next));
    }
    assert_eq!(bench.begin_session().0.len(), 100);
    bench.ready(&last);
    let (submitted, claimed, _) = bench.begin_session();
    assert_eq!((submitted, claimed), (vec![], keys(["99"])));
}

#[test]
fn what_was_being_cancelled_when_a_session_ended_is_cancelled_and_not_submitted_again() {
    let mut bench = Bench::new();
    let (x, y) = (bench.submit("x", &[]), bench.submit("y", &[]));
    let wait = Wait::new(1, false);
    x.entry().wait_with(&wait);
    bench.client.cancel(std::slice::from_ref(&x), false, "unknown", "");
    let (submitted, claimed, _) = bench.begin_session();
    assert_eq!((submitted, claimed), (keys(["y"]), vec![]));
    assert_eq!((x.entry().status(), y.entry().status()), ("cancelled", "pending"));
    assert!(wait.is_done());
    assert!(!Arc::ptr_eq(bench.submit("x", &[]).entry(), x.entry()), "its key is free");
}

#[test]
fn a_future_that_is_here_is_not_asked_for_again_by_its_pickled_copy() {
    let bench = Bench::new();
    let x = bench.submit("x", &[]);
    bench.sent();
    let copy = bench.client.submission().collect(&Key::from_text("x"), 1);
    assert!(Arc::ptr_eq(copy.entry(), x.entry()));
    // then: its task may have been cancelled, and be somebody else's meanwhile
    let sent = bench.sent();
    let [ClientToScheduler::Collect(collect)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((collect.ticket, collect.handle), (1, Collect::NO_HANDLE));
}

#[test]
fn a_value_of_other_work_is_claimed_for_its_key_only() {
    let mut bench = Bench::new();
    let (x, y) = (bench.submit("x", &[]), bench.submit("y", &[]));
    bench.collides(&x);
    bench.ready(&x);
    bench.collides(&y);
    // when: what is not done is submitted again, and may be the first this time
    assert_eq!(bench.claimed_hashes(), [0]);
    bench.ready(&y);
    assert_eq!(bench.claimed_hashes(), [0, 7]);
}

#[test]
fn a_future_that_was_refused_stays_refused() {
    let bench = Bench::of(true);
    let x = bench.submit("x", &[]);
    bench.client.retry(std::slice::from_ref(&x));
    bench.collides(&x);
    let (handles, lost) = (vec![x.entry().handle], true);
    let cancelled = KeysCancelled { handles, lost, ..KeysCancelled::default() };
    bench.inbox.deliver(&mut vec![SchedulerToClient::Cancelled(cancelled)]);
    assert!(matches!(x.entry().outcome(), Outcome::Refused(_)));
}

#[test]
fn a_failed_future_that_is_being_cancelled_does_not_wait_for_another_try() {
    let bench = Bench::new();
    let x = bench.submit("x", &[]);
    bench.erred(&x);
    bench.client.cancel(std::slice::from_ref(&x), false, "unknown", "");
    bench.client.retry(std::slice::from_ref(&x));
    assert_eq!(x.entry().status(), "error");
}
