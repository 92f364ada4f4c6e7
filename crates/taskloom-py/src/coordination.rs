//! Locks, queues and other shared objects: requests to the scheduler as operations, and what they
//! give as objects that let go when they are dropped.

use crate::client::CoreClient;
use crate::codec::{Dependencies, Work, Writer, decode_body};
use crate::errors::answer_error;
use crate::future::CoreFuture;
use crate::keys::encode_key;
use crate::plain::{from_python, map_key};
use crate::values::to_python;
use crate::waiting::{Operation, Rounds, Slot};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use taskloom_proto::Value;
use taskloom_proto::client::Answer;
use taskloom_proto::coordination::{
    Acquire, AcquireMany, Coordination, GetItems, OpenQueue, Publish, PutItem, RegisterSemaphore,
    SetEvent, SetMetadata, SetVariable, SharedValue, WaitFor,
};
use taskloom_runtime::client::{Client, Held, PendingAnswer, Wait};
use taskloom_types::Key;

/// The most that one shared value may take: all of them rest in the scheduler.
const LIMIT: usize = 64 * 1024 * 1024;

/// What a request gave, bound to the connection: let go of when it is dropped.
struct Grant {
    client: Arc<Client>,
    request: u64,
    is_over: AtomicBool,
}

impl Grant {
    fn new(client: &Arc<Client>, request: u64) -> Self {
        Self { client: client.clone(), request, is_over: AtomicBool::new(false) }
    }

    /// Whether nobody ended it before.
    fn end(&self) -> bool {
        !self.is_over.swap(true, Ordering::AcqRel)
    }
}

impl Drop for Grant {
    /// Never blocks and never runs foreign code: a garbage collector may call it anywhere.
    fn drop(&mut self) {
        if self.end() {
            self.client.settle_soon(self.request);
        }
    }
}

/// A lease of a lock or semaphore, some locks, or the use of a queue. Dropping it lets go.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct Lease(Grant);

#[pymethods]
impl Lease {
    /// Let go. The operation gives whether it was still held.
    fn release(&self) -> Operation {
        self.0.end();
        request(&self.0.client, Coordination::Release(self.0.request), Reading::Plain)
    }

    /// Use the queue no more; the last one that does so takes it away.
    fn close(&self) -> Operation {
        self.0.end();
        request(&self.0.client, Coordination::CloseQueue(self.0.request), Reading::Plain)
    }
}

/// Shared values on their way to the caller. Dropping it unread puts a queue's items back.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct Delivery {
    core: Py<CoreClient>,
    grant: Grant,
    entries: Vec<Option<Entry>>,
}

struct Entry {
    payload: Bytes,
    /// Futures in the value, and whether the scheduler knows their tasks.
    keys: Vec<(Key, bool)>,
}

fn entry_of(value: Value) -> Option<Entry> {
    let Value::List(parts) = value else { return None };
    let [Value::Bytes(payload), Value::List(keys), Value::List(known)] = parts.as_slice() else {
        return None;
    };
    let key = |(key, known): (&Value, &Value)| match (key, known) {
        (Value::Key(key), Value::Bool(known)) => Some((key.clone(), *known)),
        _ => None,
    };
    let keys = keys.iter().zip(known).map(key).collect::<Option<_>>()?;
    Some(Entry { payload: payload.clone(), keys })
}

impl Delivery {
    fn new(core: &Py<CoreClient>, grant: Grant, value: Value, py: Python<'_>) -> Self {
        let Value::List(items) = value else {
            return Self { core: core.clone_ref(py), grant, entries: vec![] };
        };
        let entries = items.into_iter().map(entry_of).collect();
        Self { core: core.clone_ref(py), grant, entries }
    }

    /// Futures of this client for the keys of a value.
    fn bind(&self, keys: &[(Key, bool)]) -> Vec<Held> {
        let mut submission = self.grant.client.submission();
        let hold = |(key, is_known): &(Key, bool)| {
            if *is_known { submission.desire(key) } else { submission.lost(key) }
        };
        let held = keys.iter().map(hold).collect();
        submission.flush();
        held
    }

