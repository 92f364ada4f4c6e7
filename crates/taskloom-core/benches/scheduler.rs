//! What the rules of the scheduler cost by themselves: workers that answer at once, no IO.
//!
//! `cargo bench -p taskloom-core` prints, per graph shape, the time per task and the memory per
//! held task. Run it before and after a change, on the same machine: only the ratio counts.

// A measurement needs a clock; the rules it measures do not.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use taskloom_core::scheduler::{Action, Config, Event, Scheduler};
use taskloom_proto::client::{
    ClientToScheduler, Handles, RegisterClient, RegisterFunction, SubmitBatch, TaskSpec,
};
use taskloom_proto::worker::{RegisterWorker, SchedulerToWorker, TaskDone, WorkerToScheduler};
use taskloom_types::{ClientId, FunctionId, Handle, Key, Nanos, WorkerNo};

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENT: ClientId = ClientId(1);
const PIECE: usize = 1000;

fn specs(deps: &[Vec<u64>], is_wanted: impl Fn(usize) -> bool) -> Vec<TaskSpec> {
    let spec = |(position, deps): (usize, &Vec<u64>)| TaskSpec {
        handle: Handle(position as u64 + 1),
        flags: if is_wanted(position) { TaskSpec::WANTED } else { 0 },
        key: Key::from_text(&format!("noop-{position:039}")),
        order: position as u64,
        spec_hash: position as u64,
        functions: [0].into_iter().collect(),
        deps: deps.iter().map(|dep| Handle(dep + 1)).collect(),
        body: [0u8; 14].into_iter().collect(),
        ..TaskSpec::default()
    };
    deps.iter().enumerate().map(spec).collect()
}

fn run(name: &str, deps: &[Vec<u64>], all_wanted: bool) {
    // `cargo bench -p taskloom-core -- chain` runs only shapes with that word.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
        return;
    }
    let count = deps.len();
    let mut specs = specs(deps, |position| all_wanted || position + 1 == count);
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let register = ClientToScheduler::Register(RegisterClient::default());
    scheduler.handle(Nanos(1), Event::ClientMessage { client: CLIENT, message: register });
    let id = FunctionId(7);
    let function = RegisterFunction { id, name: "noop".into(), payload: Bytes::new() };
    let message = ClientToScheduler::RegisterFunction(function);
    scheduler.handle(Nanos(1), Event::ClientMessage { client: CLIENT, message });
    for number in 1..=2 {
        let name = number.to_string();
        let info = RegisterWorker { name, nthreads: 1, ..RegisterWorker::default() };
        let message = WorkerToScheduler::Register(info);
        scheduler.handle(Nanos(1), Event::WorkerMessage { worker: WorkerNo(number), message });
    }
    let before = IN_USE.load(Ordering::Relaxed);
    let began = Instant::now();
    let mut now = 1;
    let mut replies: VecDeque<(WorkerNo, Vec<TaskDone>)> = VecDeque::new();
    // Tasks that nobody needs are culled: the end is when nothing is left to answer.
    while !specs.is_empty() || !replies.is_empty() {
        now += 1_000;
        if !specs.is_empty() {
            let rest = specs.split_off(PIECE.min(specs.len()));
            let batch = SubmitBatch {
                submission: 1,
                last: rest.is_empty(),
                functions: vec![id],
                prefixes: vec!["noop".into()],
                tasks: std::mem::replace(&mut specs, rest),
                ..SubmitBatch::default()
            };
            let message = ClientToScheduler::Submit(batch);
            scheduler.handle(Nanos(now), Event::ClientMessage { client: CLIENT, message });
        }
        while let Some((worker, tasks)) = replies.pop_front() {
            let message = WorkerToScheduler::Done(tasks);
            scheduler.handle(Nanos(now), Event::WorkerMessage { worker, message });
        }
        for action in scheduler.poll(Nanos(now)) {
            let Action::ToWorker(worker, SchedulerToWorker::Compute(tasks)) = action else {
                continue;
            };
            let answer = |task: taskloom_proto::worker::ComputeTask| TaskDone {
                task: task.task,
                attempt: task.attempt,
                size_bytes: 28,
                duration_ns: 1_000,
                value: Some(taskloom_proto::SmallBytes::copy_of(&[0; 9])),
            };
            replies.push_back((worker, tasks.into_iter().map(answer).collect()));
        }
    }
    let per_task = began.elapsed().as_nanos() as f64 / count as f64;
    let held = IN_USE.load(Ordering::Relaxed) - before;
    let began = Instant::now();
    let handles = (1..=count as u64).map(Handle).collect();
    let message = ClientToScheduler::Release(Handles { handles });
    scheduler.handle(Nanos(now), Event::ClientMessage { client: CLIENT, message });
    let release = began.elapsed().as_nanos() as f64 / count as f64;
    let kept = if all_wanted { held as f64 / count as f64 } else { 0.0 };
    println!("{name:<24} {per_task:>8.0} ns/task {release:>8.0} ns/release {kept:>8.0} B/task");
    assert_eq!(scheduler.task_count(), 0, "{name}: tasks are left");
}

fn main() {
    let count = 200_000u64;
    run("map", &vec![Vec::new(); count as usize], true);
    run(
        "chain",
        &(0..count).map(|n| n.checked_sub(1).into_iter().collect()).collect::<Vec<_>>(),
        false,
    );
    let mut merge: Vec<Vec<u64>> = vec![Vec::new(); 20_000];
    merge.push((0..20_000).collect());
    run("merge of 20,000", &merge, false);
    let leaves = 1u64 << 16;
    let mut tree: Vec<Vec<u64>> = vec![Vec::new(); leaves as usize];
    let mut first = 0;
    while tree.len() as u64 - first > 1 {
        let end = tree.len() as u64;
        tree.extend((first..end).step_by(2).map(|n| vec![n, n + 1]));
        first = end;
    }
    run("tree of 2^16 leaves", &tree, false);
    let layer = |n: u64| -> Vec<u64> {
        if n < 100 {
            return Vec::new();
        }
        (0..3).map(|k| (n / 100 - 1) * 100 + (n * 7 + k * 31) % 100).collect()
    };
    run("layers of 100, 3 inputs", &(0..100_000).map(layer).collect::<Vec<_>>(), false);
}
