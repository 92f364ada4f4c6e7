//! A converted graph on its way to the scheduler, in pieces: the first tasks run while the last
//! ones are being converted.

use super::lower::{Lowered, Lowering, Session};
use super::nodes::{Collector, Input, Node, Nodes};
use crate::client::{CoreClient, FUNCTIONS};
use crate::ending::{Inside, detached};
use crate::future::{CoreFuture, client_token};
use crate::keys::{decode_key, encode_key};
use crate::waiting::current_task;
use hashbrown::HashMap;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;
use taskloom_proto::TaskOptions;
use taskloom_proto::client::{SubmitBatch, TaskSpec};
use taskloom_runtime::client::{Client, FunctionSpec, Held};
use taskloom_types::{FunctionId, Handle, Key, TaskId};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Tasks in a piece.
const PIECE: usize = 1000;

/// A piece with this many bytes of tasks is sent though it has fewer: messages are bounded.
const PIECE_BYTES: usize = 16 * 1024 * 1024;

/// How long to wait for a worker that takes data which is too large for a task, in seconds.
const SCATTER_TIMEOUT_S: f64 = 60.0;

/// The most that one task may take, in bytes.
const LARGEST_TASK: usize = 224 * 1024 * 1024;

/// Tasks from this size on, in bytes, are reported as large.
const LARGE_TASK: usize = 64 * 1024;

/// A graph as the Python side hands it over.
pub struct GraphSubmission<'a, 'py> {
    /// Key to dask node, or to a task of tuples.
    pub graph: &'a Bound<'py, PyDict>,
    /// Keys that get a future.
    pub wanted: &'a Bound<'py, PyList>,
    /// All options that occur; the first are those of keys that `option_of` does not name.
    pub options: Vec<TaskOptions>,
    /// For each of `options`, what kind of results they are.
    pub flags: Vec<u8>,
    /// Key to position in `options`.
    pub option_of: &'a Bound<'py, PyDict>,
    pub fifo_us: u64,
}

/// What a submission came to.
pub struct Submitted {
    /// One for each wanted key.
    pub futures: Vec<Held>,
    /// Size of the tasks that carry large objects.
    pub large_bytes: usize,
}

/// The client's side of the conversion.
struct Remote<'a, 'py> {
    core: &'a Bound<'py, CoreClient>,
    functions: HashMap<FunctionId, Arc<FunctionSpec>>,
    /// Futures of scattered data: they live until the tasks that use the data are sent.
    scattered: Vec<Bound<'py, CoreFuture>>,
}

impl<'py> Session<'py> for Remote<'_, 'py> {
    fn function(&mut self, function: &Bound<'py, PyAny>) -> PyResult<FunctionId> {
        let spec = FUNCTIONS.get(function)?.spec;
        let id = spec.id;
        self.functions.insert(id, spec);
        Ok(id)
    }