    fn decode<'py>(&self, py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyAny>> {
        let held = self.bind(&entry.keys);
        let core = self.core.get();
        let futures = held.iter().map(|held| Ok(core.future(py, held.clone())?.unbind()));
        let futures = futures.collect::<PyResult<Vec<_>>>()?;
        let work = decode_body(py, &entry.payload, &[], &futures);
        if entry.keys.iter().any(|(_, is_known)| !is_known) {
            let mut submission = self.grant.client.submission();
            held.iter().for_each(|held| submission.forget_lost(held));
            submission.flush();
        }
        match work? {
            Work::Value(list) => list.get_item(0),
            Work::Call { .. } => Err(PyValueError::new_err("damaged encoding: a call as a value")),
        }
    }
}

#[pymethods]
impl Delivery {
    /// The values, each as ``(True, value)``, or ``(False, None)`` where there was none. Futures
    /// in them belong to this client; run it where the client is the current one. A value that
    /// cannot be unpickled here is taken all the same.
    fn load<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let row = |entry: &Option<Entry>| match entry {
            Some(entry) => Ok((true, self.decode(py, entry)?.unbind())),
            None => Ok((false, py.None())),
        };
        let rows = self.entries.iter().map(row).collect::<PyResult<Vec<_>>>();
        if self.grant.end() {
            self.grant.client.settle(self.grant.request, true);
        }
        PyList::new(py, rows?)
    }
}

/// Futures in a value that is being written.
struct SharedDeps<'a> {
    core: &'a CoreClient,
    held: Vec<Held>,
    positions: HashMap<Key, u32>,
}

impl SharedDeps<'_> {
    fn add(&mut self, py: Python<'_>, future: &CoreFuture) -> PyResult<u32> {
        future.live(py)?;
        let key = &future.entry().key;
        if let Some(position) = self.positions.get(key) {
            return Ok(*position);
        }
        let position = self.held.len() as u32;
        self.held.push(self.core.hold(future)?);
        self.positions.insert(key.clone(), position);
        Ok(position)
    }
}

impl Dependencies for SharedDeps<'_> {
    fn is_dependency(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_instance_of::<CoreFuture>()
    }

    fn position(&mut self, object: &Bound<'_, PyAny>) -> PyResult<u32> {
        self.add(object.py(), object.cast::<CoreFuture>()?.get())
    }
}

/// A value for the scheduler to keep, and references to the futures in it that must live until
/// the scheduler has it. `futures`: collects those inside of pickled objects; left empty.
fn share(
    core: &CoreClient,
    value: &Bound<'_, PyAny>,
    futures: &Bound<'_, PyList>,
) -> PyResult<(SharedValue, Vec<Held>)> {
    let mut deps = SharedDeps { core, held: Vec::new(), positions: HashMap::new() };
    let mut writer = Writer::contiguous();
    // Inside a list a named tuple, which is written as a call, is no call of its own.
    writer.start_list(1)?;
    writer.object(value, &mut deps)?;
    for future in futures.iter() {
        deps.add(value.py(), future.cast::<CoreFuture>()?.get())?;
    }
    futures.del_slice(0, futures.len())?;
    let length = writer.as_slice().len();
    if length > LIMIT {
        return Err(PyValueError::new_err(format!(
            "a value of {} MiB is too large to be kept by the scheduler: scatter it and share \
             the future",
            length >> 20
        )));
    }
    let keys = deps.held.iter().map(|held| held.entry().key.clone()).collect();
    Ok((SharedValue { payload: Bytes::copy_from_slice(writer.as_slice()), keys }, deps.held))
}

/// Seconds; `None` means for ever.
fn timeout_ns(seconds: Option<f64>) -> Option<u64> {
    let nanos = seconds?.max(0.0) * 1e9;
    // A time-out of centuries is none.
    (nanos < u64::MAX as f64).then_some(nanos as u64)
}

/// How an answer becomes a Python object.
enum Reading {
    Plain,
    /// A [`Lease`], or `None` when time was over.
    Lease,
    /// A [`Delivery`].
    Values(Py<CoreClient>),
}

