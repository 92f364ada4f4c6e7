//! The worker's side of actors: making them, running their methods, keeping their state safe.

use super::proxy::{Source, encode_proxy};
use crate::codec::{self, NoDependencies, Writer};
use crate::keys::decode_key;
use crate::objects::Object;
use crate::running::{Context, is_coroutine};
use crate::worker::{Inner, set_context_variable};
use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskloom_proto::ErrorInfo;
use taskloom_proto::actor::{ActorCall, ActorLife, ActorSnapshot, MAX_SNAPSHOT_BYTES};
use taskloom_proto::hand_over::ActorHandedOver;
use taskloom_runtime::data::{ActorAnswer, ActorRequest, CallReplier};
use taskloom_runtime::worker::{ActorTurn, Job, LiveActor, Outcome, Turn};
use taskloom_types::Key;

/// An actor where it lives. Its methods' context variable ``current_actor`` holds this object.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct LocalActor {
    key: Key,
    instance: Py<PyAny>,
    /// Calls from one snapshot to the next; 0: none after the first.
    snapshot_every: u32,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    calls: u32,
    snapshots: u64,
}

#[pymethods]
impl LocalActor {
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decode_key(py, &self.key)
    }

    #[getter]
    fn instance(&self, py: Python<'_>) -> Py<PyAny> {
        self.instance.clone_ref(py)
    }
}

impl LocalActor {
    /// A call has ended. Returns whether a snapshot is due by that.
    fn count_call(&self) -> bool {
        if self.snapshot_every == 0 {
            return false;
        }
        let mut counts = self.counts.lock();
        counts.calls += 1;
        let is_due = counts.calls >= self.snapshot_every;
        if is_due {
            counts.calls = 0;
        }
        is_due
    }

    fn next_snapshot(&self) -> u64 {
        let mut counts = self.counts.lock();
        counts.snapshots += 1;
        counts.snapshots
    }

    /// The actor's state as the body of a task that makes it again.
    fn state(&self, py: Python<'_>) -> PyResult<Bytes> {
        let mut writer = Writer::contiguous();
        writer.object(self.instance.bind(py), &mut NoDependencies)?;
        let state = writer.as_slice();
        if state.len() > MAX_SNAPSHOT_BYTES {
            return Err(PyValueError::new_err(format!(
                "the state takes {} MiB, and at most {} MiB are kept: leave out in __getstate__ \
                 what can be made again",
                state.len() >> 20,
                MAX_SNAPSHOT_BYTES >> 20
            )));
        }
        Ok(Bytes::copy_from_slice(state))
    }
}

/// The module with the parts that are easier said in Python.
fn helper(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "taskloom._actor_home"))
}

/// The outcome of a task whose result is to live here.
pub fn make(
    py: Python<'_>,
    worker: &Inner,
    life: ActorLife,
    key: &Key,
    instance: &Bound<'_, PyAny>,
) -> PyResult<Outcome<Object>> {
    let (restart, snapshot_every): (bool, u32) =
        helper(py)?.call_method1(intern!(py, "policy_of"), (instance,))?.extract()?;
    let arguments = (decode_key(py, key)?, instance, worker.owner(py));
    let proxy = helper(py)?.call_method1(intern!(py, "make_proxy"), arguments)?;
    let proxy = encode_proxy(&proxy)?;
    let instance = instance.clone().unbind();
    let counts = Mutex::default();
    let actor = LocalActor { key: key.clone(), instance, snapshot_every, counts };
    if restart {
        // Sent before the news that the actor is there: from the beginning it can be restarted.
        let state = actor.state(py).map_err(|error| unsaved(py, &error))?;
        let number = actor.next_snapshot();
        worker.shell.send_snapshot(ActorSnapshot { actor: life, number, state });
    }
    let object = Object::new(Bound::new(py, actor)?.into_any().unbind());
    Ok(Outcome::Actor { object, proxy })
}

/// A snapshot could not be taken.
fn unsaved(py: Python<'_>, error: &PyErr) -> PyErr {
    let text = error.value(py).str().map_or_else(|_| String::new(), |text| text.to_string());
    let kind = error.get_type(py).name().map_or_else(|_| "error".into(), |n| n.to_string());
    let raised = crate::errors::raise(py, "ActorSnapshotError", (format!("{kind}: {text}"),));
    raised.set_cause(py, Some(error.clone_ref(py)));
    raised
}

/// How long an actor thread stays attached at most before it lets other Python threads in.
const YIELD_AFTER: Duration = Duration::from_millis(5);

