//! Peers that say anything at any time: well-formed messages without sense. The scheduler neither
//! panics nor loses count, and serves those who behave.

use super::*;
use bytes::Bytes;
use taskloom_proto::client::*;
use taskloom_proto::control::*;
use taskloom_proto::policy::{RetryPolicy, StuckRun, TaskPolicy};
use taskloom_proto::supervisor::{RegisterSupervisor, WorkerExited};
use taskloom_proto::worker::*;
use taskloom_proto::{ErrorInfo, ExitKind, ExitReason, SmallBytes, TaskOptions};
use taskloom_types::{FunctionId, Handle, Key, Resources, TaskId};

/// A seeded source of nonsense (SplitMix64).
struct Nonsense(u64);

impl Nonsense {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Mostly a small number, sometimes an absurd one.
    fn number(&mut self) -> u64 {
        match self.below(12) {
            0 => u64::MAX,
            1 => u64::MAX / 2 + 1,
            _ => self.below(5),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| item(self)).collect()
    }

    fn task(&mut self) -> TaskId {
        TaskId { index: self.below(10) as u32, generation: self.below(4) as u32 }
    }

    fn run(&mut self) -> TaskAttempt {
        TaskAttempt { task: self.task(), attempt: self.below(5) as u32 }
    }

    fn handle(&mut self) -> Handle {
        Handle(self.below(12))
    }

    fn handles(&mut self) -> Handles {
        Handles { handles: self.list(Self::handle) }
    }

    fn key(&mut self) -> Key {
        let keys: [&[u8]; 9] = [b"sa", b"sb", b"sc", b"sd", b"se", b"sf", b"i1", b"", b"t\xff\xff"];
        Key::from_encoded(keys[self.below(9) as usize])
    }

    fn worker(&mut self) -> WorkerNo {
        WorkerNo(self.below(6) as u32)
    }

    fn words(&mut self) -> Vec<String> {
        self.list(|n| ["worker-0", "worker-1", "here", "nobody"][n.below(4) as usize].into())
    }

    fn value(&mut self) -> Option<SmallBytes> {
        (self.below(3) == 0).then(|| SmallBytes::copy_of(b"value"))
    }

    fn spec(&mut self) -> TaskSpec {
        TaskSpec {
            handle: self.handle(),
            flags: self.below(128) as u8,
            key: self.key(),
            prefix: self.number() as u32,
            option: self.below(3) as u32,
            order: self.number(),
            spec_hash: self.below(3),
            functions: (0..self.below(2)).map(|n| n as u32 + self.0 as u32 % 3).collect(),
            deps: self.list(Self::handle).into_iter().collect(),
            ..TaskSpec::default()
        }
    }

    fn options(&mut self) -> TaskOptions {
        let amount = taskloom_types::Amount(self.below(3) as i64 * 1_000_000);
        let gpu = (self.below(4) == 0).then(|| ("GPU".to_string(), amount));
        TaskOptions {
            workers: if self.below(3) == 0 { self.words() } else { vec![] },
            allow_other_workers: self.below(2) == 0,
            resources: Resources::new(gpu.into_iter().collect()),
            retries: self.below(3) as u32,
            priority: self.number() as i32,
            policy: (self.below(3) == 0).then(|| Box::new(self.policy())),
        }
    }

    fn policy(&mut self) -> TaskPolicy {
        let retry = RetryPolicy {
            retries: self.number() as u32,
            delays_ns: self.list(Self::number),
            factor_permille: self.number() as u32,
            max_delay_ns: self.number(),
            jitter_permille: self.number() as u32,
            on: self.list(|_| "ValueError".into()),
            not_on: vec![],
        };
        TaskPolicy {
            retry,
            timeout_ns: self.number(),
            hard_timeout_ns: self.number(),
            cancel_grace_ns: (self.below(2) == 0).then(|| self.number()),
        }
    }

