//! Any events in any order: no panic, invariants hold, and once the outside answers, all that
//! was assigned ends.

use super::*;
use proptest::prelude::*;
use taskloom_proto::policy::{InterruptRun, RunLimits};

#[derive(Debug, Clone)]
enum Event {
    Compute(Vec<(u32, Vec<(u32, u8)>)>),
    ComputeStale(u32, Attempt),
    Start,
    StartCoroutine,
    Finish(usize),
    Err(usize),
    Reschedule(usize),
    Secede(usize),
    Rejoin(usize),
    Free(Vec<u32>),
    Retract(u32, u8),
    Holders(u32, u8),
    Inline(u32),
    Answer(u32, Vec<u8>),
    Unreachable(u32),
    Gone(u32, u8),
    Introduced(u32),
    Stored(u32),
    Acquire(u32, u8),
    Tick(u64),
    Interrupt(usize, u8),
    Measure(u64),
    Disk(usize, u8),
    Unreadable(u32),
}

const TASKS: u32 = 7;

fn event() -> impl Strategy<Value = Event> {
    let any_task = 0..TASKS;
    // Inputs have smaller numbers, so that there are no cycles; the bits say what is sent along.
    let sent = (any_task.clone(), prop::collection::vec((any_task.clone(), any::<u8>()), 0..3));
    prop_oneof![
        4 => prop::collection::vec(sent, 1..4).prop_map(Event::Compute),
        1 => (any_task.clone(), 0..4u32).prop_map(|(t, a)| Event::ComputeStale(t, a)),
        4 => Just(Event::Start),
        1 => Just(Event::StartCoroutine),
        4 => any::<usize>().prop_map(Event::Finish),
        1 => any::<usize>().prop_map(Event::Err),
        1 => any::<usize>().prop_map(Event::Reschedule),
        1 => any::<usize>().prop_map(Event::Secede),
        1 => any::<usize>().prop_map(Event::Rejoin),
        2 => prop::collection::vec(any_task.clone(), 1..4).prop_map(Event::Free),
        1 => (any_task.clone(), any::<u8>()).prop_map(|(t, a)| Event::Retract(t, a)),
        1 => (any_task.clone(), any::<u8>()).prop_map(|(t, h)| Event::Holders(t, h)),
        1 => any_task.clone().prop_map(Event::Inline),
        3 => (0..4u32, prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(p, items)| Event::Answer(p, items)),
        1 => (0..4u32).prop_map(Event::Unreachable),
        1 => (0..4u32, any::<u8>()).prop_map(|(p, how)| Event::Gone(p, how)),
        1 => (1..3u32).prop_map(Event::Introduced),
        1 => (any_task.clone(), any::<u8>()).prop_map(|(t, h)| Event::Acquire(t, h)),
        1 => any_task.prop_map(Event::Stored),
        1 => (0..2_000_000_000u64).prop_map(Event::Tick),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(r, g)| Event::Interrupt(r, g)),
        1 => (0..12_000u64).prop_map(Event::Measure),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(t, e)| Event::Disk(t, e)),
        1 => (0..TASKS).prop_map(Event::Unreadable),
    ]
}

/// The outside world: what the worker has been sent and what it waits for.
struct World {
    script: Script,
    running: Vec<(TaskId, Attempt)>,
    fetches: Vec<(WorkerNo, Vec<TaskId>)>,
    /// Inputs the worker said it cannot get.
    asked: Vec<TaskId>,
    /// Transfers to disk (true) and from it under way.
    transfers: Vec<(TaskId, Ticket, bool)>,
    last_attempt: Attempt,
}

/// Some results fit into memory, others do not.
const MEMORY: MemoryLimits = MemoryLimits {
    limit_bytes: 12_000,
    target_bytes: 4_000,
    spill_bytes: 7_000,
    pause_bytes: 9_000,
    exhausted_after_ns: Nanos::SECOND,
};

fn holders(bits: u8) -> SmallVec<[WorkerNo; 2]> {
    (0..3u32).filter(|i| bits >> i & 1 == 1).map(|i| WorkerNo(i + 1)).collect()
}

