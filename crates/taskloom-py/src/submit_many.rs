//! `map`: many calls of one function, sent in pieces while the rest is being encoded.

use crate::client::{CoreClient, FUNCTIONS, new_batch};
use crate::codec::{Dependencies, Writer};
use crate::ending::{Inside, detached};
use crate::functions::{Known, constant};
use crate::keys::{call_token, encode_key, token_key};
use crate::options::CoreOptions;
use crate::submit::{FutureDeps, flags, spec_hash, with_room};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyString, PyTuple};
use smallvec::SmallVec;
use std::sync::Arc;
use taskloom_proto::Body;
use taskloom_proto::client::{SubmitBatch, TaskSpec};
use taskloom_runtime::client::{FunctionSpec, Held};
use taskloom_types::{Handle, Key};

/// Tasks per message.
const PIECE: usize = 1000;

/// … or as many as take so many bytes.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// Keyword values whose encoding is at least this long are sent once, not with each call.
const SHARED_FROM: usize = 8 * 1024;

/// The arguments of `CoreClient.map`.
pub(crate) struct Map<'a, 'py> {
    pub function: &'a Bound<'py, PyAny>,
    pub iterables: &'a Bound<'py, PyTuple>,
    pub kwargs: Option<&'a Bound<'py, PyDict>>,
    /// One key per call.
    pub keys: Option<&'a Bound<'py, PyList>>,
    /// First part of the keys.
    pub prefix: Option<String>,
    pub pure: bool,
    pub options: Option<&'a Bound<'py, CoreOptions>>,
    pub fifo_us: u64,
}

/// The end of each body: keyword arguments, encoded once.
struct Keywords {
    tail: Vec<u8>,
    /// Futures in them: the first dependencies of each call.
    held: Vec<Held>,
    /// Large values, by function positions 1, 2, …
    shared: Vec<Arc<FunctionSpec>>,
}

impl Keywords {
    fn encode(client: &CoreClient, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut deps = FutureDeps::new(client, 1);
        let mut shared = Vec::new();
        let mut writer = Writer::contiguous();
        writer.start_keywords(kwargs.map_or(0, |kwargs| kwargs.len()))?;
        for (name, value) in kwargs.iter().flat_map(|kwargs| kwargs.iter()) {
            writer.keyword(name.cast::<PyString>()?.to_str()?)?;
            let mut one = Writer::contiguous();
            let before = deps.held.len();
            one.object(&value, &mut deps)?;
            let is_plain = deps.held.len() == before && !deps.is_dependency(&value);
            if is_plain && one.as_slice().len() >= SHARED_FROM {
                shared.push(constant(&value)?);
                writer.function(shared.len() as u32);
            } else {
                writer.append(&one);
            }
        }
        Ok(Self { tail: writer.as_slice().to_vec(), held: deps.held, shared })
    }
}

/// An encoded call that was not sent yet.
struct Item {
    key: Key,
    hash: u64,
    body: Body,
    deps: SmallVec<[Handle; 2]>,
    large: Vec<Arc<FunctionSpec>>,
    /// Keeps the dependencies alive until they are sent.
    _held: Vec<Held>,
}

impl Item {
    fn size(&self) -> usize {
        self.body.len() + self.large.iter().map(|large| large.payload.len()).sum::<usize>()
    }
}

/// Draws one item of each iterable, until the first is exhausted.
struct Rows<'py> {
    iterators: Vec<Bound<'py, PyIterator>>,
}

impl<'py> Rows<'py> {
    /// `false` when there is no further row.
    fn next(&mut self, row: &mut Vec<Bound<'py, PyAny>>) -> PyResult<bool> {
        row.clear();
        for iterator in &mut self.iterators {
            match iterator.next() {
                Some(item) => row.push(item?),
                None => return Ok(false),
            }
        }
        Ok(!self.iterators.is_empty())
    }
}

struct Mapping<'a, 'py> {
    py: Python<'py>,
    core: &'a CoreClient,
    call: &'a Map<'a, 'py>,
    known: Known,
    prefix: String,
    keywords: Keywords,
    position: usize,
}

