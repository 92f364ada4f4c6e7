//! Messages between a client and the scheduler.

use crate::actor::{ActorNews, UnwatchActor, WatchActor};
use crate::control::{ControlQuestion, EventNews, LogEvent};
use crate::coordination::{Coordination, Settle};
use crate::gone::WorkerGone;
use crate::rejoin::Claim;
use crate::shared::{Body, ErrorInfo, TaskOptions};
use crate::small::SmallBytes;
use crate::value::Value;
use crate::{wire_messages, wire_record};
use bytes::Bytes;
use smallvec::SmallVec;
use taskloom_types::{FunctionId, Handle, Key, TaskId, WorkerNo};

/// A random number that names one pickling of a future.
pub type Ticket = u128;

wire_messages! {
    /// From a client to the scheduler.
    pub enum ClientToScheduler {
        /// First message of a session.
        1 => Register(RegisterClient),
        2 => RegisterFunction(RegisterFunction),
        /// The client's cache dropped these functions: it will send them again before use.
        3 => ForgetFunctions(Functions),
        4 => Submit(SubmitBatch),
        /// The client holds these keys no more.
        5 => Release(Handles),
        /// The client wants a key that somebody else made (an unpickled future).
        6 => Desire(Desire),
        7 => Cancel(Cancel),
        /// Run erred tasks again, and the erred ones they depend on.
        8 => Retry(Handles),
        /// Keep these tasks until they are done although nobody holds them (`fire_and_forget`).
        9 => Detach(Handles),
        /// A direct fetch failed: these workers do not have the result.
        10 => FetchFailed(FetchFailed),
        /// A question with exactly one [`SchedulerToClient::Reply`].
        11 => Request(Request),
        60 => LogEvent(LogEvent),
        /// The client wants to hear of events of these topics.
        61 => Subscribe(Vec<String>),
        62 => Unsubscribe(Vec<String>),
        /// The client lets go of what a [`Coordination`] gave it, or waits for it no more.
        48 => Settle(Settle),
        /// A future was pickled: its result is kept until somebody unpickles it.
        40 => Deposit(Deposit),
        /// A future was unpickled: as `Desire`, and the deposit has served.
        41 => Collect(Collect),
        50 => WatchActor(WatchActor),
        51 => UnwatchActor(UnwatchActor),
        /// Results of an earlier session; only at the beginning of one.
        120 => Claim(Vec<Claim>),
    }
}

wire_messages! {
    /// From the scheduler to a client.
    pub enum SchedulerToClient {
        1 => Ready(Vec<KeyReady>),
        2 => Erred(KeyErred),
        3 => Cancelled(KeysCancelled),
        /// The results are gone, and are being computed again.
        4 => Pending(Handles),
        /// Where a worker serves its data; sent before the first message that names the worker.
        5 => Peer(PeerAddress),
        /// A submission used a live key for other work.
        6 => Collision(Collision),
        7 => Reply(Reply),
        /// Something for the user to read; becomes a Python warning.
        8 => Notice(Notice),
        /// The scheduler is going away; nothing more follows.
        9 => Closing(Closing),
        60 => Event(EventNews),
        61 => PeersGone(Vec<WorkerGone>),
        /// Answer to [`ClientToScheduler::WatchActor`], and again at each change.
        50 => ActorNews(ActorNews),
    }
}

