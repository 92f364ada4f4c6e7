//! Many hollow workers on one event loop.

use crate::HollowError;
use crate::worker::Worker;
use hashbrown::HashSet;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use taskloom_net::event_loop::Next;
use taskloom_net::framed::Bounds;
use taskloom_net::{
    Address, Channel, ConnectOptions, Control, EventLoop, Framed, OutQueue, Owner, Protocol,
    Remote, connect,
};
use taskloom_proto::frame::Frame;
use taskloom_proto::handshake::{Role, Token};
use taskloom_proto::session::{Resume, Welcome};
use taskloom_proto::worker::{SchedulerToWorker, TaskAttempt};
use taskloom_runtime::message::Message;
use taskloom_types::{Attempt, TaskId};

/// Connections that are opened at the same time.
const PARALLEL: usize = 64;
/// Heartbeats are sent in so many portions per period.
const PORTIONS: u32 = 200;

/// What is known of a fleet.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Workers that the scheduler accepted.
    pub registered: usize,
    /// Connections that ended without having been killed by the fleet, and the first reason.
    pub lost: usize,
    pub first_loss: Option<String>,
    /// Tasks of killed workers that no other worker has got yet.
    pub orphans: usize,
    /// When the last of them went to another worker.
    pub adopted: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    census: Mutex<Census>,
    changed: Condvar,
}

/// Hollow workers; dropping it ends them.
pub struct Fleet {
    remote: Arc<Remote<Hollow>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    size: usize,
}

impl Fleet {
    /// A fleet without workers, whose workers send heartbeats every `heartbeat`.
    pub fn start(heartbeat: Duration) -> Result<Self, HollowError> {
        let failed = || HollowError::io("cannot start the fleet");
        let event_loop = EventLoop::new().map_err(failed())?;
        let remote = event_loop.remote().clone();
        let shared = Arc::new(Shared::default());
        let mut hollow = Hollow::new(shared.clone());
        let run = move || {
            if let Err(error) = event_loop.run(&mut hollow) {
                taskloom_net::log::report(&format!("the fleet failed: {error}"));
            }
        };
        let builder = std::thread::Builder::new().name("hollow-fleet".into());
        let thread = builder.spawn(run).map_err(failed())?;
        let portion = heartbeat / PORTIONS;
        remote.add_timer(portion, Some(portion), |hollow: &mut Hollow, _| hollow.beat());
        Ok(Self { remote, shared, thread: Some(thread), size: 0 })
    }

