//! `submit`: one call, one task, one message.

use crate::actors::CoreActor;
use crate::client::{CoreClient, FUNCTIONS, new_batch};
use crate::codec::{Dependencies, Writer, encode_call};
use crate::ending::Inside;
use crate::functions::{Known, constant_of_pickle};
use crate::future::CoreFuture;
use crate::keys::{call_token, encode_key, token_key};
use crate::options::CoreOptions;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;
use taskloom_proto::Body;
use taskloom_proto::client::TaskSpec;
use taskloom_runtime::client::{Entry, FunctionSpec, Held};
use taskloom_types::{FunctionId, Key};

/// The futures inside arguments, each once, in the order in which they were met; and the large
/// objects, which travel beside the call.
pub(crate) struct FutureDeps<'a> {
    client: &'a CoreClient,
    pub(crate) held: Vec<Held>,
    pub(crate) large: Vec<Arc<FunctionSpec>>,
    /// Functions of the task before the large objects.
    functions: u32,
}

impl<'a> FutureDeps<'a> {
    /// `functions`: how many functions the task has besides.
    pub(crate) fn new(client: &'a CoreClient, functions: u32) -> Self {
        Self { client, held: Vec::new(), large: Vec::new(), functions }
    }

    /// The position of an entry that is there already.
    fn find(&self, entry: &Arc<Entry>) -> Option<u32> {
        let is_same = |held: &Held| Arc::ptr_eq(held.entry(), entry);
        // A short list is searched; in a long one a future may stand twice.
        let from_end = self.held.iter().rev().take(32).position(is_same)?;
        Some((self.held.len() - 1 - from_end) as u32)
    }

    fn add(&mut self, held: Held) -> u32 {
        self.find(held.entry()).unwrap_or_else(|| {
            self.held.push(held);
            (self.held.len() - 1) as u32
        })
    }

    pub(crate) fn large_ids(&self) -> impl Iterator<Item = FunctionId> {
        self.large.iter().map(|large| large.id)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.held.iter().map(|held| &held.entry().key)
    }

    /// Handles of the futures.
    pub(crate) fn handles(&self) -> SmallVec<[taskloom_types::Handle; 2]> {
        self.held.iter().map(|held| held.entry().handle).collect()
    }
}

impl Dependencies for FutureDeps<'_> {
    fn is_dependency(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_instance_of::<CoreFuture>() || object.is_instance_of::<CoreActor>()
    }

    fn position(&mut self, object: &Bound<'_, PyAny>) -> PyResult<u32> {
        if let Ok(actor) = object.cast::<CoreActor>() {
            let held = actor.get().hold(self.client);
            return Ok(self.add(held));
        }
        let future = object.cast::<CoreFuture>()?.get();
        if let Some(position) = self.find(future.entry()) {
            return Ok(position);
        }
        future.live(object.py())?;
        self.held.push(self.client.hold(future)?);
        Ok((self.held.len() - 1) as u32)
    }

    fn take_out(&mut self, object: &Bound<'_, PyAny>, pickle: &[u8]) -> PyResult<Option<u32>> {
        self.large.push(constant_of_pickle(object, pickle)?);
        Ok(Some(self.functions + self.large.len() as u32 - 1))
    }
}