/// Builds what to ask from its name and its arguments as the facade gives them. References to
/// futures are to be kept until it is sent.
fn coordination(
    core: &CoreClient,
    name: &str,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<(Coordination, Vec<Held>)> {
    let item = |position: usize| arguments.get_item(position);
    let key = |position: usize| encode_key(&item(position)?);
    let timeout = |position: usize| PyResult::Ok(timeout_ns(item(position)?.extract()?));
    let keys = |position: usize| {
        item(position)?.try_iter()?.map(|key| encode_key(&key?)).collect::<PyResult<Vec<_>>>()
    };
    let mut held = Vec::new();
    let what = match name {
        "acquire" => Coordination::Acquire(Acquire {
            name: key(0)?,
            max_leases: item(1)?.extract()?,
            registers: item(2)?.extract()?,
            is_lasting: item(3)?.extract()?,
            timeout_ns: timeout(4)?,
        }),
        "acquire_many" => Coordination::AcquireMany(AcquireMany {
            names: keys(0)?,
            count: item(1)?.extract()?,
            timeout_ns: timeout(2)?,
        }),
        "count_leases" => Coordination::CountLeases(key(0)?),
        "register_semaphore" => Coordination::RegisterSemaphore(RegisterSemaphore {
            name: key(0)?,
            max_leases: item(1)?.extract()?,
        }),
        "close_semaphore" => Coordination::CloseSemaphore(key(0)?),
        "wait_for_event" => {
            Coordination::WaitForEvent(WaitFor { name: key(0)?, timeout_ns: timeout(1)? })
        }
        "set_event" => {
            Coordination::SetEvent(SetEvent { name: key(0)?, is_set: item(1)?.extract()? })
        }
        "is_event_set" => Coordination::IsEventSet(key(0)?),
        "put" => {
            let value;
            (value, held) = share(core, &item(1)?, item(2)?.cast::<PyList>()?)?;
            Coordination::PutItem(PutItem { name: key(0)?, value, timeout_ns: timeout(3)? })
        }
        "get" => Coordination::GetItems(GetItems {
            name: key(0)?,
            count: item(1)?.extract()?,
            timeout_ns: timeout(2)?,
        }),
        "queue_size" => Coordination::QueueSize(key(0)?),
        "set_variable" => {
            let value;
            (value, held) = share(core, &item(1)?, item(2)?.cast::<PyList>()?)?;
            Coordination::SetVariable(SetVariable { name: key(0)?, value })
        }
        "get_variable" => {
            Coordination::GetVariable(WaitFor { name: key(0)?, timeout_ns: timeout(1)? })
        }
        "delete_variable" => Coordination::DeleteVariable(key(0)?),
        "publish" => {
            let mut entries = Vec::new();
            for entry in item(0)?.try_iter()? {
                let (name, value, futures) =
                    entry?.extract::<(Bound<_>, Bound<_>, Bound<PyList>)>()?;
                let (value, futures) = share(core, &value, &futures)?;
                entries.push((encode_key(&name)?, value));
                held.extend(futures);
            }
            Coordination::Publish(Publish { entries, replaces: item(1)?.extract()? })
        }
        "get_datasets" => Coordination::GetDatasets(keys(0)?),
        "unpublish" => Coordination::Unpublish(keys(0)?),
        "list_datasets" => Coordination::ListDatasets(0),
        "set_metadata" => {
            let path = item(0)?.try_iter()?.map(|key| map_key(&key?));
            let path = path.collect::<PyResult<Vec<_>>>()?;
            Coordination::SetMetadata(SetMetadata { path, value: from_python(&item(1)?)? })
        }
        "get_metadata" => {
            let path = item(0)?.try_iter()?.map(|key| map_key(&key?));
            Coordination::GetMetadata(path.collect::<PyResult<Vec<_>>>()?)
        }
        _ => return Err(PyValueError::new_err(format!("no such request: {name}"))),
    };
    Ok((what, held))
}

fn reading(core: &Bound<'_, CoreClient>, what: &Coordination) -> Reading {
    match what {
        Coordination::Acquire(_) | Coordination::AcquireMany(_) => Reading::Lease,
        Coordination::GetItems(_) | Coordination::GetVariable(_) | Coordination::GetDatasets(_) => {
            Reading::Values(core.clone().unbind())
        }
        _ => Reading::Plain,
    }
}

fn request(client: &Arc<Client>, what: Coordination, reading: Reading) -> Operation {
    let (request, pending) = client.coordinate(what);
    let grant = Mutex::new(Some(Grant::new(client, request)));
    Operation::new(CoordinationRounds { grant, pending, answer: Mutex::new(None), reading })
}

/// A request as an operation. Giving it up, or dropping it before its end, withdraws it.
struct CoordinationRounds {
    grant: Mutex<Option<Grant>>,
    pending: Arc<PendingAnswer>,
    answer: Mutex<Option<Answer>>,
    reading: Reading,
}

impl CoordinationRounds {
    /// Nothing that could be let go came of it.
    fn end(&self) {
        if let Some(grant) = self.grant.lock().take() {
            grant.end();
        }
    }
}

impl Rounds for CoordinationRounds {
    /// As in distributed: code that takes locks on a worker of one thread may count on being the
    /// only one in its process, and may hold locks of the process meanwhile.
    fn slot(&self) -> Slot {
        Slot::Kept
    }

    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        let mut answer = self.answer.lock();
        if answer.is_none() {
            *answer = self.pending.take();
        }
        if answer.is_some() {
            return Ok(true);
        }
        self.pending.wait_with(&make_wait(1));
        Ok(false)
    }

    fn give_up(&self, _wait: &Arc<Wait>) {
        if let Some(grant) = self.grant.lock().take()
            && grant.end()
        {
            grant.client.settle(grant.request, false);
        }
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let answer = self.answer.lock().take();
        let answer = answer.ok_or_else(|| PyRuntimeError::new_err("the answer was taken"))?;
        if !answer.error_kind.is_empty() {
            self.end();
            return Err(coordination_error(py, &answer));
        }
        match &self.reading {
            Reading::Plain => {
                self.end();
                Ok(to_python(py, &answer.value)?.unbind())
            }
            Reading::Lease => {
                let grant = self.grant.lock().take();
                match grant {
                    Some(grant) if answer.value == Value::Bool(true) => {
                        Ok(Py::new(py, Lease(grant))?.into_any())
                    }
                    Some(grant) => {
                        grant.end();
                        Ok(py.None())
                    }
                    None => Err(PyRuntimeError::new_err("the request was given up")),
                }
            }
            Reading::Values(core) => {
                let grant = self.grant.lock().take();
                let grant =
                    grant.ok_or_else(|| PyRuntimeError::new_err("the request was given up"))?;
                let delivery = Delivery::new(core, grant, answer.value, py);
                Ok(Py::new(py, delivery)?.into_any())
            }
        }
    }

    fn timeout_message(&self) -> String {
        "the scheduler did not answer in time".into()
    }

    fn stops_on_failure(&self) -> bool {
        false
    }
}

