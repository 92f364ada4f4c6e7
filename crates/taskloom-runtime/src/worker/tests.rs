//! Two workers of a made-up language (its objects are numbers, encoded as text) without a
//! scheduler: the test says what a scheduler would.

use super::*;
use smallvec::smallvec;
use std::sync::mpsc;
use taskloom_proto::client::{PeerAddress, TaskSpec};
use taskloom_proto::worker::{ComputeTask, DepRef, Registered, TaskAttempt};
use taskloom_types::Attempt;

#[derive(Debug, Clone, PartialEq)]
struct Number(Arc<u64>);

impl LocalObject for Number {}

#[derive(Default)]
struct Recorder {
    sent: Mutex<Vec<WorkerToScheduler>>,
    arrived: Condvar,
}

impl Link<WorkerToScheduler> for Recorder {
    fn send(&self, message: WorkerToScheduler) {
        self.sent.lock().push(message);
    }

    fn flush(&self) {
        self.arrived.notify_all();
    }

    fn close(&self) {}
}

impl Recorder {
    /// Waits for a message that `pick` knows, and gives what it made of it.
    fn wait<T>(&self, pick: impl Fn(&WorkerToScheduler) -> Option<T>) -> T {
        let mut sent = self.sent.lock();
        loop {
            if let Some(found) = sent.iter().find_map(&pick) {
                return found;
            }
            let late = self.arrived.wait_for(&mut sent, Duration::from_secs(30)).timed_out();
            assert!(!late, "nothing of the kind in {sent:?}");
        }
    }

    fn count(&self, pick: impl Fn(&WorkerToScheduler) -> bool) -> usize {
        self.sent.lock().iter().filter(|message| pick(message)).count()
    }
}

struct TestWorker {
    shell: Arc<WorkerShell<Number>>,
    link: Arc<Recorder>,
}

fn task(index: u32) -> TaskId {
    TaskId { index, generation: 0 }
}

fn compute(index: u32, attempt: Attempt) -> ComputeTask {
    ComputeTask { task: task(index), attempt, expected_us: 10, ..ComputeTask::default() }
}

impl TestWorker {
    fn start(nthreads: usize, number: u32) -> Self {
        let config = WorkerConfig {
            name: number.to_string(),
            nthreads,
            memory_limit: 0,
            memory: MemoryOptions::default(),
            resources: Resources::default(),
            local_directory: String::new(),
            listen: "tcp://127.0.0.1:0".into(),
            allow_insecure_network: false,
            host: "here".into(),
            supervised: false,
            version: "test".into(),
        };
        let shell = WorkerShell::new(config, IoThread::global().unwrap(), Token::new("secret"));
        let link = Arc::new(Recorder::default());
        assert!(shell.link.set(link.clone()).is_ok());
        shell.serve_data(1).unwrap();
        let worker = Self { shell, link };
        let welcome = Registered { worker: WorkerNo(number), heartbeat_ms: 60_000 };
        worker.deliver([SchedulerToWorker::Registered(welcome)]);
        worker
    }

    fn deliver<const N: usize>(&self, messages: [SchedulerToWorker; N]) {
        self.shell.deliver(&mut Vec::from(messages));
    }

    fn knows(&self, other: &Self, number: u32) {
        let address = other.shell.address().to_string();
        let peer = PeerAddress { worker: WorkerNo(number), address };
        self.deliver([SchedulerToWorker::Peer(peer)]);
    }

    /// Starts an executor thread that runs each task by `body`; the result is its sum.
    fn executor(&self, body: impl Fn(&WorkerShell<Number>, &mut Seat) + Send + Sync + 'static) {
        self.shell.add_executor();
        spawn_executor(self.shell.clone(), Arc::new(body));
    }

    fn wait_done(&self, index: u32) -> Option<Bytes> {
        self.link.wait(|message| match message {
            WorkerToScheduler::Done(done) => done
                .iter()
                .find(|d| d.task == task(index))
                .map(|d| d.value.as_ref().map(taskloom_proto::SmallBytes::to_bytes)),
            _ => None,
        })
    }
}

type Body = dyn Fn(&WorkerShell<Number>, &mut Seat) + Send + Sync;

fn spawn_executor(shell: Arc<WorkerShell<Number>>, body: Arc<Body>) {
    std::thread::spawn(move || {
        let mut seat = Seat::default();
        let mut outcome = None;
        loop {
            match shell.next(&mut seat, outcome.take(), &mut Vec::new()) {
                Next::Run(execution) => {
                    body(&shell, &mut seat);
                    let inputs: u64 = execution.inputs.iter().map(number_of).sum();
                    let sum = inputs + u64::from(execution.run.task.index);
                    let object = Number(Arc::new(sum));
                    let value = Value::Object { object, encoded: None };
                    outcome = Some(Outcome::Value { value, size_bytes: 8 });
                }
                Next::Wait => shell.wait_for_work(),
                Next::End => break,
            }
        }
    });
}