    fn batch(&mut self) -> SubmitBatch {
        SubmitBatch {
            submission: self.below(4),
            last: self.below(2) == 0,
            fifo_timeout_us: self.number(),
            parent: (self.below(3) == 0).then(|| self.task()),
            functions: self.list(|n| FunctionId(u128::from(n.below(3)))),
            options: self.list(Self::options),
            prefixes: self.list(|n| format!("prefix-{}", n.below(3))),
            tasks: self.list(Self::spec),
        }
    }

    fn question(&mut self) -> Question {
        let timeout_ns = self.number();
        match self.below(20) {
            0 => Question::WhoHas(self.list(Self::key)),
            1 => Question::HasWhat(self.words()),
            2 => Question::Story(self.key()),
            3 => Question::Explain(self.key()),
            4 => Question::Locate(self.list(Self::handle)),
            5..=7 => Question::PlanScatter(PlanScatter {
                items: self.list(|n| (n.handle(), n.key(), n.number())),
                workers: self.words(),
                broadcast: self.below(2) == 0,
                timeout_ns,
            }),
            8 => Question::RunEverywhere(RunEverywhere {
                workers: self.words(),
                no_wait: self.below(2) == 0,
                ..RunEverywhere::default()
            }),
            9 => {
                let count = self.number() as u32;
                Question::WaitForWorkers(WaitForWorkers { count, timeout_ns })
            }
            10 => Question::Restart(RestartWorkers { timeout_ns, workers: self.words() }),
            11 => {
                let close = self.below(2) == 0;
                Question::RetireWorkers(RetireWorkers { workers: self.words(), close })
            }
            12 => Question::Executing(self.list(Self::key)),
            13 => Question::SchedulerInfo,
            14 => Question::SizeBytes(vec![]),
            15 => Question::Replay(Replay { key: self.key(), cause: self.below(2) == 0 }),
            16..=18 => Question::Control(self.control_question()),
            _ => Question::Counters,
        }
    }

    fn control_question(&mut self) -> ControlQuestion {
        let name = format!("setup-{}", self.below(3));
        match self.below(9) {
            6 => {
                let keys = self.list(Self::key);
                let n = self.number() as u32;
                ControlQuestion::Replicate(Replicate { keys, n, workers: self.words() })
            }
            7 => ControlQuestion::Rebalance(Rebalance { keys: vec![], workers: self.words() }),
            0 => ControlQuestion::Setup(Setup { name, ..Setup::default() }),
            1 => ControlQuestion::EndSetup(EndSetup { name, ..EndSetup::default() }),
            2 => ControlQuestion::Events(None),
            3 => ControlQuestion::TaskLogs(self.list(Self::key)),
            4 => ControlQuestion::SchedulerLog,
            _ => ControlQuestion::Dump,
        }
    }

    fn topics(&mut self) -> Vec<String> {
        self.list(|n| ["all", "transitions", "x"][n.below(3) as usize].to_string())
    }

    fn from_client(&mut self) -> ClientToScheduler {
        match self.below(20) {
            14 => ClientToScheduler::Subscribe(self.topics()),
            15 => ClientToScheduler::Unsubscribe(self.topics()),
            16 => {
                let topics = self.topics();
                ClientToScheduler::LogEvent(LogEvent { topics, ..LogEvent::default() })
            }
            0 => ClientToScheduler::Register(RegisterClient::default()),
            1 => ClientToScheduler::RegisterFunction(RegisterFunction {
                id: FunctionId(u128::from(self.below(3))),
                ..RegisterFunction::default()
            }),
            2 => ClientToScheduler::ForgetFunctions(Functions {
                ids: self.list(|n| FunctionId(u128::from(n.below(3)))),
            }),
            3..=6 => ClientToScheduler::Submit(self.batch()),
            7 => ClientToScheduler::Release(self.handles()),
            8 => ClientToScheduler::Desire(Desire { handle: self.handle(), key: self.key() }),
            9 => ClientToScheduler::Cancel(Cancel {
                handles: self.list(Self::handle),
                force: self.below(2) == 0,
                ..Cancel::default()
            }),
            10 => ClientToScheduler::Retry(self.handles()),
            11 => ClientToScheduler::Detach(self.handles()),
            17 => ClientToScheduler::Deposit(Deposit {
                handle: self.handle(),
                ticket: u128::from(self.below(4)),
            }),
            18 => ClientToScheduler::Collect(Collect {
                ticket: u128::from(self.below(4)),
                handle: self.handle(),
                key: self.key(),
            }),
            12 => ClientToScheduler::FetchFailed(FetchFailed {
                handle: self.handle(),
                task: self.task(),
                workers: self.list(Self::worker),
            }),
            _ => {
                let id = self.number();
                ClientToScheduler::Request(Request { id, question: self.question() })
            }
        }
    }