wire_record! {
    pub struct RegisterClient {
        /// Shown in `scheduler_info` and in logs.
        pub name: String,
        /// Whether a key collision makes the submission fail instead of a warning.
        pub strict: bool,
        /// Address of the worker whose tasks use this client; empty for others. What the client
        /// holds is free when that worker is lost.
        pub worker: String,
        /// The epoch of the scheduler that the client had a session with before; 0: none.
        pub returns_from: u64,
    }

    /// A serialized function, sent once per connection and then named by its id.
    pub struct RegisterFunction {
        pub id: FunctionId,
        /// For people: the qualified name.
        pub name: String,
        pub payload: Bytes,
    }

    pub struct Functions {
        pub ids: Vec<FunctionId>,
    }

    /// A piece of a submission. A graph may come in many pieces, dependencies first, and its
    /// first tasks run before its last piece is there.
    pub struct SubmitBatch {
        /// The client's number for the whole submission; grows.
        pub submission: u64,
        /// Whether this is the last piece: afterwards the tasks that nobody wants or needs go.
        pub last: bool,
        /// Submissions closer together than this share a generation (Dask: `fifo_timeout`).
        pub fifo_timeout_us: u64,
        /// The task that made this submission: its children sort before its siblings.
        pub parent: Option<TaskId>,
        /// Functions that the tasks name by position.
        pub functions: Vec<FunctionId>,
        /// Options that the tasks name by position.
        pub options: Vec<TaskOptions>,
        /// Key prefixes that the tasks name by position.
        pub prefixes: Vec<String>,
        pub tasks: Vec<TaskSpec>,
    }

    /// One task of a [`SubmitBatch`].
    pub struct TaskSpec {
        pub handle: Handle,
        /// Of [`TaskSpec::WANTED`] and its like.
        pub flags: u8,
        pub key: Key,
        pub prefix: u32,
        pub option: u32,
        /// Position in the submission: smaller runs earlier.
        pub order: u64,
        /// Hash of function and arguments: equal keys with unequal hashes are a collision.
        pub spec_hash: u64,
        pub functions: SmallVec<[u32; 2]>,
        /// Earlier handles of this client: the body names them by position.
        pub deps: SmallVec<[Handle; 2]>,
        pub body: Body,
    }

    pub struct Handles {
        pub handles: Vec<Handle>,
    }

    pub struct Desire {
        pub handle: Handle,
        pub key: Key,
    }

    pub struct Deposit {
        pub handle: Handle,
        pub ticket: Ticket,
    }

    pub struct Collect {
        pub ticket: Ticket,
        /// [`Collect::NO_HANDLE`]: the client has bound the key already.
        pub handle: Handle,
        pub key: Key,
    }

    pub struct Cancel {
        pub handles: Vec<Handle>,
        /// Also when other clients hold the keys.
        pub force: bool,
        pub reason: String,
        pub message: String,
    }

    pub struct FetchFailed {
        pub handle: Handle,
        pub task: TaskId,
        pub workers: Vec<WorkerNo>,
    }

    pub struct KeyReady {
        pub handle: Handle,
        pub task: TaskId,
        /// A worker that holds the result.
        pub worker: WorkerNo,
        pub size_bytes: u64,
        /// The encoded result, when it is small.
        pub value: Option<SmallBytes>,
    }

    pub struct KeyErred {
        pub handles: Vec<Handle>,
        pub error: ErrorInfo,
    }

    pub struct KeysCancelled {
        pub handles: Vec<Handle>,
        /// Machine-readable, such as `unknown`, `lost`, `restarted`.
        pub reason: String,
        pub message: String,
        /// Whether the result was lost, not cancelled by somebody.
        pub lost: bool,
    }

    pub struct PeerAddress {
        pub worker: WorkerNo,
        pub address: String,
    }

    /// Both specs of a collision, in words.
    pub struct Collision {
        pub handle: Handle,
        pub key: Key,
        pub kept: String,
        pub refused: String,
    }

    pub struct Notice {
        pub message: String,
    }

    pub struct Closing {
        pub reason: String,
    }

    pub struct Request {
        pub id: u64,
        pub question: Question,
    }

    pub struct Reply {
        pub id: u64,
        pub answer: Answer,
    }

    /// Where scattered data shall go.
    pub struct PlanScatter {
        /// Per value: the client's handle, its key, and its size in bytes.
        pub items: Vec<(Handle, Key, u64)>,
        /// As [`TaskOptions::workers`].
        pub workers: Vec<String>,
        /// A copy for each worker.
        pub broadcast: bool,
        /// How long to wait for a first worker, in ns.
        pub timeout_ns: u64,
    }

    pub struct RunEverywhere {
        /// The encoded call.
        pub payload: Bytes,
        /// As [`TaskOptions::workers`]; empty means all.
        pub workers: Vec<String>,
        /// Whether to answer before the calls are done.
        pub no_wait: bool,
    }

    pub struct WaitForWorkers {
        pub count: u32,
        /// 0 means for ever.
        pub timeout_ns: u64,
    }

    pub struct RestartWorkers {
        pub timeout_ns: u64,
        /// As [`TaskOptions::workers`]; empty means all workers, and all tasks are forgotten.
        pub workers: Vec<String>,
    }

    /// Which call to give out.
    pub struct Replay {
        pub key: Key,
        /// Of the task that failed first, in place of this one.
        pub cause: bool,
    }

    /// Asks how many workers there should be, and retires some that can be spared.
    pub struct Adapt {
        /// How long the work at hand should take, in ns.
        pub target_ns: u64,
        /// How many threads a new worker would have.
        pub threads: u32,
        /// Retire so many of `workers` at most.
        pub close: u32,
        /// Names of workers that may be retired.
        pub workers: Vec<String>,
    }

    pub struct RetireWorkers {
        /// As [`TaskOptions::workers`]; empty means idle ones chosen by the scheduler.
        pub workers: Vec<String>,
        /// Whether the processes end too.
        pub close: bool,
    }

}