thread_local! {
    /// Room that is used again for each call.
    static ROOM: RefCell<Option<(Writer, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Lends a writer and a scratch buffer. Encoding may run Python code that submits in turn: the
/// inner call then makes its own.
pub(crate) fn with_room<T>(use_room: impl FnOnce(&mut Writer, &mut Vec<u8>) -> T) -> T {
    const KEEP_BYTES: usize = 64 * 1024;
    let (mut writer, mut scratch) =
        ROOM.with_borrow_mut(Option::take).unwrap_or_else(|| (Writer::contiguous(), Vec::new()));
    let result = use_room(&mut writer, &mut scratch);
    if writer.as_slice().len() <= KEEP_BYTES && scratch.len() <= KEEP_BYTES {
        writer.clear();
        ROOM.with_borrow_mut(|room| *room = Some((writer, scratch)));
    }
    result
}

/// The arguments of `CoreClient.submit`.
pub(crate) struct Call<'a, 'py> {
    pub function: &'a Bound<'py, PyAny>,
    pub args: &'a Bound<'py, PyTuple>,
    pub kwargs: Option<&'a Bound<'py, PyDict>>,
    pub key: Option<&'a Bound<'py, PyAny>>,
    pub pure: bool,
    pub options: Option<&'a Bound<'py, CoreOptions>>,
    pub fifo_us: u64,
}

/// A call as bytes.
struct Encoded<'a> {
    body: Body,
    deps: FutureDeps<'a>,
    token: u128,
}

impl<'a> Call<'a, '_> {
    fn encode(&self, client: &'a CoreClient, function: FunctionId) -> PyResult<Encoded<'a>> {
        let mut deps = FutureDeps::new(client, 1);
        with_room(|writer, scratch| {
            writer.clear();
            encode_call(writer, self.args, self.kwargs, &mut deps)?;
            let token =
                call_token(function, writer.as_slice(), deps.keys(), deps.large_ids(), scratch);
            let token = match writer.has_pickles() && self.pure {
                true => {
                    crate::tokens::dask_token(function, self.args, self.kwargs)?.unwrap_or(token)
                }
                false => token,
            };
            Ok(Encoded { body: Body::from_slice(writer.as_slice()), deps, token })
        })
    }
}

/// The hash by which collisions are noticed; never 0, which means unknown.
pub(crate) fn spec_hash(token: u128) -> u64 {
    (token as u64).max(1)
}

/// Submits one call; returns a future.
pub(crate) fn submit<'py>(
    client: &Bound<'py, CoreClient>,
    call: &Call<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = client.py();
    let _inside = Inside::enter(py);
    let core = client.get();
    core.check_open(py)?;
    let known = FUNCTIONS.get(call.function)?;
    let encoded = call.encode(core, known.spec.id)?;
    let key = match call.key {
        Some(key) => encode_key(key)?,
        None if call.pure => token_key(&known.prefix, encoded.token),
        None => core.unique_key(&known.prefix),
    };
    let hash = spec_hash(encoded.token);
    match send(core, call, &known, encoded, key, hash) {
        Sent::New(held) => core.future(py, held),
        Sent::Live(held) => {
            if call.key.is_some() {
                core.check_collision(py, &held, hash, &known)?;
            }
            core.future(py, held)
        }
    }
}

enum Sent {
    New(Held),
    /// The key has a live future: nothing was sent.
    Live(Held),
}

fn send(
    core: &CoreClient,
    call: &Call<'_, '_>,
    known: &Known,
    encoded: Encoded<'_>,
    key: Key,
    hash: u64,
) -> Sent {
    let mut batch = new_batch(&core.client, call.fifo_us);
    batch.functions.push(known.spec.id);
    batch.functions.extend(encoded.deps.large_ids());
    batch
        .options
        .push(call.options.map(|options| options.get().options.clone()).unwrap_or_default());
    batch.prefixes.push(prefix_of(call, known, &key));
    let mut submission = core.client.submission();
    if let Some(live) = submission.find(&key) {
        submission.flush();
        return Sent::Live(live);
    }
    submission.register(&known.spec);
    encoded.deps.large.iter().for_each(|large| submission.register_once(large));
    let held = submission.add_call(key.clone(), hash, &known.spec);
    batch.tasks.push(TaskSpec {
        handle: held.entry().handle,
        flags: flags(known, call.options),
        key,
        spec_hash: hash,
        functions: (0..batch.functions.len() as u32).collect(),
        deps: encoded.deps.handles(),
        body: encoded.body,
        ..TaskSpec::default()
    });
    submission.send(batch);
    submission.forget(encoded.deps.large_ids().collect());
    submission.flush();
    Sent::New(held)
}

fn prefix_of(call: &Call<'_, '_>, known: &Known, key: &Key) -> String {
    if call.key.is_some() { key.prefix() } else { known.prefix.to_string() }
}

pub(crate) fn flags(known: &Known, options: Option<&Bound<'_, CoreOptions>>) -> u8 {
    let coroutine = if known.spec.is_coroutine { TaskSpec::COROUTINE } else { 0 };
    TaskSpec::WANTED | coroutine | options.map_or(0, |options| options.get().flags)
}
