//! The client against a link that records what is sent.

use super::*;
use crate::link::{Link, Sink};
use taskloom_proto::ErrorInfo;
use taskloom_proto::client::{KeyErred, KeyReady, KeysCancelled, PeerAddress, Reply, SubmitBatch};
use taskloom_proto::gone::WorkerGone;

#[derive(Default)]
struct Recorder {
    sent: Mutex<Vec<ClientToScheduler>>,
}

impl Link<ClientToScheduler> for Recorder {
    fn send(&self, message: ClientToScheduler) {
        self.sent.lock().push(message);
    }
    fn flush(&self) {}
    fn close(&self) {}
}

struct Bench {
    client: Arc<Client>,
    inbox: Inbox,
    recorder: Arc<Recorder>,
}

impl Bench {
    fn new() -> Self {
        let io = IoThread::start().unwrap();
        let token = Token::new("secret");
        let config = ClientConfig {
            name: "test".into(),
            strict: false,
            worker: String::new(),
            token,
            relayed: false,
        };
        let client = Client::prepare(&config, &io);
        let recorder = Arc::new(Recorder::default());
        client.join(&config, recorder.clone(), 1);
        recorder.sent.lock().clear();
        let inbox = Inbox::new(&client);
        Self { client, inbox, recorder }
    }

    fn submit(&self, key: &str) -> Held {
        let key = Key::from_text(key);
        let mut submission = self.client.submission();
        if let Some(held) = submission.find(&key) {
            return held;
        }
        let held = submission.add(key, 1);
        submission.send(SubmitBatch::default());
        submission.flush();
        held
    }

    fn deliver(&self, message: SchedulerToClient) {
        self.inbox.deliver(&mut vec![message]);
    }

    fn ready(&self, held: &Held, value: &'static [u8]) {
        self.deliver(SchedulerToClient::Ready(vec![KeyReady {
            handle: held.entry().handle,
            value: Some(taskloom_proto::SmallBytes::copy_of(value)),
            ..KeyReady::default()
        }]));
    }

    fn ready_at(&self, held: &Held, task: TaskId, worker: WorkerNo) {
        self.deliver(SchedulerToClient::Ready(vec![KeyReady {
            handle: held.entry().handle,
            task,
            worker,
            size_bytes: 9,
            value: None,
        }]));
    }