    /// Opens `count` sessions, many at a time, and registers them. Blocks until all handshakes
    /// are done.
    pub fn join(
        &mut self,
        address: &Address,
        token: &Token,
        count: usize,
        threads: usize,
    ) -> Result<(), HollowError> {
        let first = self.size;
        self.size += count;
        let next = AtomicUsize::new(first);
        let open_some = || -> Result<(), HollowError> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + count {
                    return Ok(());
                }
                self.open(address, token, number, threads)?;
            }
        };
        std::thread::scope(|scope| {
            let openers: Vec<_> =
                (0..PARALLEL.min(count)).map(|_| scope.spawn(open_some)).collect();
            openers.into_iter().try_for_each(|opener| match opener.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn open(
        &self,
        address: &Address,
        token: &Token,
        number: usize,
        threads: usize,
    ) -> Result<(), HollowError> {
        let options = ConnectOptions { timeout: Duration::from_secs(60), retry: true };
        let connected = connect(address, Role::Worker, token, options)?;
        let session = Box::new(Session { number });
        let framed = Framed::connected(connected, &self.remote, Bounds::CONTROL, session);
        let channel = framed.sender().clone();
        channel.start_session(OutQueue::keeping(), 0);
        framed.start(&self.remote);
        let mut worker = Some(Worker::new(channel, threads));
        self.remote.add_timer(Duration::ZERO, None, move |hollow: &mut Hollow, _| {
            if let Some(worker) = worker.take() {
                hollow.admit(number, worker);
            }
        });
        Ok(())
    }

    #[must_use]
    pub fn census(&self) -> Census {
        self.shared.census.lock().clone()
    }

    /// Blocks until the census is as wanted.
    pub fn wait(
        &self,
        what: &str,
        seconds: u64,
        is_so: impl Fn(&Census) -> bool,
    ) -> Result<Census, HollowError> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut census = self.shared.census.lock();
        while !is_so(&census) {
            if self.shared.changed.wait_until(&mut census, deadline).timed_out() {
                let (what, seen) = (what.to_string(), format!("{census:?}"));
                return Err(HollowError::Overdue { what, seconds, seen });
            }
        }
        Ok(census.clone())
    }

    /// Ends the sessions of the first `count` workers without a word, all at once.
    pub fn kill(&self, count: usize) {
        self.remote.add_timer(Duration::ZERO, None, move |hollow: &mut Hollow, _| {
            hollow.kill(count);
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The fleet's loop owns this.
struct Hollow {
    shared: Arc<Shared>,
    /// By number; `None` before a worker's connection is open and after its end.
    workers: Vec<Option<Worker>>,
    /// Ends of runs: time, worker, task and attempt.
    ends: BinaryHeap<Reverse<(Instant, usize, TaskId, Attempt)>>,
    /// The next worker that sends a heartbeat, and the share of one that is due.
    next_beat: usize,
    beats_due: usize,
    orphans: HashSet<TaskId>,
    /// Whether the census changed since it was last told.
    is_news: bool,
    census: Census,
}

impl Hollow {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            workers: Vec::new(),
            ends: BinaryHeap::new(),
            next_beat: 0,
            beats_due: 0,
            orphans: HashSet::new(),
            is_news: false,
            census: Census::default(),
        }
    }

    fn admit(&mut self, number: usize, worker: Worker) {
        if self.workers.len() <= number {
            self.workers.resize_with(number + 1, || None);
        }
        worker.register(number);
        self.workers[number] = Some(worker);
    }

    fn hear(&mut self, number: usize, message: SchedulerToWorker) {
        match &message {
            SchedulerToWorker::Registered(_) => {
                self.census.registered += 1;
                self.is_news = true;
            }
            SchedulerToWorker::Compute(tasks) if !self.orphans.is_empty() => {
                tasks.iter().for_each(|task| self.adopt(task.task));
            }
            _ => {}
        }
        let Some(worker) = self.workers.get_mut(number).and_then(Option::as_mut) else { return };
        let started = worker.hear(message);
        self.note(number, started);
    }

    fn note(&mut self, number: usize, started: Vec<(Instant, TaskAttempt)>) {
        let ends =
            started.into_iter().map(|(at, run)| Reverse((at, number, run.task, run.attempt)));
        self.ends.extend(ends);
    }

    fn adopt(&mut self, task: TaskId) {
        if self.orphans.remove(&task) {
            self.census.orphans = self.orphans.len();
            self.census.adopted = Some(Instant::now());
            self.is_news = true;
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number).and_then(Option::as_mut) else { return };
        worker.flush();
    }

    /// A portion of the workers sends heartbeats; in a period each does once.
    fn beat(&mut self) {
        self.beats_due += self.workers.len();
        let count = self.beats_due / PORTIONS as usize;
        self.beats_due %= PORTIONS as usize;
        for _ in 0..count {
            self.next_beat = (self.next_beat + 1) % self.workers.len();
            if let Some(worker) = &self.workers[self.next_beat] {
                worker.send_heartbeat();
            }
        }
    }

    fn kill(&mut self, count: usize) {
        for worker in self.workers.iter_mut().take(count) {
            if let Some(mut worker) = worker.take() {
                self.orphans.extend(worker.kill());
            }
        }
        self.census.orphans = self.orphans.len();
        self.is_news = true;
    }

    fn lose(&mut self, number: usize, reason: &str) {
        let worker = self.workers.get_mut(number).and_then(Option::take);
        if worker.is_some() {
            self.census.lost += 1;
            self.census.first_loss.get_or_insert_with(|| reason.to_string());
            self.is_news = true;
        }
    }

    fn end_runs(&mut self) {
        let now = Instant::now();
        let mut ended = Vec::new();
        while let Some(Reverse((at, number, task, attempt))) = self.ends.peek().copied() {
            if at > now {
                break;
            }
            self.ends.pop();
            let Some(worker) = self.workers.get_mut(number).and_then(Option::as_mut) else {
                continue;
            };
            let started = worker.finish(&TaskAttempt { task, attempt });
            self.note(number, started);
            ended.push(number);
        }
        ended.into_iter().for_each(|number| self.flush(number));
    }
}

impl Owner for Hollow {
    fn turn(&mut self, _: &mut Control<Self>) -> Next {
        self.end_runs();
        if std::mem::take(&mut self.is_news) {
            *self.shared.census.lock() = self.census.clone();
            self.shared.changed.notify_all();
        }
        Next::WaitUntil(self.ends.peek().map(|Reverse((at, ..))| *at))
    }
}

/// The receiving side of one worker's connection.
struct Session {
    number: usize,
}

impl Protocol<Hollow> for Session {
    fn on_open(
        &mut self,
        _: &mut Hollow,
        _: &Arc<Channel>,
        _: Role,
        _: Option<Resume>,
    ) -> Result<Welcome, String> {
        Ok(Welcome::default())
    }

    fn on_frame(&mut self, hollow: &mut Hollow, frame: Frame) -> Result<(), String> {
        let message = SchedulerToWorker::read(frame.kind, &frame.head);
        hollow.hear(self.number, message.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn on_batch_end(&mut self, hollow: &mut Hollow) {
        hollow.flush(self.number);
    }

    fn on_closed(&mut self, hollow: &mut Hollow, reason: &str) {
        hollow.lose(self.number, reason);
    }
}
