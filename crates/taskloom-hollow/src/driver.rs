//! A client without futures: it submits many tasks, counts how they end and how long that took.

use crate::HollowError;
use crate::worker::Work;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use taskloom_proto::Body;
use taskloom_proto::TaskOptions;
use taskloom_proto::client::{
    Answer, Cancel, ClientToScheduler, Handles, Question, RegisterClient, RegisterFunction,
    Request, SchedulerToClient, SubmitBatch, TaskSpec, WaitForWorkers,
};
use taskloom_proto::handshake::Token;
use taskloom_runtime::ConnectOptions;
use taskloom_runtime::io::IoThread;
use taskloom_runtime::link::{Link, Sink};
use taskloom_types::{FunctionId, Handle, Key};

/// Tasks of one message.
const BATCH: u64 = 10_000;
/// All tasks call this.
const FUNCTION: FunctionId = FunctionId(1);

/// What to submit: `count` tasks with the same work.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub count: u64,
    pub work: Work,
    pub shape: Shape,
}

/// Which tasks need which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// None needs another.
    Flat,
    /// The first half stands alone; each of the second half needs one of the first.
    Pairs,
    /// Each needs the one before it.
    Chain,
    /// The last needs all others.
    Funnel,
    /// All others need the first.
    Fan,
}

impl Shape {
    /// Positions in the plan that the task at `position` needs.
    fn inputs(self, position: u64, count: u64) -> Range<u64> {
        match self {
            Self::Pairs if position >= count.div_ceil(2) => {
                let input = position - count.div_ceil(2);
                input..input + 1
            }
            Self::Chain if position > 0 => position - 1..position,
            Self::Funnel if position + 1 == count => 0..position,
            Self::Fan if position > 0 => 0..1,
            _ => 0..0,
        }
    }
}

/// How tasks ended.
#[derive(Debug, Default)]
struct Progress {
    ready: u64,
    erred: u64,
    cancelled: u64,
    first_error: Option<String>,
    answers: HashMap<u64, Answer>,
    /// Why the connection ended, once it has.
    closed: Option<String>,
    /// First handles of submissions, and when those were made; only while latencies are wanted.
    submitted: Vec<(u64, Instant)>,
    latencies_us: Vec<u32>,
}

impl Progress {
    fn note_latency(&mut self, handle: Handle, now: Instant) {
        let after = self.submitted.partition_point(|(first, _)| *first <= handle.0);
        let Some((_, at)) = after.checked_sub(1).map(|position| self.submitted[position]) else {
            return;
        };
        self.latencies_us.push(now.duration_since(at).as_micros() as u32);
    }
}

#[derive(Default)]
struct Ears {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Sink<SchedulerToClient> for Ears {
    fn deliver(&self, messages: &mut Vec<SchedulerToClient>) {
        let now = Instant::now();
        let mut progress = self.progress.lock();
        for message in messages.drain(..) {
            match message {
                SchedulerToClient::Ready(keys) => {
                    progress.ready += keys.len() as u64;
                    if !progress.submitted.is_empty() {
                        keys.iter().for_each(|key| progress.note_latency(key.handle, now));
                    }
                }
                SchedulerToClient::Erred(erred) => {
                    progress.erred += erred.handles.len() as u64;
                    progress.first_error.get_or_insert(erred.error.message);
                }
                SchedulerToClient::Cancelled(gone) => {
                    progress.cancelled += gone.handles.len() as u64;
                }
                // Results that are made again are ready twice.
                SchedulerToClient::Pending(again) => {
                    progress.ready -= again.handles.len() as u64;
                }
                SchedulerToClient::Reply(reply) => {
                    progress.answers.insert(reply.id, reply.answer);
                }
                _ => {}
            }
        }
        self.changed.notify_all();
    }

    fn closed(&self, reason: &str) {
        self.progress.lock().closed = Some(reason.to_string());
        self.changed.notify_all();
    }
}

/// Ends of tasks since the driver's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    pub ready: u64,
    pub erred: u64,
    pub cancelled: u64,
}

/// See the module.
pub struct Driver {
    link: Arc<dyn Link<ClientToScheduler>>,
    ears: Arc<Ears>,
    /// Keeps the connection's thread.
    _io: Arc<IoThread>,
    next_handle: AtomicU64,
    next_request: AtomicU64,
}

impl Driver {
    pub fn connect(address: &str, token: &Token) -> Result<Self, HollowError> {
        let io = IoThread::start().map_err(HollowError::io("cannot start a thread"))?;
        let ears = Arc::new(Ears::default());
        let opened = io.connect(address, token, ears.clone(), ConnectOptions::default())?;
        let link: Arc<dyn Link<ClientToScheduler>> = opened.link;
        let name = "hollow-driver".to_string();
        link.send(ClientToScheduler::Register(RegisterClient { name, ..Default::default() }));
        let (name, payload) = ("hollow".to_string(), Default::default());
        link.send(ClientToScheduler::RegisterFunction(RegisterFunction {
            id: FUNCTION,
            name,
            payload,
        }));
        link.flush();
        let (next_handle, next_request) = (AtomicU64::new(1), AtomicU64::new(1));
        Ok(Self { link, ears, _io: io, next_handle, next_request })
    }