/// The body of an actor thread.
pub fn run_actors(py: Python<'_>, worker: &Arc<Inner>) {
    let actors = worker.shell.actors();
    actors.thread_started();
    let mut ended = None;
    let mut attached = Instant::now();
    loop {
        if let Some(turn) = actors.try_next(ended.take()) {
            if attached.elapsed() > YIELD_AFTER {
                py.detach(|| ());
                attached = Instant::now();
            }
            ended = Some(turn.end());
            serve(py, worker, turn);
        } else {
            if !py.detach(|| actors.wait()) {
                return;
            }
            attached = Instant::now();
        }
    }
}

fn serve(py: Python<'_>, worker: &Arc<Inner>, turn: ActorTurn<Object>) {
    let ActorTurn { actor, turn, .. } = turn;
    let object = actor.object.bind(py);
    let Ok(local) = object.cast::<LocalActor>() else { return };
    match turn {
        Turn::HandOver => hand_over(py, worker, actor.life, local.get()),
        Turn::Save(reply, answer) => save(py, worker, &actor, local, reply, answer),
        Turn::Call(request, reply) if request.kind == ActorCall::ATTRIBUTE => {
            let value = local.get().instance.bind(py).getattr(request.name.as_str());
            reply.reply(answer_of(py, worker, local.get(), value));
        }
        Turn::Call(request, reply) => call(py, worker, &actor, local, request, reply),
    }
}

/// Runs a method. One that returned a coroutine goes on on the event loop, and the next may begin.
fn call(
    py: Python<'_>,
    worker: &Arc<Inner>,
    actor: &LiveActor<Object>,
    local: &Bound<'_, LocalActor>,
    request: ActorRequest,
    mut reply: CallReplier,
) {
    let result = Arguments::of(py, request).and_then(|arguments| {
        if !reply.begin() {
            return Ok(None);
        }
        arguments.call(local).map(Some)
    });
    let result = match result.transpose() {
        // The worker leaves, and the caller knows that this did not begin.
        None => return,
        Some(result) => result,
    };
    match result {
        Ok((value, context)) if is_coroutine(&value).unwrap_or(false) => {
            let (local, life) = (local.clone().unbind(), actor.life);
            let reply = Mutex::new(Some(reply));
            let run = MethodRun { worker: worker.clone(), life, local, reply };
            run.start(py, &value, &context);
        }
        Ok((value, _)) => finish(py, worker, actor.life, local, reply, Ok(value)),
        Err(error) => finish(py, worker, actor.life, local, reply, Err(error)),
    }
}

/// A call ready to be made.
struct Arguments<'py> {
    name: String,
    args: Bound<'py, pyo3::types::PyTuple>,
    kwargs: Option<Bound<'py, pyo3::types::PyDict>>,
}

impl<'py> Arguments<'py> {
    fn of(py: Python<'py>, request: ActorRequest) -> PyResult<Self> {
        let ActorRequest { name, deps, segments, .. } = request;
        let mut inputs = Vec::new();
        if !deps.is_empty() {
            let keys = deps.iter().map(|key| decode_key(py, key)).collect::<PyResult<Vec<_>>>()?;
            inputs = helper(py)?.call_method1(intern!(py, "gather"), (keys,))?.extract()?;
        }
        let (args, kwargs) = codec::decode_arguments(py, segments, &inputs)?;
        Ok(Self { name, args, kwargs })
    }

    /// Calls the method in a context of its own, which is returned with the result.
    fn call(self, local: &Bound<'py, LocalActor>) -> PyResult<(Bound<'py, PyAny>, Context<'py>)> {
        let py = local.py();
        let method = local.get().instance.bind(py).getattr(self.name.as_str())?;
        let context = Context::copy(py)?;
        let entered = context.enter(py)?;
        set_context_variable(py, intern!(py, "current_actor"), local.clone().into_any())?;
        let result = method.call(self.args, self.kwargs.as_ref());
        drop(entered);
        Ok((result?, context))
    }
}

/// A method has ended: answers, behind a snapshot if one is due.
fn finish(
    py: Python<'_>,
    worker: &Arc<Inner>,
    life: ActorLife,
    local: &Bound<'_, LocalActor>,
    reply: CallReplier,
    result: PyResult<Bound<'_, PyAny>>,
) {
    let answer = answer_of(py, worker, local.get(), result);
    if local.get().count_call() {
        take_snapshot(py, worker, life, local.get(), reply, answer);
    } else {
        reply.reply(answer);
    }
}