    fn from_worker(&mut self) -> WorkerToScheduler {
        match self.below(19) {
            18 => {
                let reason = String::new();
                WorkerToScheduler::NotAcquired(NotAcquired { task: self.task(), reason })
            }
            16 => {
                let TaskAttempt { task, attempt } = self.run();
                let records = self.list(|_| LogRecord::default());
                WorkerToScheduler::TaskLog(TaskLog { task, attempt, records })
            }
            17 => {
                let topics = self.topics();
                WorkerToScheduler::LogEvent(LogEvent { topics, ..LogEvent::default() })
            }
            0..=1 => WorkerToScheduler::Register(RegisterWorker {
                name: format!("worker-{}", self.below(5)),
                nthreads: self.number() as u32,
                memory_limit: self.number(),
                target_bytes: self.number(),
                pause_bytes: self.number(),
                resources: super::gpu(1.0),
                supervised: self.below(2) == 0,
                ..RegisterWorker::default()
            }),
            2..=5 => WorkerToScheduler::Done(self.list(|n| TaskDone {
                task: n.task(),
                attempt: n.below(4) as u32,
                size_bytes: n.number(),
                duration_ns: n.number(),
                value: n.value(),
            })),
            6 => WorkerToScheduler::Erred(TaskErred {
                task: self.task(),
                attempt: self.below(4) as u32,
                duration_ns: self.number(),
                error: ErrorInfo::default(),
            }),
            7 => WorkerToScheduler::Rescheduled(self.run()),
            8 => WorkerToScheduler::Seceded(self.run()),
            9 => WorkerToScheduler::Rejoined(self.run()),
            10 => WorkerToScheduler::Fetched(self.list(Self::task)),
            11 => WorkerToScheduler::Stored(self.list(|n| (n.task(), n.number()))),
            12 => WorkerToScheduler::DepMissing(DepMissing {
                dep: self.task(),
                asked: self.list(Self::worker).into_iter().collect(),
                is_silence: self.below(2) == 0,
            }),
            13 => {
                let TaskAttempt { task, attempt } = self.run();
                let given_back = self.below(2) == 0;
                WorkerToScheduler::Retracted(Retracted { task, attempt, given_back })
            }
            14 => WorkerToScheduler::RunEnded(self.run()),
            _ if self.below(3) == 0 => WorkerToScheduler::Stuck(StuckRun {
                task: self.task(),
                attempt: self.below(4) as u32,
                running_ns: self.number(),
            }),
            _ if self.below(4) == 0 => WorkerToScheduler::Closing(Closing::default()),
            _ => WorkerToScheduler::RunDone(RunDone {
                request: self.below(3),
                ok: true,
                payload: Bytes::new(),
            }),
        }
    }

    fn from_supervisor(&mut self) -> SupervisorToScheduler {
        if self.below(4) == 0 {
            return SupervisorToScheduler::Register(RegisterSupervisor::default());
        }
        SupervisorToScheduler::WorkerExited(WorkerExited {
            name: format!("worker-{}", self.below(5)),
            pid: 0,
            reason: ExitReason {
                kind: ExitKind::Signalled(11),
                stderr_tail: String::new(),
                ..ExitReason::default()
            },
            executing: self.list(|n| (n.task(), n.below(4) as u32)),
            restarting: true,
        })
    }