    fn future(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<Handle>> {
        let Ok(future) = object.cast::<CoreFuture>() else { return Ok(None) };
        if client_token(future.get().owner()) != client_token(&self.core.get().client) {
            return Err(PyValueError::new_err("the graph has a future of another client in it"));
        }
        Ok(Some(future.get().entry().handle))
    }

    fn is_future(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_instance_of::<CoreFuture>()
    }

    fn scatter(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Option<Handle>> {
        let py = object.py();
        let key = decode_key(py, &self.core.get().unique_key("data"))?;
        let no_workers: Vec<String> = Vec::new();
        let arguments = (vec![(key, object)], no_workers, false, SCATTER_TIMEOUT_S);
        let operation = self.core.call_method1(intern!(py, "scatter"), arguments)?;
        let futures = operation.call_method0(intern!(py, "block"))?;
        let future = futures.get_item(0)?.cast_into::<CoreFuture>()?;
        let handle = future.get().entry().handle;
        self.scattered.push(future);
        Ok(Some(handle))
    }
}

/// Sends a graph. All that the wanted keys need is submitted, except what the client has.
///
/// # Errors
/// What is wrong with the graph itself is raised before anything is sent. When an argument turns
/// out not to be serializable, what was sent until then is given up.
pub fn submit_graph<'py>(
    core: &Bound<'py, CoreClient>,
    submission: GraphSubmission<'_, 'py>,
) -> PyResult<Submitted> {
    let py = core.py();
    let _inside = Inside::enter(py);
    let client = &core.get().client;
    // Entries that the graph uses stay alive until it is sent.
    let held: RefCell<HashMap<Handle, Held>> = RefCell::default();
    // Keys that nobody holds any more are given up first: their results are not to be used.
    drop(client.submission());
    let holds_keys = client.held_keys() > 0;
    let known = |key: &Bound<'py, PyAny>| -> PyResult<Option<Handle>> {
        if !holds_keys {
            return Ok(None);
        }
        let Some(found) = client.find(&encode_key(key)?) else { return Ok(None) };
        let handle = found.entry().handle;
        held.borrow_mut().insert(handle, found);
        Ok(Some(handle))
    };
    let mut collector = Collector::new(submission.graph, &known)?;
    for key in submission.wanted.iter() {
        collector.want(&key)?;
    }
    let nodes = collector.finish()?;
    let positions = nodes.order()?;
    let mut sequence: Vec<u32> = (0..positions.len() as u32).collect();
    sequence.sort_unstable_by_key(|&node| positions[node as usize]);
    let remote = Remote { core, functions: HashMap::new(), scattered: Vec::new() };
    let lowering = Lowering::new(py, &nodes, remote)?;
    let mut sender = Sender::new(client, &nodes, submission.fifo_us);
    let sent = sender.send_all(lowering, &sequence, &submission);
    sender.finish();
    sent?;
    let mut held = held.into_inner();
    held.extend(sender.wanted.drain(..).map(|held| (held.entry().handle, held)));
    let future = |key: Bound<'py, PyAny>| -> PyResult<Held> {
        let handle = match nodes.input(&key)? {
            Some(Input::Known(handle)) => Some(handle),
            Some(Input::Node(node)) => sender.handles.get(node as usize).copied(),
            None => None,
        };
        let held = handle.and_then(|handle| held.get(&handle));
        let held = held.ok_or_else(|| PyValueError::new_err("a wanted key was not submitted"))?;
        Ok(held.clone())
    };
    let futures = submission.wanted.iter().map(future).collect::<PyResult<_>>()?;
    Ok(Submitted { futures, large_bytes: sender.large_bytes })
}

/// Things that the tasks of a piece name by position.
#[derive(Default)]
struct Positions<T> {
    items: Vec<T>,
    of: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Positions<T> {
    fn of(&mut self, item: &T) -> u32 {
        if let Some(&position) = self.of.get(item) {
            return position;
        }
        self.of.insert(item.clone(), self.items.len() as u32);
        self.items.push(item.clone());
        self.items.len() as u32 - 1
    }
}

/// A task whose handle is not known yet.
struct Pending {
    node: u32,
    key: Key,
    prefix: u32,
    option: u32,
    flags: u8,
    order: u64,
    spec_hash: u64,
    functions: SmallVec<[u32; 2]>,
    inputs: SmallVec<[Input; 2]>,
    body: taskloom_proto::Body,
}

/// A piece under way.
#[derive(Default)]
struct Piece {
    tasks: Vec<Pending>,
    functions: Positions<FunctionId>,
    options: Positions<u32>,
    prefixes: Positions<u32>,
    size_bytes: usize,
}

struct Sender<'a> {
    client: &'a Arc<Client>,
    submission: u64,
    fifo_timeout_us: u64,
    parent: Option<TaskId>,
    /// Per node, once it was sent.
    handles: Vec<Handle>,
    /// Per node, once it was converted.
    key_hashes: Vec<u64>,
    wanted: Vec<Held>,
    piece: Piece,
    prefixes: Prefixes,
    large_bytes: usize,
    is_finished: bool,
    has_sent: bool,
}

