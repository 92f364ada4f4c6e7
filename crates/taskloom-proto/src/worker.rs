//! Messages between a worker and the scheduler.

use crate::actor::{ActorSnapshot, SnapshotKept};
use crate::client::{Closing, PeerAddress};
use crate::control::{LogEvent, NotAcquired, TaskLog};
use crate::gone::WorkerGone;
use crate::hand_over::{ActorHandedOver, HandOverActor};
use crate::memory::MemoryState;
use crate::policy::{InterruptRun, RunLimits, StuckRun};
use crate::rejoin::{Adopted, Offered};
use crate::shared::{Body, ErrorInfo};
use crate::small::SmallBytes;
use crate::{wire_messages, wire_record};
use bytes::Bytes;
use smallvec::SmallVec;
use taskloom_types::{Attempt, FunctionNo, Key, Priority, Resources, TaskId, WorkerNo};

wire_messages! {
    /// From the scheduler to a worker.
    pub enum SchedulerToWorker {
        /// Answer to [`WorkerToScheduler::Register`].
        1 => Registered(Registered),
        /// Sent before the first task that uses the function.
        2 => Function(WorkerFunction),
        3 => ForgetFunctions(Vec<FunctionNo>),
        /// Sent before the first message that names the worker.
        4 => Peer(PeerAddress),
        5 => Compute(Vec<ComputeTask>),
        /// Drop results and unstarted runs of these tasks; a running one's outcome is discarded.
        6 => Free(Vec<TaskId>),
        /// Give an unstarted task back; answered by [`WorkerToScheduler::Retracted`].
        7 => Retract(TaskAttempt),
        /// New places of a dependency that could not be fetched, or the news that it will come.
        8 => Holders(DepHolders),
        9 => Run(RunCall),
        /// Finish nothing, close.
        10 => Close(Closing),
        /// Drop what is held of these, which came too late to be of use; answered by
        /// [`WorkerToScheduler::Discarded`], so that what was said before is not believed.
        11 => Discard(Vec<TaskId>),
        /// Follows the `Free` of a run that was cancelled.
        40 => Interrupt(InterruptRun),
        /// Hold copies of these results from now on.
        60 => Acquire(Vec<DepRef>),
        61 => PeersGone(Vec<WorkerGone>),
        /// Answer to [`WorkerToScheduler::ActorSnapshot`].
        50 => SnapshotKept(SnapshotKept),
        51 => HandOverActor(HandOverActor),
        /// These offers are taken …
        120 => Adopt(Vec<Adopted>),
        /// … and these are not: what they named may go.
        121 => Decline(Vec<u64>),
    }
}

wire_messages! {
    /// From a worker to the scheduler.
    pub enum WorkerToScheduler {
        /// First message of a session.
        1 => Register(RegisterWorker),
        2 => Done(Vec<TaskDone>),
        3 => Erred(TaskErred),
        /// The task raised `Reschedule`.
        4 => Rescheduled(TaskAttempt),
        /// The task left its slot (`secede`, or it waits for other tasks) …
        5 => Seceded(TaskAttempt),
        /// … and is back in one.
        6 => Rejoined(TaskAttempt),
        /// Replicas that this worker fetched from others.
        7 => Fetched(Vec<TaskId>),
        /// Scattered values that clients put here: task and size in bytes.
        8 => Stored(Vec<(TaskId, u64)>),
        /// No known holder could give this dependency.
        9 => DepMissing(DepMissing),
        10 => Retracted(Retracted),
        11 => Heartbeat(Heartbeat),
        12 => RunDone(RunDone),
        /// The worker stops by its own will; its connection closes next.
        13 => Closing(Closing),
        /// A freed run that occupied resources has ended: they are free only now.
        14 => RunEnded(TaskAttempt),
        /// Answer to [`SchedulerToWorker::Discard`]: what is told of these from now on is true.
        15 => Discarded(Vec<TaskId>),
        /// A run is beyond its last limit.
        40 => Stuck(StuckRun),
        60 => LogEvent(LogEvent),
        /// What running tasks wrote.
        61 => TaskLog(TaskLog),
        /// The answer to [`SchedulerToWorker::Acquire`] when there is no copy; one that came is
        /// told as [`WorkerToScheduler::Fetched`].
        62 => NotAcquired(NotAcquired),
        50 => ActorSnapshot(ActorSnapshot),
        /// Answer to [`SchedulerToWorker::HandOverActor`].
        51 => ActorHandedOver(ActorHandedOver),
        /// Memory has run short, or no longer is.
        80 => Memory(MemoryState),
        /// Results that this worker held, and that its disk does not give back.
        81 => Lost(Vec<TaskId>),
        /// Copies of others' results in memory that is short. The scheduler answers with
        /// [`SchedulerToWorker::Free`] if others have them, else not at all.
        82 => Spare(Vec<TaskId>),
        /// A run that did not start here: the holder of an input cannot send it.
        83 => Unsent(UnsentInput),
        /// Results of an earlier session.
        120 => Offer(Vec<Offered>),
        /// The worker wants to leave in order, without a loss. Answered by `Close`.
        121 => Leave(Closing),
    }
}