/// What a client may ask. The answer's shape is named in brackets.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Question {
    /// Nothing: the answer proves that all earlier messages were applied. [`Value::Null`]
    #[default]
    Barrier,
    /// `{address, id, workers: {address: {name, nthreads, resources, …}}, tasks: {state: n}, …}`
    SchedulerInfo,
    /// `{key: [address]}` of these keys, or of all when empty.
    WhoHas(Vec<Key>),
    /// `{address: [key]}`; of these workers, or of all when empty.
    HasWhat(Vec<String>),
    /// `{address: [key]}` of the tasks assigned to each worker.
    Processing(Vec<String>),
    /// `{key: bytes}`; of these keys, or of all when empty.
    SizeBytes(Vec<Key>),
    /// `[[time_ns, from, to, cause, worker]]` of a key's last transitions.
    Story(Key),
    /// Why the task is where it is: `{key, state, reason, …}`.
    Explain(Key),
    /// `[[TaskId as int, [address]] …]` in the order asked: where to fetch results.
    Locate(Vec<Handle>),
    /// `[[TaskId as int, [address]] …]`: where to put each value.
    PlanScatter(PlanScatter),
    /// `{address: [ok, payload]}`
    RunEverywhere(RunEverywhere),
    /// [`Value::Null`] once that many workers run.
    WaitForWorkers(WaitForWorkers),
    /// [`Value::Null`] once new workers are there.
    Restart(RestartWorkers),
    /// `{address: {…}}` of the workers that were retired.
    RetireWorkers(RetireWorkers),
    /// Ends workers, supervisors and the scheduler.
    Shutdown,
    /// `{counter: n}`: transitions, stale messages dropped, bytes, …
    Counters,
    /// `{address: {thread: [frame…]}}`: payload of the `call_stack` run on the workers.
    Executing(Vec<Key>),
    /// `{key, functions: [payload], inputs: [key], body}`: a task's call, to be made elsewhere.
    Replay(Replay),
    /// About events, plugins and logs: see there.
    Control(ControlQuestion),
    /// See [`Coordination`].
    Coordinate(Coordination),
    /// `{target, workers, retired: [name]}`
    Adapt(Adapt),
}