impl<'a> Sender<'a> {
    fn new(client: &'a Arc<Client>, nodes: &Nodes<'_>, fifo_timeout_us: u64) -> Self {
        Self {
            client,
            submission: client.next_submission(),
            fifo_timeout_us,
            parent: current_task(),
            handles: vec![Handle(0); nodes.nodes.len()],
            key_hashes: vec![0; nodes.nodes.len()],
            wanted: Vec::new(),
            piece: Piece::default(),
            prefixes: Prefixes::default(),
            large_bytes: 0,
            is_finished: false,
            has_sent: false,
        }
    }

    fn send_all<'py>(
        &mut self,
        mut lowering: Lowering<'_, 'py, Remote<'_, 'py>>,
        sequence: &[u32],
        submission: &GraphSubmission<'_, 'py>,
    ) -> PyResult<()> {
        let py = submission.graph.py();
        for (order, &number) in sequence.iter().enumerate() {
            let node = lowering.node(number);
            let option = option_of(node, submission)?;
            let lowered = lowering.task(number)?;
            let root = lowered.root_function.and_then(|id| lowering.session.functions.get(&id));
            let is_coroutine = root.is_some_and(|spec| spec.is_coroutine);
            let flags = if is_coroutine { TaskSpec::COROUTINE } else { 0 }
                | submission.flags.get(option as usize).copied().unwrap_or(0);
            let node = lowering.node(number);
            self.add(node, number, order as u64, option, flags, lowered)?;
            let is_last = order + 1 == sequence.len();
            let is_full = self.piece.tasks.len() >= PIECE || self.piece.size_bytes >= PIECE_BYTES;
            if is_last || is_full {
                self.send_piece(&lowering.session, &submission.options, is_last);
                py.check_signals()?;
                let client = self.client;
                detached(py, || client.wait_for_room());
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        node: &Node<'_>,
        number: u32,
        order: u64,
        option: u32,
        flags: u8,
        lowered: Lowered,
    ) -> PyResult<()> {
        let key = encode_key(&node.key)?;
        let wanted = if node.wanted { TaskSpec::WANTED } else { 0 };
        let flags = flags | TaskSpec::GRAPH | wanted;
        let prefix = self.prefixes.of(&node.key, &key);
        if lowered.body.len() > LARGEST_TASK {
            return Err(PyValueError::new_err(format!(
                "the task {key} carries {} MiB of data: use smaller chunks, scatter the data and \
                 pass futures, or load it inside tasks",
                lowered.body.len() >> 20
            )));
        }
        self.piece.size_bytes += lowered.body.len();
        if lowered.body.len() >= LARGE_TASK {
            self.large_bytes += lowered.body.len();
        }
        self.key_hashes[number as usize] = xxh3_64(key.as_bytes());
        let spec_hash = self.spec_hash(&lowered);
        let functions = lowered.functions.iter().map(|id| self.piece.functions.of(id)).collect();
        self.piece.tasks.push(Pending {
            node: number,
            prefix: self.piece.prefixes.of(&prefix),
            option: self.piece.options.of(&option),
            flags,
            order,
            spec_hash,
            functions,
            inputs: lowered.inputs,
            body: lowered.body,
            key,
        });
        Ok(())
    }

    /// A hash of the call: of its body, its functions and its inputs.
    fn spec_hash(&self, lowered: &Lowered) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&lowered.body);
        lowered.functions.iter().for_each(|id| hash.update(&id.0.to_le_bytes()));
        for input in &lowered.inputs {
            // Inputs are converted before the tasks that need them.
            let number = match *input {
                Input::Node(node) => self.key_hashes[node as usize],
                Input::Known(handle) => handle.0,
            };
            hash.update(&number.to_le_bytes());
        }
        hash.digest()
    }

    /// Gives the tasks of the piece their handles and queues it, as one step of the client.
    fn send_piece(&mut self, session: &Remote<'_, '_>, options: &[TaskOptions], last: bool) {
        let piece = std::mem::take(&mut self.piece);
        let mut submission = self.client.submission();
        // Twice: learning a new function may make the client forget one of the first.
        for _ in 0..2 {
            for spec in piece.functions.items.iter().filter_map(|id| session.functions.get(id)) {
                submission.register(spec);
            }
        }
        let mut tasks = Vec::with_capacity(piece.tasks.len());
        for pending in piece.tasks {
            let is_wanted = pending.flags & TaskSpec::WANTED != 0;
            let handle = if is_wanted {
                // Another thread may have submitted the key in the meantime: its task is kept.
                let (held, is_new) = match submission.find(&pending.key) {
                    Some(held) => (held, false),
                    None => (submission.add(pending.key.clone(), pending.spec_hash), true),
                };
                let handle = held.entry().handle;
                self.handles[pending.node as usize] = handle;
                self.wanted.push(held);
                if !is_new {
                    continue;
                }
                handle
            } else {
                submission.new_handle()
            };
            self.handles[pending.node as usize] = handle;
            let handle_of = |input: &Input| match *input {
                Input::Node(node) => self.handles[node as usize],
                Input::Known(handle) => handle,
            };
            tasks.push(TaskSpec {
                handle,
                flags: pending.flags,
                key: pending.key,
                prefix: pending.prefix,
                option: pending.option,
                order: pending.order,
                spec_hash: pending.spec_hash,
                functions: pending.functions,
                deps: pending.inputs.iter().map(handle_of).collect(),
                body: pending.body,
            });
        }
        let used = |positions: &[u32]| -> Vec<TaskOptions> {
            positions.iter().map(|&at| options[at as usize].clone()).collect()
        };
        submission.send(SubmitBatch {
            submission: self.submission,
            last,
            fifo_timeout_us: self.fifo_timeout_us,
            parent: self.parent,
            functions: piece.functions.items,
            options: used(&piece.options.items),
            prefixes: self.prefixes.names(&piece.prefixes.items),
            tasks,
        });
        submission.flush();
        self.has_sent = true;
        self.is_finished = last;
    }

    /// Ends a submission that an error cut short: the scheduler then drops what nobody wants.
    fn finish(&mut self) {
        if self.is_finished || !self.has_sent {
            return;
        }
        self.is_finished = true;
        let mut submission = self.client.submission();
        submission.send(SubmitBatch {
            submission: self.submission,
            last: true,
            fifo_timeout_us: self.fifo_timeout_us,
            parent: self.parent,
            ..SubmitBatch::default()
        });
        submission.flush();
    }
}