fn number_of(value: &Value<Number>) -> u64 {
    match value {
        Value::Object { object, .. } => *object.0,
        Value::Scalar(bytes) => std::str::from_utf8(bytes).unwrap().parse().unwrap(),
        Value::Received(received) => loop {
            match received.begin_use() {
                Use::Object(object) => return *object.0,
                Use::Decode(segments) => {
                    let text = std::str::from_utf8(&segments[0]).unwrap();
                    received.complete(Ok(Number(Arc::new(text.parse().unwrap()))));
                }
                Use::Wait => received.wait(),
                Use::Failed(error) => panic!("{error:?}"),
            }
        },
        Value::Spilled(_) => panic!("a task got an input that is on disk"),
    }
}

/// Encodes values for peers, as a thread that knows the language would.
fn spawn_serializer(shell: Arc<WorkerShell<Number>>) {
    std::thread::spawn(move || {
        while let Some(Serve { items, reply }) = shell.to_serialize().wait() {
            let encode = |(task, servable)| {
                let Some(Servable::Object(object)) = servable else { panic!("{servable:?}") };
                let number: &Number = &object;
                let text = Bytes::from(number.0.to_string());
                let value = crate::data::StoredValue::Here(vec![text]);
                crate::data::StoredItem { task, value }
            };
            reply.reply(items.into_iter().map(encode).collect());
        }
    });
}

#[test]
fn a_task_runs_and_its_dependent_finds_the_result_here() {
    let worker = TestWorker::start(1, 1);
    worker.executor(|_, _| ());
    let dep = DepRef { task: task(1), ..DepRef::default() };
    let second = ComputeTask { deps: smallvec![dep], ..compute(2, 1) };
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1), second])]);
    worker.wait_done(2);
    assert_eq!(number_of(&worker.shell.value(task(2)).unwrap()), 3);
    worker.deliver([SchedulerToWorker::Free(vec![task(1), task(2)])]);
    assert!(worker.shell.value(task(2)).is_none());
    assert_eq!(worker.shell.take_garbage().len(), 2);
}

#[test]
fn an_input_is_fetched_from_the_worker_that_holds_it() {
    let alice = TestWorker::start(1, 1);
    let bob = TestWorker::start(1, 2);
    bob.knows(&alice, 1);
    spawn_serializer(alice.shell.clone());
    alice.executor(|_, _| ());
    bob.executor(|_, _| ());
    alice.deliver([SchedulerToWorker::Compute(vec![compute(7, 1)])]);
    alice.wait_done(7);
    let dep = DepRef { task: task(7), holders: smallvec![WorkerNo(1)], ..DepRef::default() };
    let dependent = ComputeTask { deps: smallvec![dep], ..compute(10, 1) };
    bob.deliver([SchedulerToWorker::Compute(vec![dependent])]);
    bob.wait_done(10);
    assert_eq!(number_of(&bob.shell.value(task(10)).unwrap()), 17);
    bob.link.wait(|m| matches!(m, WorkerToScheduler::Fetched(t) if t == &[task(7)]).then_some(()));
}

#[test]
fn a_dead_peer_is_reported_as_holder_of_nothing() {
    let alice = TestWorker::start(1, 1);
    let bob = TestWorker::start(1, 2);
    bob.knows(&alice, 1);
    alice.shell.close("gone");
    let dep = DepRef { task: task(7), holders: smallvec![WorkerNo(1)], ..DepRef::default() };
    let dependent = ComputeTask { deps: smallvec![dep], ..compute(10, 1) };
    bob.deliver([SchedulerToWorker::Compute(vec![dependent])]);
    let asked = bob.link.wait(|message| match message {
        WorkerToScheduler::DepMissing(missing) => Some(missing.asked.to_vec()),
        _ => None,
    });
    assert_eq!(asked, [WorkerNo(1)]);
}

#[test]
fn a_seceded_task_makes_room_and_waits_for_a_slot_to_come_back() {
    let worker = TestWorker::start(1, 1);
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let body: Arc<Body> = Arc::new(move |shell, seat| {
        // Task 1 waits for task 2, which runs in the same slot.
        if seat.current() == Some((task(1), 1)) {
            assert_eq!(shell.secede(seat), Seceded::StartThread);
            spawn_executor(shell.me.upgrade().unwrap(), Arc::new(|_, _| ()));
            may_go.lock().recv().unwrap();
            shell.rejoin(seat);
        }
    });
    worker.shell.add_executor();
    spawn_executor(worker.shell.clone(), body);
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1), compute(2, 1)])]);
    worker.wait_done(2);
    assert_eq!(worker.shell.executor_threads(), 2);
    go.send(()).unwrap();
    worker.wait_done(1);
    let told = |kind: u8| worker.link.count(|message| message.kind() == kind);
    let (seceded, rejoined) = (5, 6);
    assert_eq!((told(seceded), told(rejoined)), (1, 1));
}