impl<'a, 'py> Mapping<'a, 'py> {
    fn item(&mut self, row: &[Bound<'py, PyAny>]) -> PyResult<Item> {
        let functions = 1 + self.keywords.shared.len() as u32;
        let mut deps = FutureDeps::new(self.core, functions);
        deps.held.extend(self.keywords.held.iter().cloned());
        let (body, token) = with_room(|writer, scratch| -> PyResult<_> {
            writer.clear();
            writer.start_call(0, row.len())?;
            for argument in row {
                writer.object(argument, &mut deps)?;
            }
            writer.append_bytes(&self.keywords.tail);
            let token = call_token(
                self.known.spec.id,
                writer.as_slice(),
                deps.keys(),
                deps.large_ids(),
                scratch,
            );
            let token = match writer.has_pickles() && self.call.pure && self.call.keys.is_none() {
                true => self.dask_token(row)?.unwrap_or(token),
                false => token,
            };
            Ok((Body::from_slice(writer.as_slice()), token))
        })?;
        let key = self.key(token)?;
        let handles = deps.handles();
        let (large, held) = (deps.large, deps.held);
        Ok(Item { key, hash: spec_hash(token), body, deps: handles, large, _held: held })
    }

    fn dask_token(&self, row: &[Bound<'py, PyAny>]) -> PyResult<Option<u128>> {
        let args = PyTuple::new(self.py, row)?;
        crate::tokens::dask_token(self.known.spec.id, &args, self.call.kwargs)
    }

    fn key(&mut self, token: u128) -> PyResult<Key> {
        self.position += 1;
        match self.call.keys {
            Some(keys) => encode_key(&keys.get_item(self.position - 1)?),
            None if self.call.pure => Ok(token_key(&self.prefix, token)),
            None => Ok(self.core.unique_key(&self.prefix)),
        }
    }

    fn batch(&self, submission: u64) -> SubmitBatch {
        let mut batch = new_batch(&self.core.client, self.call.fifo_us);
        batch.submission = submission;
        batch.functions.push(self.known.spec.id);
        batch.functions.extend(self.keywords.shared.iter().map(|shared| shared.id));
        let options = self.call.options.map(|options| options.get().options.clone());
        batch.options.push(options.unwrap_or_default());
        batch.prefixes.push(taskloom_types::key_split(Key::from_text(&self.prefix).as_bytes()));
        batch
    }

    /// Sends a piece; returns a reference for each item, and whether it was live before.
    fn send(&self, submission: u64, order: u64, items: Vec<Item>, last: bool) -> Vec<(Held, u64)> {
        let mut batch = self.batch(submission);
        batch.last = last;
        let common = batch.functions.len();
        let functions: SmallVec<[u32; 2]> = (0..common as u32).collect();
        let mut held = Vec::with_capacity(items.len());
        let mut table = self.core.client.submission();
        table.register(&self.known.spec);
        self.keywords.shared.iter().for_each(|shared| table.register(shared));
        for (position, item) in items.into_iter().enumerate() {
            if let Some(live) = table.find(&item.key) {
                held.push((live, item.hash));
                continue;
            }
            let first = batch.functions.len() as u32;
            let mut functions = functions.clone();
            functions.extend((0..item.large.len() as u32).map(|offset| first + offset));
            batch.functions.extend(item.large.iter().map(|large| large.id));
            item.large.iter().for_each(|large| table.register_once(large));
            let new = table.add_call(item.key.clone(), item.hash, &self.known.spec);
            batch.tasks.push(TaskSpec {
                handle: new.entry().handle,
                flags: flags(&self.known, self.call.options),
                key: item.key,
                order: order + position as u64,
                spec_hash: item.hash,
                functions,
                deps: item.deps,
                body: item.body,
                ..TaskSpec::default()
            });
            held.push((new, 0));
        }
        let once = batch.functions.split_off(common);
        batch.functions.extend(&once);
        table.send(batch);
        table.forget(once);
        table.flush();
        held
    }

    /// Makes the Python futures of a piece.
    fn collect(&self, futures: &Bound<'py, PyList>, piece: Vec<(Held, u64)>) -> PyResult<()> {
        for (held, live_hash) in piece {
            if live_hash != 0 && self.call.keys.is_some() {
                self.core.check_collision(self.py, &held, live_hash, &self.known)?;
            }
            futures.append(self.core.future(self.py, held)?)?;
        }
        Ok(())
    }
}

/// Submits all calls; returns a list of futures.
pub(crate) fn map<'py>(
    client: &Bound<'py, CoreClient>,
    call: &Map<'_, 'py>,
) -> PyResult<Bound<'py, PyList>> {
    let py = client.py();
    let _inside = Inside::enter(py);
    let core = client.get();
    core.check_open(py)?;
    let known = FUNCTIONS.get(call.function)?;
    let prefix = call.prefix.clone().unwrap_or_else(|| known.prefix.to_string());
    let keywords = Keywords::encode(core, call.kwargs)?;
    let mut mapping = Mapping { py, core, call, known, prefix, keywords, position: 0 };
    let iterators = call.iterables.iter().map(|iterable| iterable.try_iter());
    let mut rows = Rows { iterators: iterators.collect::<PyResult<_>>()? };
    let futures = PyList::empty(py);
    let submission = core.client.next_submission();
    let mut row = Vec::new();
    let mut order = 0;
    loop {
        let mut items = Vec::with_capacity(PIECE);
        let (mut more, mut size) = (true, 0);
        while more && items.len() < PIECE && size < PIECE_BYTES {
            more = rows.next(&mut row)?;
            if more {
                let item = mapping.item(&row)?;
                size += item.size();
                items.push(item);
            }
        }
        let count = items.len() as u64;
        let piece = mapping.send(submission, order, items, !more);
        order += count;
        mapping.collect(&futures, piece)?;
        if !more {
            return Ok(futures);
        }
        detached(py, || core.client.wait_for_room());
    }
}