/// The position of a node's options.
fn option_of(node: &Node<'_>, submission: &GraphSubmission<'_, '_>) -> PyResult<u32> {
    if submission.option_of.is_empty() {
        return Ok(0);
    }
    let position = match submission.option_of.get_item(&node.origin)? {
        Some(position) => Some(position),
        None => submission.option_of.get_item(&node.key)?,
    };
    let position: usize = position.map_or(Ok(0), |position| position.extract())?;
    if position >= submission.options.len() {
        return Err(PyValueError::new_err("there are no such options"));
    }
    Ok(position as u32)
}

/// Names of groups of tasks, found once per group where the keys are tuples with a common name.
#[derive(Default)]
struct Prefixes {
    names: Vec<String>,
    by_name: HashMap<String, u32>,
    by_address: HashMap<usize, u32>,
}

impl Prefixes {
    fn of(&mut self, object: &Bound<'_, PyAny>, key: &Key) -> u32 {
        let first = object.cast_exact::<PyTuple>().ok().and_then(|key| key.get_item(0).ok());
        // The graph keeps the name alive, so that its address stays its own.
        let address = first.map(|name| name.as_ptr() as usize);
        if let Some(&number) = address.as_ref().and_then(|address| self.by_address.get(address)) {
            return number;
        }
        let name = key.prefix();
        let number = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() as u32 - 1
        });
        if let Some(address) = address {
            self.by_address.insert(address, number);
        }
        number
    }

    fn names(&self, numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|&number| self.names[number as usize].clone()).collect()
    }
}
