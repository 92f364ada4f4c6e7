//! One hollow worker: what it was told to do, and what it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use taskloom_net::Channel;
use taskloom_proto::SmallBytes;
use taskloom_proto::worker::{
    ComputeTask, DepRef, Heartbeat, RegisterWorker, Retracted, RunDone, SchedulerToWorker,
    TaskAttempt, TaskDone, WorkerToScheduler,
};
use taskloom_runtime::message::Message;
use taskloom_types::TaskId;

/// Heartbeats without a word from the scheduler after which it is asked for one.
const SILENT_BEATS: u32 = 3;

/// What a run costs on paper; a task's body says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// How long the run takes, in ns. 0: it is answered at once.
    pub duration_ns: u64,
    /// The size of its result. More than 1 KiB stays at the worker.
    pub size_bytes: u64,
}

impl Work {
    /// Results up to this travel inside messages.
    const INLINE_BYTES: u64 = 1024;

    /// As a task's body.
    #[must_use]
    pub fn to_body(self) -> [u8; 16] {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&self.duration_ns.to_le_bytes());
        body[8..].copy_from_slice(&self.size_bytes.to_le_bytes());
        body
    }

    /// Other bodies are of tasks that take no time.
    fn from_body(body: &[u8]) -> Self {
        let number = |range: std::ops::Range<usize>| {
            let bytes = body.get(range).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        Self { duration_ns: number(0..8), size_bytes: number(8..16) }
    }
}

/// A task under way.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: TaskAttempt,
    work: Work,
}

/// A session, as its scheduler sees a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    channel: Arc<Channel>,
    threads: usize,
    waiting: VecDeque<Run>,
    running: Vec<(Run, Instant)>,
    done: Vec<TaskDone>,
    fetched: Vec<TaskId>,
}

impl Worker {
    pub(crate) fn new(channel: Arc<Channel>, threads: usize) -> Self {
        Self {
            channel,
            threads,
            waiting: VecDeque::new(),
            running: Vec::new(),
            done: Vec::new(),
            fetched: Vec::new(),
        }
    }

    pub(crate) fn register(&self, number: usize) {
        let [_, a, b, c] = (number as u32).to_be_bytes();
        self.say(&WorkerToScheduler::Register(RegisterWorker {
            name: format!("hollow-{number}"),
            // Nobody connects there: no result of a hollow worker is fetched.
            address: format!("tcp://10.{a}.{b}.{c}:9"),
            nthreads: self.threads as u32,
            pid: std::process::id(),
            host: "hollow".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..RegisterWorker::default()
        }));
        self.channel.flush();
    }

    fn say(&self, message: &WorkerToScheduler) {
        self.channel.queue(|queue| queue.append(|chunk| message.write_frame(chunk)));
    }

    /// Takes a message; returns the runs that start by it, with the times of their ends.
    pub(crate) fn hear(&mut self, message: SchedulerToWorker) -> Vec<(Instant, TaskAttempt)> {
        match message {
            SchedulerToWorker::Compute(tasks) => {
                tasks.into_iter().for_each(|task| self.take(task));
                return self.start();
            }
            SchedulerToWorker::Free(tasks) => {
                self.waiting.retain(|run| !tasks.contains(&run.id.task));
                self.running.retain(|(run, _)| !tasks.contains(&run.id.task));
                return self.start();
            }
            // It holds nothing.
            SchedulerToWorker::Discard(tasks) => self.say(&WorkerToScheduler::Discarded(tasks)),
            SchedulerToWorker::Retract(task) => self.retract(task),
            SchedulerToWorker::Run(call) => {
                let (request, payload) = (call.request, Default::default());
                self.say(&WorkerToScheduler::RunDone(RunDone { request, ok: true, payload }));
            }
            SchedulerToWorker::Acquire(copies) => {
                self.fetched.extend(copies.into_iter().map(|copy| copy.task));
            }
            SchedulerToWorker::Close(closing) => self.channel.close(&closing.reason),
            // Nothing that a worker without tasks' data would do anything about.
            _ => {}
        }
        Vec::new()
    }