    fn sent(&self) -> Vec<ClientToScheduler> {
        std::mem::take(&mut *self.recorder.sent.lock())
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("did not happen: {what}");
}

#[test]
fn a_live_key_is_the_same_entry_and_sends_nothing() {
    let bench = Bench::new();
    let first = bench.submit("x");
    assert_eq!(bench.sent().len(), 1);
    let second = bench.submit("x");
    assert!(Arc::ptr_eq(first.entry(), second.entry()));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_key_that_nobody_holds_is_released_before_it_is_used_again() {
    let bench = Bench::new();
    let first = bench.submit("x");
    let handle = first.entry().handle;
    bench.ready(&first, b"N");
    drop(first);
    let second = bench.submit("x");
    assert_ne!(second.entry().handle, handle);
    assert!(second.entry().is_pending());
    let sent = bench.sent();
    let released = Handles { handles: vec![handle] };
    let place = sent.iter().position(|m| *m == ClientToScheduler::Release(released.clone()));
    let submit = sent.iter().rposition(|m| matches!(m, ClientToScheduler::Submit(_)));
    assert!(place < submit, "{sent:?}");
}

#[test]
fn a_dropped_future_is_released_soon_without_other_traffic() {
    let bench = Bench::new();
    drop(bench.submit("x"));
    let is_release = |m: &ClientToScheduler| matches!(m, ClientToScheduler::Release(_));
    wait_until("a release", || bench.recorder.sent.lock().iter().any(is_release));
    assert_eq!(bench.client.held_keys(), 0);
}

#[test]
fn one_wait_is_done_when_all_its_keys_are() {
    let bench = Bench::new();
    let futures: Vec<Held> = (0..10).map(|i| bench.submit(&i.to_string())).collect();
    let wait = Wait::new(futures.len(), false);
    futures.iter().for_each(|held| held.entry().wait_with(&wait));
    for held in &futures {
        assert!(!wait.is_done());
        bench.ready(held, b"N");
    }
    assert!(wait.is_done());
}

#[test]
fn the_first_failure_ends_a_gather_that_raises() {
    let bench = Bench::new();
    let (good, bad) = (bench.submit("good"), bench.submit("bad"));
    let gather = Gather::new(&bench.client, vec![good, bad.clone()], true);
    let wait = Wait::new(2, true);
    assert!(!gather.advance(|_| wait.clone()));
    let error = ErrorInfo { type_name: "ValueError".into(), ..ErrorInfo::default() };
    let handles = vec![bad.entry().handle];
    bench.deliver(SchedulerToClient::Erred(KeyErred { handles, error }));
    assert!(wait.is_done());
    assert!(gather.advance(|_| unreachable!("a failure is the end")));
    let results = gather.take_results();
    assert!(results[0].is_none());
    assert!(matches!(&results[1], Some(Gathered::Erred(error)) if error.type_name == "ValueError"));
}

/// A result that is said to be with a worker where nobody listens.
fn held_by_nobody() -> (Bench, Held, TaskId, WorkerNo) {
    let bench = Bench::new();
    let held = bench.submit("x");
    let (task, worker) = (TaskId { index: 3, generation: 1 }, WorkerNo(7));
    let address = "tcp://127.0.0.1:1".to_string();
    bench.deliver(SchedulerToClient::Peer(PeerAddress { worker, address }));
    bench.ready_at(&held, task, worker);
    (bench, held, task, worker)
}

#[test]
fn a_result_that_a_worker_does_not_give_is_asked_for_again() {
    // given: the result is said to be with a worker that is gone
    let (bench, held, task, worker) = held_by_nobody();
    bench.sent();
    // when: it is gathered
    let gather = Gather::new(&bench.client, vec![held.clone()], true);
    let first = Wait::new(1, true);
    assert!(!gather.advance(|_| first.clone()));
    assert!(first.block(None));
    // then: the scheduler is told, and the next news counts
    assert!(matches!(
        &bench.sent()[..],
        [ClientToScheduler::FetchFailed(failed)]
            if failed.task == task && failed.workers == [worker]
    ));
    assert!(held.entry().is_pending());
    let second = Wait::new(1, true);
    assert!(!gather.advance(|_| second.clone()));
    bench.ready(&held, b"T");
    assert!(second.is_done() && gather.advance(|_| unreachable!("all is there")));
    let results = gather.take_results();
    assert!(matches!(&results[0], Some(Gathered::Inline(value)) if **value == *b"T"));
}

#[test]
fn the_address_of_a_worker_that_is_gone_is_forgotten_and_its_results_are_asked_for_elsewhere() {
    for cut in ["", "tcp://127.0.0.1:1"] {
        let (bench, held, _, worker) = held_by_nobody();
        bench.deliver(SchedulerToClient::PeersGone(vec![WorkerGone { worker, cut: cut.into() }]));
        assert_eq!(bench.client.peer_address(worker), None);
        bench.sent();
        let gather = Gather::new(&bench.client, vec![held.clone()], true);
        let wait = Wait::new(1, true);
        assert!(!gather.advance(|_| wait.clone()));
        assert!(matches!(
            &bench.sent()[..],
            [ClientToScheduler::FetchFailed(failed)] if failed.workers == [worker]
        ));
        assert!(held.entry().is_pending());
        bench.ready(&held, b"T");
        assert!(wait.is_done() && gather.advance(|_| unreachable!("all is there")));
    }
}

#[test]
fn a_worker_that_can_be_reached_in_no_way_is_an_error_that_names_it() {
    // given: a scheduler that believes in a worker which nobody answers for
    let bench = Bench::new();
    let held = bench.submit("x");
    let (task, worker) = (TaskId { index: 3, generation: 1 }, WorkerNo(7));
    let address = "tcp://127.0.0.1:1".to_string();
    bench.deliver(SchedulerToClient::Peer(PeerAddress { worker, address }));
    // when: it is gathered, and the scheduler says the same each time
    let gather = Gather::new(&bench.client, vec![held.clone()], true);
    let mut reports = 0;
    bench.ready_at(&held, task, worker);
    bench.sent();
    loop {
        let wait = Wait::new(1, true);
        if gather.advance(|_| wait.clone()) {
            break;
        }
        assert!(wait.block(None));
        while bench.sent().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        reports += 1;
        assert!(reports <= 100, "it is tried for ever");
        bench.ready_at(&held, task, worker);
    }
    // then
    let results = gather.take_results();
    let Some(Gathered::Erred(error)) = &results[0] else { panic!("{results:?}") };
    assert_eq!(error.type_name, "WorkerUnreachableError");
    assert!(error.message.contains("127.0.0.1:1"), "{}", error.message);
}

#[test]
fn a_cancelled_key_may_be_used_for_new_work_while_the_old_future_lives() {
    let bench = Bench::new();
    let old = bench.submit("x");
    bench.deliver(SchedulerToClient::Cancelled(KeysCancelled {
        handles: vec![old.entry().handle],
        reason: "lost".into(),
        lost: true,
        ..KeysCancelled::default()
    }));
    assert_eq!(old.entry().status(), "lost");
    let new = bench.submit("x");
    assert!(!Arc::ptr_eq(old.entry(), new.entry()));
    drop(old);
    bench.client.flush_releases();
    assert!(Arc::ptr_eq(bench.submit("x").entry(), new.entry()));
}

#[test]
fn news_of_a_released_key_is_dropped() {
    let bench = Bench::new();
    let held = bench.submit("x");
    let copy = bench.client.hold(held.entry());
    drop((held, copy));
    bench.client.flush_releases();
    let unknown = bench.submit("y");
    bench.deliver(SchedulerToClient::Ready(vec![KeyReady {
        handle: Handle(99),
        ..KeyReady::default()
    }]));
    assert!(unknown.entry().is_pending());
}

#[test]
fn the_end_of_the_connection_ends_every_wait_with_a_reason() {
    let bench = Bench::new();
    let held = bench.submit("x");
    let wait = Wait::new(1, false);
    held.entry().wait_with(&wait);
    let answer = bench.client.ask(Question::Barrier);
    let answered = Wait::new(1, false);
    answer.wait_with(&answered);
    bench.inbox.closed("the scheduler is gone");
    assert!(wait.is_done() && answered.is_done());
    assert_eq!(held.entry().status(), "cancelled");
    assert_eq!(answer.take().unwrap().error, "the scheduler is gone");
    assert_eq!(bench.client.ask(Question::Barrier).take().unwrap().error_kind, "closed");
    assert_eq!(bench.client.close_reason().as_deref(), Some("the scheduler is gone"));
}

#[test]
fn an_answer_reaches_its_question_only() {
    let bench = Bench::new();
    let (first, second) =
        (bench.client.ask(Question::Barrier), bench.client.ask(Question::Counters));
    let sent = bench.sent();
    let ids: Vec<u64> = sent
        .iter()
        .filter_map(|message| match message {
            ClientToScheduler::Request(request) => Some(request.id),
            _ => None,
        })
        .collect();
    let value = taskloom_proto::Value::Int(5);
    let answer = Answer::ok(value.clone());
    bench.deliver(SchedulerToClient::Reply(Reply { id: ids[1], answer }));
    assert!(first.take().is_none());
    assert_eq!(second.take().unwrap().value, value);
}