impl crate::wire::Wire for Question {
    fn write(&self, out: &mut Vec<u8>) {
        macro_rules! put {
            ($tag:literal $(, $payload:expr)?) => {{
                out.push($tag);
                $( $payload.write(out); )?
            }};
        }
        match self {
            Self::Barrier => put!(0),
            Self::SchedulerInfo => put!(1),
            Self::WhoHas(p) => put!(2, p),
            Self::HasWhat(p) => put!(3, p),
            Self::Processing(p) => put!(4, p),
            Self::SizeBytes(p) => put!(5, p),
            Self::Story(p) => put!(6, p),
            Self::Explain(p) => put!(7, p),
            Self::Locate(p) => put!(8, p),
            Self::PlanScatter(p) => put!(9, p),
            Self::RunEverywhere(p) => put!(10, p),
            Self::WaitForWorkers(p) => put!(11, p),
            Self::Restart(p) => put!(12, p),
            Self::RetireWorkers(p) => put!(13, p),
            Self::Shutdown => put!(14),
            Self::Counters => put!(15),
            Self::Executing(p) => put!(16, p),
            Self::Replay(p) => put!(40, p),
            Self::Control(p) => put!(60, p),
            Self::Coordinate(p) => put!(48, p),
            Self::Adapt(p) => put!(70, p),
        }
    }

    fn read(reader: &mut crate::wire::Reader<'_>) -> Result<Self, crate::wire::DecodeError> {
        use crate::wire::Wire;
        Ok(match u8::read(reader)? {
            0 => Self::Barrier,
            1 => Self::SchedulerInfo,
            2 => Self::WhoHas(Wire::read(reader)?),
            3 => Self::HasWhat(Wire::read(reader)?),
            4 => Self::Processing(Wire::read(reader)?),
            5 => Self::SizeBytes(Wire::read(reader)?),
            6 => Self::Story(Wire::read(reader)?),
            7 => Self::Explain(Wire::read(reader)?),
            8 => Self::Locate(Wire::read(reader)?),
            9 => Self::PlanScatter(Wire::read(reader)?),
            10 => Self::RunEverywhere(Wire::read(reader)?),
            11 => Self::WaitForWorkers(Wire::read(reader)?),
            12 => Self::Restart(Wire::read(reader)?),
            13 => Self::RetireWorkers(Wire::read(reader)?),
            14 => Self::Shutdown,
            15 => Self::Counters,
            16 => Self::Executing(Wire::read(reader)?),
            40 => Self::Replay(Wire::read(reader)?),
            60 => Self::Control(Wire::read(reader)?),
            48 => Self::Coordinate(Wire::read(reader)?),
            70 => Self::Adapt(Wire::read(reader)?),
            tag => return Err(crate::wire::DecodeError::UnknownTag { what: "question", tag }),
        })
    }
}

wire_record! {
    /// An answer, or why there is none.
    pub struct Answer {
        pub value: Value,
        /// Not empty when the question failed.
        pub error: String,
        /// `timeout`, `unknown`, `unsupported`, … when it failed.
        pub error_kind: String,
    }
}

impl Collect {
    /// Of a client that has bound the key already.
    pub const NO_HANDLE: Handle = Handle(0);
}

impl TaskSpec {
    /// A future of the client waits for the task.
    pub const WANTED: u8 = 1;
    /// The function is a coroutine function: it runs on the worker's event loop.
    pub const COROUTINE: u8 = 2;
    /// Part of a graph: dask may give one key several equivalent specs, so the first is kept
    /// and a difference is only counted.
    pub const GRAPH: u8 = 4;
    /// Set by the scheduler: the run occupies resources, so its end is to be reported even if it
    /// was freed meanwhile.
    pub const RESOURCES: u8 = 8;
    /// The result is an actor: it stays where it was made, and is never made again from the call.
    pub const ACTOR: u8 = 16;
    /// The result names what only its worker has, such as files: it is small, always travels
    /// inside messages, and is lost with that worker.
    pub const LOCAL: u8 = 32;
    /// The result names results of inputs, which are kept as long as it is. When one of them is
    /// lost, it is lost, too.
    pub const KEEPS_INPUTS: u8 = 64;
}

impl Answer {
    #[must_use]
    pub fn ok(value: Value) -> Self {
        Self { value, ..Self::default() }
    }

    #[must_use]
    pub fn failed(kind: &str, error: impl Into<String>) -> Self {
        Self { error: error.into(), error_kind: kind.into(), ..Self::default() }
    }
}