    fn take(&mut self, task: ComputeTask) {
        let run = Run {
            id: TaskAttempt { task: task.task, attempt: task.attempt },
            work: Work::from_body(&task.body),
        };
        let is_elsewhere = |dep: &&DepRef| !dep.holders.is_empty();
        self.fetched.extend(task.deps.iter().filter(is_elsewhere).map(|dep| dep.task));
        match run.work.duration_ns {
            0 => self.report(run),
            _ => self.waiting.push_back(run),
        }
    }

    /// Starts what waits on free threads.
    fn start(&mut self) -> Vec<(Instant, TaskAttempt)> {
        let mut started = Vec::new();
        while self.running.len() < self.threads
            && let Some(run) = self.waiting.pop_front()
        {
            let now = Instant::now();
            let end = now + std::time::Duration::from_nanos(run.work.duration_ns);
            started.push((end, run.id.clone()));
            self.running.push((run, now));
        }
        started
    }

    /// A run's time is over, unless it was freed. Returns the runs that start now.
    pub(crate) fn finish(&mut self, id: &TaskAttempt) -> Vec<(Instant, TaskAttempt)> {
        let Some(position) = self.running.iter().position(|(run, _)| run.id == *id) else {
            return Vec::new();
        };
        let (run, _) = self.running.swap_remove(position);
        self.report(run);
        self.start()
    }

    fn report(&mut self, run: Run) {
        let size = run.work.size_bytes.max(9);
        let is_inline = size <= Work::INLINE_BYTES;
        self.done.push(TaskDone {
            task: run.id.task,
            attempt: run.id.attempt,
            size_bytes: size,
            duration_ns: run.work.duration_ns.max(1),
            value: is_inline.then(|| SmallBytes::copy_of(b"i\x01\0\0\0\0\0\0\0")),
        });
    }

    fn retract(&mut self, task: TaskAttempt) {
        let before = self.waiting.len();
        self.waiting.retain(|run| run.id != task);
        let given_back = self.waiting.len() < before;
        let TaskAttempt { task, attempt } = task;
        self.say(&WorkerToScheduler::Retracted(Retracted { task, attempt, given_back }));
    }

    /// Sends what is ready.
    pub(crate) fn flush(&mut self) {
        if !self.fetched.is_empty() {
            let fetched = std::mem::take(&mut self.fetched);
            self.say(&WorkerToScheduler::Fetched(fetched));
        }
        if !self.done.is_empty() {
            let done = std::mem::take(&mut self.done);
            self.say(&WorkerToScheduler::Done(done));
        }
        self.channel.flush();
    }

    pub(crate) fn send_heartbeat(&self) {
        if self.channel.look() >= SILENT_BEATS {
            // As real workers do: it also tells the scheduler what it need not keep.
            self.channel.send_alive(true);
        }
        let executing = self.running.iter().map(|(run, since)| {
            let micros = since.elapsed().as_micros() as u64;
            (run.id.task, run.id.attempt, micros)
        });
        self.say(&WorkerToScheduler::Heartbeat(Heartbeat {
            executing: executing.collect(),
            ready: self.waiting.len() as u32,
            resident_bytes: 60 << 20,
            cpu_percent: 1.0,
            ..Heartbeat::default()
        }));
        self.channel.flush();
    }

    /// Ends the session as the kernel does when a process is killed. Returns what it had to do.
    pub(crate) fn kill(&mut self) -> Vec<TaskId> {
        self.channel.abort("killed");
        let waiting = self.waiting.drain(..).map(|run| run.id.task);
        let running = self.running.drain(..).map(|(run, _)| run.id.task);
        waiting.chain(running).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_survives_its_body_and_foreign_bodies_take_no_time() {
        let work = Work { duration_ns: 5_000_000_000, size_bytes: 1 << 40 };
        assert_eq!(Work::from_body(&work.to_body()), work);
        assert_eq!(Work::from_body(b"short"), Work::default());
    }
}