    fn event(&mut self) -> Event {
        let client = ClientId(self.below(4) as u32);
        let worker = self.worker();
        let supervisor = ConnId(self.below(2));
        match self.below(40) {
            0 => Event::ClientLeft { client },
            1 => Event::WorkerLeft { worker },
            2 => Event::SupervisorLeft { supervisor },
            3..=4 => Event::SupervisorMessage { supervisor, message: self.from_supervisor() },
            5..=20 => Event::WorkerMessage { worker, message: self.from_worker() },
            _ => Event::ClientMessage { client, message: self.from_client() },
        }
    }
}

#[test]
fn nonsense_in_any_order_breaks_nothing() {
    for seed in 0..4_000 {
        let mut nonsense = Nonsense(seed);
        let config = Config {
            no_workers_timeout_ns: (seed % 3 == 0).then_some(Nanos::MILLISECOND),
            inline_bytes: 20,
            allowed_failures: (seed % 2) as u8,
            ..Config::default()
        };
        let mut scheduler = Scheduler::new(config, seed);
        let mut now = Nanos(1);
        for number in 0..100 {
            now = now.after(nonsense.below(3 * Nanos::MILLISECOND));
            let event = nonsense.event();
            let said = format!("{event:?}");
            scheduler.handle(now, event);
            if nonsense.below(3) > 0 {
                scheduler.poll(now);
            }
            let valid = scheduler.validate();
            assert_eq!(valid, Ok(()), "seed {seed}, event {number}: {said}");
        }
        serves_those_who_behave(&mut scheduler, now);
    }
}

/// A good client and a good worker among the others: a task of theirs comes to its end.
fn serves_those_who_behave(scheduler: &mut Scheduler, now: Nanos) {
    let (client, worker) = (ClientId(100), WorkerNo(100));
    let say = |scheduler: &mut Scheduler, message| {
        scheduler.handle(now, Event::ClientMessage { client, message });
    };
    let register = RegisterWorker { name: "good".into(), nthreads: 1, ..Default::default() };
    let message = WorkerToScheduler::Register(register);
    scheduler.handle(now, Event::WorkerMessage { worker, message });
    say(scheduler, ClientToScheduler::Register(RegisterClient::default()));
    let spec = TaskSpec {
        handle: Handle(1),
        flags: TaskSpec::WANTED,
        key: Key::from_text("good-task"),
        ..TaskSpec::default()
    };
    let options = TaskOptions { workers: vec!["good".into()], ..TaskOptions::default() };
    let batch = SubmitBatch {
        submission: 1,
        last: true,
        options: vec![options],
        tasks: vec![spec],
        ..SubmitBatch::default()
    };
    say(scheduler, ClientToScheduler::Submit(batch));
    for _ in 0..100 {
        for action in scheduler.poll(now) {
            let (to, tasks) = match action {
                Action::ToWorker(to, SchedulerToWorker::Compute(tasks)) => (to, tasks),
                // The calls before its first task.
                Action::ToWorker(to, SchedulerToWorker::Run(call)) => {
                    let done = RunDone { request: call.request, ..RunDone::default() };
                    let message = WorkerToScheduler::RunDone(done);
                    scheduler.handle(now, Event::WorkerMessage { worker: to, message });
                    continue;
                }
                _ => continue,
            };
            let done = |task: ComputeTask| TaskDone {
                task: task.task,
                attempt: task.attempt,
                value: Some(SmallBytes::copy_of(b"value")),
                ..TaskDone::default()
            };
            let message = WorkerToScheduler::Done(tasks.into_iter().map(done).collect());
            scheduler.handle(now, Event::WorkerMessage { worker: to, message });
        }
    }
    let index = scheduler.tasks.find(&Key::from_text("good-task")).expect("the task is held");
    assert_eq!(scheduler.tasks[index].state, State::Memory);
}