fn coordination_error(py: Python<'_>, answer: &Answer) -> PyErr {
    let text = answer.error.clone();
    match answer.error_kind.as_str() {
        "value" => PyValueError::new_err(text),
        "key" => pyo3::exceptions::PyKeyError::new_err(text),
        kind => answer_error(py, kind, &text),
    }
}

/// Ask for something of a shared object.
#[pyfunction]
#[pyo3(signature = (core, name, *arguments))]
fn coordinate(
    core: &Bound<'_, CoreClient>,
    name: &str,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Operation> {
    let client = core.get();
    client.check_open(core.py())?;
    let (what, held) = coordination(client, name, arguments)?;
    let reading = reading(core, &what);
    let operation = request(&client.client, what, reading);
    // The scheduler hears of their release after the request.
    drop(held);
    Ok(operation)
}

/// Start to use a queue; what follows from this client finds it there.
#[pyfunction]
fn open_queue(
    core: &Bound<'_, CoreClient>,
    name: &Bound<'_, PyAny>,
    max_size: u64,
) -> PyResult<Lease> {
    let client = core.get();
    client.check_open(core.py())?;
    let open = OpenQueue { name: encode_key(name)?, max_size };
    let (request, _) = client.client.coordinate(Coordination::OpenQueue(open));
    Ok(Lease(Grant::new(&client.client, request)))
}

/// Adds the classes and functions of this topic to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lease>()?;
    module.add_class::<Delivery>()?;
    module.add_function(wrap_pyfunction!(coordinate, module)?)?;
    module.add_function(wrap_pyfunction!(open_queue, module)?)
}