fn save(
    py: Python<'_>,
    worker: &Arc<Inner>,
    actor: &LiveActor<Object>,
    local: &Bound<'_, LocalActor>,
    reply: CallReplier,
    answer: ActorAnswer,
) {
    take_snapshot(py, worker, actor.life, local.get(), reply, answer);
}

/// Sends a snapshot; the answer waits until the scheduler has it.
fn take_snapshot(
    py: Python<'_>,
    worker: &Arc<Inner>,
    actor: ActorLife,
    local: &LocalActor,
    reply: CallReplier,
    answer: ActorAnswer,
) {
    match local.state(py) {
        Ok(state) => {
            let number = local.next_snapshot();
            worker.shell.actors().hold(actor, number, reply, answer);
            worker.shell.send_snapshot(ActorSnapshot { actor, number, state });
        }
        Err(error) => {
            let error = unsaved(py, &error);
            reply.reply(ActorAnswer::Raised(error_of(py, worker, local, &error)));
        }
    }
}

/// The worker leaves: gives the last state, behind which nothing changes it.
fn hand_over(py: Python<'_>, worker: &Arc<Inner>, actor: ActorLife, local: &LocalActor) {
    if !worker.shell.actors().is_at_rest(actor) {
        return;
    }
    let last = match local.state(py) {
        Ok(state) => ActorHandedOver { actor, state, error: String::new() },
        Err(error) => {
            let error = format!("its state could not be saved: {error}");
            ActorHandedOver { actor, state: Bytes::new(), error }
        }
    };
    worker.shell.send_handed_over(last);
}

fn answer_of(
    py: Python<'_>,
    worker: &Inner,
    local: &LocalActor,
    result: PyResult<Bound<'_, PyAny>>,
) -> ActorAnswer {
    match result.and_then(|value| crate::serializer::encode_object(&value)) {
        Ok(segments) => ActorAnswer::Value(segments),
        Err(error) => ActorAnswer::Raised(error_of(py, worker, local, &error)),
    }
}

fn error_of(py: Python<'_>, worker: &Inner, local: &LocalActor, error: &PyErr) -> ErrorInfo {
    let mut info = codec::encode_error(py, error);
    info.origin = Some(local.key.clone());
    info.worker = worker.shell.address().to_string();
    info
}

/// A coroutine method on the worker's event loop.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct MethodRun {
    worker: Arc<Inner>,
    life: ActorLife,
    local: Py<LocalActor>,
    reply: Mutex<Option<CallReplier>>,
}

impl MethodRun {
    fn start(self, py: Python<'_>, coroutine: &Bound<'_, PyAny>, context: &Context<'_>) {
        let worker = self.worker.clone();
        let started = Bound::new(py, self).and_then(|run| {
            let event_loop = worker.event_loop(py)?;
            worker.shell.actors().coroutine_began(run.get().life);
            let arguments = (&run, coroutine, context.object());
            let started = event_loop.call_method1(intern!(py, "start_method"), arguments);
            started.inspect_err(|error| {
                let error = Some(error.value(py).clone().into_any());
                finish_actor_method(py, &run, py.None().into_bound(py), error);
            })
        });
        if started.is_err() {
            // Nobody will await it.
            let _ = coroutine.call_method0(intern!(py, "close"));
        }
    }
}

/// Ends a coroutine method: with its result, or with its exception when that is given.
#[pyfunction]
#[pyo3(signature = (run, result, error=None))]
pub fn finish_actor_method(
    py: Python<'_>,
    run: &Bound<'_, MethodRun>,
    result: Bound<'_, PyAny>,
    error: Option<Bound<'_, PyAny>>,
) {
    let run = run.get();
    let reply = run.reply.lock().take();
    let Some(reply) = reply else { return };
    let local = run.local.bind(py).get();
    let result = error.map_or(Ok(result), |error| Err(PyErr::from_value(error)));
    let answer = answer_of(py, &run.worker, local, result);
    let shell = &run.worker.shell;
    if !local.count_call() {
        reply.reply(answer);
    } else if shell.actors().save(run.life, reply, answer) {
        // Between methods of an actor thread, not beside one.
        shell.jobs().push(Job::StartActorThread);
    }
    if shell.actors().coroutine_ended(run.life) {
        shell.jobs().push(Job::StartActorThread);
    }
}

/// Marks the thread as decoding a task's inputs.
#[must_use]
pub fn decoding_inputs() -> super::proxy::SourceGuard {
    Source::Input.enter()
}