wire_record! {
    pub struct RegisterWorker {
        /// Unique among live workers; chosen by the user or by the supervisor.
        pub name: String,
        /// Where peers and clients fetch data.
        pub address: String,
        pub nthreads: u32,
        /// In bytes; 0 means no limit.
        pub memory_limit: u64,
        pub resources: Resources,
        pub pid: u32,
        pub host: String,
        /// Whether a supervisor will report how this process ends, under this worker's name.
        pub supervised: bool,
        pub local_directory: String,
        pub version: String,
        /// Results in memory beyond this go to disk; in bytes, 0: never.
        pub target_bytes: u64,
        /// A process beyond this starts nothing; in bytes, 0: its size does not matter.
        pub pause_bytes: u64,
        /// The epoch of the scheduler that the worker had a session with before; 0: none.
        pub returns_from: u64,
    }

    pub struct Registered {
        pub worker: WorkerNo,
        pub heartbeat_ms: u32,
    }

    pub struct WorkerFunction {
        pub number: FunctionNo,
        pub name: String,
        pub payload: Bytes,
    }

    /// One task to run.
    pub struct ComputeTask {
        pub task: TaskId,
        pub attempt: Attempt,
        /// Of [`crate::client::TaskSpec::COROUTINE`] and its like.
        pub flags: u8,
        pub priority: Priority,
        pub key: Key,
        /// What similar tasks took, in us; 0 means unknown.
        pub expected_us: u32,
        pub functions: SmallVec<[FunctionNo; 2]>,
        pub deps: SmallVec<[DepRef; 2]>,
        pub body: Body,
        /// What is to be watched of the run.
        pub limits: Option<Box<RunLimits>>,
        /// Of the task's spec: should the result outlive the session, it is offered under it.
        pub spec_hash: u64,
    }

    /// Where an input of a task is.
    pub struct DepRef {
        pub task: TaskId,
        pub size_bytes: u64,
        /// The encoded value, when it is small and this worker does not hold it.
        pub value: Option<SmallBytes>,
        /// Workers that hold it. Empty, and no `value`: this worker holds it or will make it.
        pub holders: SmallVec<[WorkerNo; 2]>,
    }

    pub struct TaskAttempt {
        pub task: TaskId,
        pub attempt: Attempt,
    }

    pub struct DepHolders {
        pub dep: TaskId,
        pub holders: SmallVec<[WorkerNo; 2]>,
        /// The encoded value, when the scheduler has it.
        pub value: Option<SmallBytes>,
    }

    pub struct RunCall {
        pub request: u64,
        pub payload: Bytes,
    }

    pub struct TaskDone {
        pub task: TaskId,
        pub attempt: Attempt,
        pub size_bytes: u64,
        pub duration_ns: u64,
        /// The encoded result, when it is small.
        pub value: Option<SmallBytes>,
    }

    pub struct TaskErred {
        pub task: TaskId,
        pub attempt: Attempt,
        pub duration_ns: u64,
        pub error: ErrorInfo,
    }

    pub struct UnsentInput {
        pub task: TaskId,
        pub attempt: Attempt,
        /// Who has the input.
        pub holder: WorkerNo,
        /// Why it cannot be sent.
        pub error: ErrorInfo,
    }

    pub struct DepMissing {
        pub dep: TaskId,
        /// The workers that were asked in vain.
        pub asked: SmallVec<[WorkerNo; 2]>,
        /// Whether one of them did not refuse, but said nothing for seconds.
        pub is_silence: bool,
    }

    pub struct Retracted {
        pub task: TaskId,
        pub attempt: Attempt,
        /// Whether the task had not started and is given back.
        pub given_back: bool,
    }

    pub struct Heartbeat {
        /// Tasks that run now, with how long they have been running, in us.
        pub executing: Vec<(TaskId, Attempt, u64)>,
        pub ready: u32,
        /// Bytes of results held, as estimated.
        pub managed_bytes: u64,
        /// Resident memory of the process in bytes.
        pub resident_bytes: u64,
        /// CPU use of the process in percent of one core.
        pub cpu_percent: f64,
        /// Those of `managed_bytes` that are on disk only.
        pub spilled_bytes: u64,
        /// What spilled results occupy on disk.
        pub disk_bytes: u64,
        /// Those of `managed_bytes` that cannot go to disk: they do not pickle.
        pub unspillable_bytes: u64,
        /// Why nothing can go to disk now; empty if it can.
        pub spill_error: String,
    }

    pub struct RunDone {
        pub request: u64,
        pub ok: bool,
        pub payload: Bytes,
    }
}