    /// Submits; returns the handles of the tasks.
    pub fn submit(&self, plan: Plan) -> Range<u64> {
        let first = self.next_handle.fetch_add(plan.count, Ordering::Relaxed);
        let mut start = 0;
        while start < plan.count {
            let end = (start + BATCH).min(plan.count);
            let tasks = (start..end).map(|position| spec(plan, first, position)).collect();
            self.link.send(ClientToScheduler::Submit(SubmitBatch {
                submission: first,
                last: end == plan.count,
                functions: vec![FUNCTION],
                options: vec![TaskOptions::default()],
                prefixes: vec![prefix(plan)],
                tasks,
                ..SubmitBatch::default()
            }));
            self.link.flush();
            start = end;
        }
        first..first + plan.count
    }

    /// As [`Driver::submit`]; how long each task takes to its end is kept.
    pub fn submit_timed(&self, plan: Plan) -> Range<u64> {
        let first = self.next_handle.load(Ordering::Relaxed);
        self.ears.progress.lock().submitted.push((first, Instant::now()));
        self.submit(plan)
    }

    /// The times from submission to end that were kept, in us, shortest first. Forgets them.
    #[must_use]
    pub fn take_latencies_us(&self) -> Vec<u32> {
        let mut progress = self.ears.progress.lock();
        progress.submitted.clear();
        let mut latencies = std::mem::take(&mut progress.latencies_us);
        latencies.sort_unstable();
        latencies
    }

    pub fn release(&self, handles: Range<u64>) {
        self.each_batch(handles, |handles| ClientToScheduler::Release(Handles { handles }));
    }

    pub fn cancel(&self, handles: Range<u64>) {
        self.each_batch(handles, |handles| {
            let (reason, message) = ("cancelled".to_string(), "by the driver".to_string());
            ClientToScheduler::Cancel(Cancel { handles, force: false, reason, message })
        });
    }

    fn each_batch(&self, handles: Range<u64>, message: impl Fn(Vec<Handle>) -> ClientToScheduler) {
        let mut start = handles.start;
        while start < handles.end {
            let end = (start + BATCH).min(handles.end);
            self.link.send(message((start..end).map(Handle).collect()));
            start = end;
        }
        self.link.flush();
    }

    #[must_use]
    pub fn ends(&self) -> Ends {
        ends(&self.ears.progress.lock())
    }

    /// Blocks until the ends are as wanted.
    pub fn wait(
        &self,
        what: &str,
        seconds: u64,
        is_so: impl Fn(Ends) -> bool,
    ) -> Result<(), HollowError> {
        self.wait_for(what, seconds, |progress| is_so(ends(progress)).then_some(()))
    }

    /// Asks a question and waits for its answer.
    pub fn ask(&self, question: Question) -> Result<Answer, HollowError> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        self.link.send(ClientToScheduler::Request(Request { id, question }));
        self.link.flush();
        self.wait_for("an answer", 60, |progress| progress.answers.remove(&id))
    }

    /// Blocks until so many workers are there.
    pub fn wait_for_workers(&self, count: usize) -> Result<(), HollowError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.ask(Question::WaitForWorkers(WaitForWorkers { count, timeout_ns: 0 })).map(|_| ())
    }

    fn wait_for<T>(
        &self,
        what: &str,
        seconds: u64,
        mut found: impl FnMut(&mut Progress) -> Option<T>,
    ) -> Result<T, HollowError> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut progress: MutexGuard<'_, Progress> = self.ears.progress.lock();
        loop {
            if let Some(found) = found(&mut progress) {
                return Ok(found);
            }
            if let Some(reason) = &progress.closed {
                return Err(HollowError::SchedulerEnded(reason.clone()));
            }
            if self.ears.changed.wait_until(&mut progress, deadline).timed_out() {
                let seen = format!("{:?}, {:?}", ends(&progress), progress.first_error);
                return Err(HollowError::Overdue { what: what.into(), seconds, seen });
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.link.close();
    }
}

fn ends(progress: &Progress) -> Ends {
    Ends { ready: progress.ready, erred: progress.erred, cancelled: progress.cancelled }
}

/// Tasks of unlike work are unlike tasks: the scheduler keeps their durations apart.
fn prefix(plan: Plan) -> String {
    format!("hollow-{}-{}", plan.work.duration_ns, plan.work.size_bytes)
}

fn spec(plan: Plan, first: u64, position: u64) -> TaskSpec {
    let inputs = plan.shape.inputs(position, plan.count);
    TaskSpec {
        handle: Handle(first + position),
        flags: TaskSpec::WANTED,
        key: Key::from_text(&format!("hollow-{:032x}", first + position)),
        prefix: 0,
        option: 0,
        order: position,
        spec_hash: first + position,
        functions: smallvec::smallvec![0],
        deps: inputs.map(|input| Handle(first + input)).collect(),
        body: Body::from_slice(&plan.work.to_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_needs_only_tasks_that_come_before() {
        for shape in [Shape::Flat, Shape::Pairs, Shape::Chain, Shape::Funnel, Shape::Fan] {
            for count in [1, 2, 3, 10] {
                for position in 0..count {
                    let inputs = shape.inputs(position, count);
                    assert!(inputs.is_empty() || inputs.end <= position, "{shape:?} {position}");
                }
            }
        }
        assert_eq!(Shape::Funnel.inputs(9, 10), 0..9);
        assert_eq!(Shape::Pairs.inputs(5, 10), 0..1);
    }
}