impl World {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Fetch { peer, tasks, .. } => {
                    assert!(self.fetches.iter().all(|(p, _)| *p != peer), "asked twice");
                    self.fetches.push((peer, tasks));
                }
                Action::Send(WorkerToScheduler::DepMissing(news)) => self.asked.push(news.dep),
                Action::Spill { task, ticket } => self.transfers.push((task, ticket, true)),
                Action::Unspill { task, ticket } => self.transfers.push((task, ticket, false)),
                _ => {}
            }
        }
    }

    fn on(&mut self, event: impl FnOnce(&mut Worker, Nanos)) {
        let actions = self.script.on(event);
        self.take(actions);
    }

    fn pick(&self, index: usize) -> Option<(TaskId, Attempt)> {
        (!self.running.is_empty()).then(|| self.running[index % self.running.len()])
    }

    fn end(&mut self, index: usize) -> Option<(TaskId, Attempt)> {
        (!self.running.is_empty()).then(|| self.running.swap_remove(index % self.running.len()))
    }

    fn compute(&mut self, sent: Vec<(u32, Vec<(u32, u8)>)>) {
        let mut tasks = Vec::new();
        for (index, deps) in sent {
            self.last_attempt += 1;
            let mut sent = run(index).attempt(self.last_attempt);
            if index % 3 == 2 {
                sent = sent.coroutine();
            }
            if self.last_attempt.is_multiple_of(2) {
                let timeout_ns = u64::from(self.last_attempt) * 100 * Nanos::MILLISECOND;
                let limits = RunLimits { timeout_ns, hard_timeout_ns: timeout_ns * 2 };
                sent.0.limits = Some(Box::new(limits));
            }
            for (dep, bits) in deps.into_iter().filter(|(dep, _)| *dep < index) {
                let value = (bits >> 6 == 3).then(|| SmallBytes::copy_of(b"v"));
                let size_bytes = u64::from(bits);
                let dep = DepRef { task: task(dep), size_bytes, value, holders: holders(bits) };
                sent = sent.dep(dep);
            }
            tasks.push(sent.0);
        }
        self.on(|worker, now| worker.on_compute(now, tasks));
    }

    fn answer(&mut self, peer: WorkerNo, kinds: &[u8]) {
        let Some(at) = self.fetches.iter().position(|(p, _)| *p == peer) else { return };
        let (_, tasks) = self.fetches.remove(at);
        // Too few kinds: the rest of the answer is missing.
        let outcome = |kind: &u8| match kind % 4 {
            0 | 1 => VALUE,
            2 => MISSING,
            _ => FetchOutcome::Failed(boom()),
        };
        let items = tasks.into_iter().zip(kinds.iter().map(outcome)).collect();
        self.on(|worker, now| worker.on_fetch_done(now, peer, items));
    }

    /// What was asked of one that falls silent may be answered all the same.
    fn lose(&mut self, peer: WorkerNo, how: u8) {
        let is_silent = how.is_multiple_of(2);
        self.on(|worker, now| worker.on_peer_gone(now, peer, is_silent));
        if !is_silent {
            return;
        }
        if how.is_multiple_of(4) {
            self.answer(peer, &[how, how / 4]);
        }
        self.fetches.retain(|(p, _)| *p != peer);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Compute(sent) => self.compute(sent),
            Event::ComputeStale(index, attempt) => {
                let sent = run(index).attempt(attempt);
                self.on(|worker, now| worker.on_compute(now, vec![sent.0]));
            }
            Event::Start | Event::StartCoroutine => {
                let now = self.script.now;
                let worker = &mut self.script.worker;
                let started = match event {
                    Event::Start => worker.next_ready(now),
                    _ => worker.next_ready_coroutine(now),
                };
                self.running.extend(started.map(|r| (r.task, r.attempt)));
                self.on(|_, _| ());
            }
            Event::Finish(index) => {
                if let Some((task, attempt)) = self.end(index) {
                    self.on(|worker, _| {
                        worker.on_finished(task, attempt, 3 + 2_000 * u64::from(task.index % 3), 0);
                    });
                }
            }
            Event::Err(index) => {
                if let Some((task, attempt)) = self.end(index) {
                    self.on(|worker, _| worker.on_erred(task, attempt, 1, boom()));
                }
            }
            Event::Reschedule(index) => {
                if let Some((task, attempt)) = self.end(index) {
                    self.on(|worker, _| worker.on_rescheduled(task, attempt));
                }
            }
            Event::Secede(index) => {
                if let Some((task, attempt)) = self.pick(index) {
                    self.on(|worker, _| worker.on_seceded(task, attempt));
                }
            }
            Event::Rejoin(index) => {
                if let Some((task, attempt)) = self.pick(index) {
                    self.on(|worker, _| worker.on_rejoined(task, attempt));
                }
            }
            Event::Free(tasks) => {
                let tasks: Vec<TaskId> = tasks.into_iter().map(task).collect();
                self.on(|worker, _| worker.on_free(&tasks));
            }
            Event::Retract(index, back) => {
                let attempt = self.last_attempt.saturating_sub(u32::from(back % 4));
                self.on(|worker, _| worker.on_retract(task(index), attempt));
            }
            Event::Holders(index, bits) => {
                let news = DepHolders { dep: task(index), holders: holders(bits), value: None };
                self.on(|worker, now| worker.on_holders(now, news));
            }
            Event::Inline(index) => self.give_inline(task(index)),
            Event::Answer(peer, kinds) => self.answer(WorkerNo(peer), &kinds),
            Event::Unreachable(peer) => {
                let peer = WorkerNo(peer);
                if self.fetches.iter().any(|(p, _)| *p == peer) {
                    self.fetches.retain(|(p, _)| *p != peer);
                    self.on(|worker, now| worker.on_fetch_failed(now, peer));
                }
            }
            Event::Gone(peer, how) => self.lose(WorkerNo(peer), how),
            Event::Introduced(peer) => {
                self.on(|worker, _| worker.on_peer(WorkerNo(peer), "again".into()));
            }
            Event::Acquire(index, bits) => {
                let dep = DepRef { task: task(index), holders: holders(bits), ..DepRef::default() };
                self.on(|worker, now| worker.on_acquire(now, vec![dep]));
            }
            Event::Stored(index) => self.on(|worker, _| worker.on_stored(scattered(index), 5)),
            Event::Interrupt(index, grace) => {
                let Some((task, attempt)) = self.pick(index) else { return };
                let grace_ns = (grace > 9).then(|| u64::from(grace) * Nanos::MILLISECOND);
                let interrupt = InterruptRun { task, attempt, grace_ns };
                self.on(|worker, now| worker.on_interrupt(now, &interrupt));
            }
            Event::Measure(bytes) => self.on(|worker, now| worker.on_resident(now, bytes)),
            Event::Disk(index, end) => self.end_transfer(index, end),
            Event::Unreadable(index) => {
                self.on(|worker, now| worker.on_unreadable(now, task(index)));
            }
            Event::Tick(nanos) => {
                self.script.now = self.script.now.after(nanos);
                self.on(|worker, now| worker.on_tick(now));
            }
        }
    }

    fn end_transfer(&mut self, index: usize, end: u8) {
        if self.transfers.is_empty() {
            return;
        }
        let (task, ticket, is_write) = self.transfers.swap_remove(index % self.transfers.len());
        self.on(|worker, now| match (is_write, end % 8) {
            (true, 0) => worker.on_spill_failed(now, task, ticket, SpillFailure::Disk),
            (true, 1) => worker.on_spill_failed(now, task, ticket, SpillFailure::Unpicklable),
            (true, _) => drop(worker.on_spilled(task, ticket)),
            (false, 0) => worker.on_load_failed(now, task, ticket),
            (false, _) => drop(worker.on_loaded(task, ticket, end.is_multiple_of(2))),
        });
    }

    fn give_inline(&mut self, dep: TaskId) {
        let value = Some(SmallBytes::copy_of(b"w"));
        let news = DepHolders { dep, value, ..DepHolders::default() };
        self.on(|worker, now| worker.on_holders(now, news));
    }

    /// From here on everybody answers; every run must end.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.apply(Event::Tick(Nanos::SECOND));
            self.apply(Event::Measure(0));
            self.apply(Event::Disk(0, 7));
            self.apply(Event::Start);
            self.apply(Event::StartCoroutine);
            self.apply(Event::Finish(0));
            if let Some((peer, _)) = self.fetches.first() {
                self.apply(Event::Answer(peer.0, vec![0; 64]));
            }
            // A dependent of an erred run would be freed; here it is given a value instead.
            self.asked.clear();
            for dep in 0..TASKS {
                let idle =
                    self.script.worker.tasks.get(&task(dep)).is_some_and(|t| t.run.is_none());
                if idle && self.fetches.is_empty() {
                    self.give_inline(task(dep));
                }
            }
            if self.script.worker.tasks.values().all(|t| t.run.is_none()) && self.running.is_empty()
            {
                return;
            }
        }
        panic!("stuck: {:?}", self.script.worker);
    }
}

fn config() -> ProptestConfig {
    let failure_persistence = None;
    ProptestConfig { cases: 10_000, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_events_keep_the_invariants_and_all_runs_end(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World {
            script: Script::with(MEMORY),
            running: Vec::new(),
            fetches: Vec::new(),
            asked: Vec::new(),
            transfers: Vec::new(),
            last_attempt: 0,
        };
        for event in events {
            world.apply(event);
        }
        world.settle();
        let all: Vec<TaskId> = (0..TASKS).map(task).collect();
        world.on(|worker, _| worker.on_free(&all));
        world.script.assert_empty();
    }
}