#[test]
fn a_freed_run_that_goes_on_holds_no_other_up() {
    let worker = TestWorker::start(1, 1);
    let (go, may_go) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    worker.executor(move |_, seat| {
        if seat.current() == Some((task(1), 1)) {
            started.send(()).unwrap();
            let _ = may_go.lock().recv();
        }
    });
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1)])]);
    has_started.recv().unwrap();
    worker.deliver([
        SchedulerToWorker::Free(vec![task(1)]),
        SchedulerToWorker::Compute(vec![compute(2, 1)]),
    ]);
    assert!(matches!(worker.shell.jobs().wait(), Some(Job::StartExecutor)));
    spawn_executor(worker.shell.clone(), Arc::new(|_, _| ()));
    worker.wait_done(2);
    assert_eq!(worker.shell.executor_threads(), 2);
    drop(go);
}

#[test]
fn a_result_does_not_wait_behind_a_task_that_takes_longer_than_expected() {
    let worker = TestWorker::start(1, 1);
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    worker.executor(move |_, seat| {
        if seat.current() == Some((task(2), 1)) {
            let _ = may_go.lock().recv();
        }
    });
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1), compute(2, 1)])]);
    worker.wait_done(1);
    drop(go);
    worker.wait_done(2);
}

#[test]
fn an_error_is_reported_at_once_and_not_with_the_next_heartbeat() {
    let worker = TestWorker::start(1, 1);
    worker.shell.add_executor();
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1)])]);
    let mut seat = Seat::default();
    let run = worker.shell.next(&mut seat, None, &mut Vec::new());
    assert!(matches!(run, Next::Run(_)));
    let error = Outcome::Error(taskloom_proto::ErrorInfo::default());
    let next = worker.shell.next(&mut seat, Some(error), &mut Vec::new());
    assert!(matches!(next, Next::Wait));
    assert_eq!(worker.link.count(|message| matches!(message, WorkerToScheduler::Erred(_))), 1);
}

#[test]
fn a_coroutine_run_is_offered_to_the_service_thread_and_needs_no_slot() {
    let worker = TestWorker::start(1, 1);
    let coroutine = ComputeTask { flags: TaskSpec::COROUTINE, ..compute(1, 1) };
    worker.deliver([SchedulerToWorker::Compute(vec![coroutine])]);
    assert!(matches!(worker.shell.jobs().wait(), Some(Job::StartCoroutines)));
    let execution = worker.shell.next_coroutine().unwrap();
    let value = Value::Scalar(taskloom_proto::SmallBytes::copy_of(b"5"));
    let outcome = Outcome::Value { value, size_bytes: 1 };
    let run = (execution.run.task, execution.run.attempt);
    worker.shell.finish_detached(run, execution.started, outcome);
    assert_eq!(worker.wait_done(1), Some(Bytes::from_static(b"5")));
}

#[test]
fn draining_lets_what_runs_end_and_starts_nothing_more() {
    let worker = TestWorker::start(1, 1);
    let (go, may_go) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    worker.executor(move |_, _| {
        started.send(()).unwrap();
        let _ = may_go.lock().recv();
    });
    worker.deliver([SchedulerToWorker::Compute(vec![compute(1, 1), compute(2, 1)])]);
    has_started.recv().unwrap();
    assert!(!worker.shell.drain(Duration::from_millis(1)));
    drop(go);
    assert!(worker.shell.drain(Duration::from_secs(30)));
    worker.wait_done(1);
    assert!(worker.shell.value(task(2)).is_none());
}

#[test]
fn retract_and_close_are_answered() {
    let worker = TestWorker::start(1, 1);
    let (told, reason) = mpsc::channel();
    worker.shell.set_on_closed(move |reason| told.send(reason.to_string()).unwrap());
    let attempt = TaskAttempt { task: task(1), attempt: 1 };
    worker.deliver([
        SchedulerToWorker::Compute(vec![compute(1, 1)]),
        SchedulerToWorker::Retract(attempt),
    ]);
    let given_back = worker.link.wait(|message| match message {
        WorkerToScheduler::Retracted(answer) => Some(answer.given_back),
        _ => None,
    });
    assert!(given_back);
    let reason_sent = Closing { reason: "enough".into() };
    worker.deliver([SchedulerToWorker::Close(reason_sent)]);
    assert_eq!(reason.recv().unwrap(), "enough");
    let end = End { reason: "enough".into(), in_order: true };
    assert_eq!(worker.shell.wait_closed(None), Some(end));
    assert!(worker.shell.jobs().wait().is_none());
}
