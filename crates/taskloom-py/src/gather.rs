//! Results of many futures as Python objects.

use crate::actors::{Source, SourceGuard};
use crate::codec::{decode_arrived, decode_small};
use crate::errors::gather_failure;
use crate::neighbours;
use crate::waiting::Rounds;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::Arc;
use taskloom_runtime::client::{Client, Entry, Gather, Gathered, Held, Wait};
use taskloom_types::{Handle, Key};

/// The result as a Python object, or its exception.
pub fn decode(py: Python<'_>, gathered: Gathered, key: &Key) -> PyResult<Py<PyAny>> {
    if let Some(error) = gather_failure(py, &gathered, key) {
        return Err(error);
    }
    match gathered {
        Gathered::Value(segments) => Ok(decode_arrived(py, segments)?.unbind()),
        Gathered::Inline(value) => Ok(decode_small(py, &value)?.unbind()),
        _ => Err(PyRuntimeError::new_err("a failure without an exception")),
    }
}

/// What a gather gives in the end.
enum Shape {
    /// The one result.
    Single,
    /// A list of results; the first failure is raised.
    Raise,
    /// A list of `(ok, result or exception)`.
    Each,
}

/// A gather as an operation.
pub struct GatherRounds {
    gather: Arc<Gather>,
    /// For each future asked for, the position of its entry: futures may share one.
    positions: Vec<usize>,
    shape: Shape,
    /// Results that are there before the end, by position of the entry: of workers of this process, and
    /// what was read while the rest was on its way.
    early: Mutex<HashMap<usize, PyResult<Py<PyAny>>>>,
}

impl GatherRounds {
    #[must_use]
    pub fn single(client: &Arc<Client>, held: Held) -> Self {
        let gather = Gather::new(client, vec![held], true);
        Self { gather, positions: vec![0], shape: Shape::Single, early: Mutex::default() }
    }

    /// `raises`: the first failure is raised; otherwise each future gives `(ok, object)`.
    #[must_use]
    pub fn many(client: &Arc<Client>, futures: Vec<Held>, raises: bool) -> Self {
        let mut unique: Vec<Held> = Vec::with_capacity(futures.len());
        let mut seen: HashMap<Handle, usize> = HashMap::with_capacity(futures.len());
        let mut positions = Vec::with_capacity(futures.len());
        for held in futures {
            let position = *seen.entry(held.entry().handle).or_insert_with(|| {
                unique.push(held);
                unique.len() - 1
            });
            positions.push(position);
        }
        let gather = Gather::new(client, unique, raises);
        let shape = if raises { Shape::Raise } else { Shape::Each };
        Self { gather, positions, shape, early: Mutex::default() }
    }

    /// Takes what workers of this process hold.
    fn take_from_neighbours(&self) {
        let places = self.gather.places();
        if places.is_empty() {
            return;
        }
        let mut taken = HashSet::new();
        Python::attach(|py| {
            for (position, task, address) in places {
                if let Some(object) = neighbours::object(py, &address, task) {
                    self.early.lock().insert(position, Ok(object));
                    taken.insert(position);
                }
            }
        });
        self.gather.settle(&taken);
    }

    /// Reads what has come, so that its memory can be used for what comes next.
    fn read_arrived(&self) {
        let arrived = self.gather.take_arrived();
        if arrived.is_empty() {
            return;
        }
        Python::attach(|py| {
            let _source = self.enter_source();
            for (position, segments) in arrived {
                let object = decode_arrived(py, segments).map(Bound::unbind);
                self.early.lock().insert(position, object);
            }
        });
    }

    fn enter_source(&self) -> Option<SourceGuard> {
        let first = self.gather.items().first();
        first.map(|held| Source::of_client(held.client()).enter())
    }

    fn entry(&self, position: usize) -> &Arc<Entry> {
        self.gather.items()[position].entry()
    }

    /// Every entry's result, decoded once; stops at the first failure when failures are raised.
    fn objects(&self, py: Python<'_>) -> PyResult<Vec<(bool, Py<PyAny>)>> {
        let results = self.gather.take_results();
        let raises = !matches!(self.shape, Shape::Each);
        if raises {
            // A failure may stand behind results that have not come.
            for (position, result) in results.iter().enumerate() {
                let failed = result.as_ref().filter(|gathered| gathered.is_failure());
                if let Some(error) =
                    failed.and_then(|f| gather_failure(py, f, &self.entry(position).key))
                {
                    return Err(error);
                }
            }
        }
        let mut objects = Vec::with_capacity(results.len());
        for (position, result) in results.into_iter().enumerate() {
            let object = match (self.early.lock().remove(&position), result) {
                (Some(object), _) => object,
                (None, Some(gathered)) => decode(py, gathered, &self.entry(position).key),
                (None, None) => return Err(PyRuntimeError::new_err("the gather was stopped")),
            };
            objects.push(match object {
                Ok(object) => (true, object),
                Err(error) if raises => return Err(error),
                Err(error) => (false, error.into_value(py).into_any()),
            });
        }
        Ok(objects)
    }
}

impl Rounds for GatherRounds {
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        if neighbours::exist() {
            self.take_from_neighbours();
        }
        let is_over = self.gather.advance(make_wait);
        self.read_arrived();
        Ok(is_over)
    }

    fn give_up(&self, _wait: &Arc<Wait>) {
        self.gather.give_up();
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _source = self.enter_source();
        let objects = self.objects(py)?;
        match self.shape {
            Shape::Single => match objects.into_iter().next() {
                Some((_, object)) => Ok(object),
                None => Err(PyRuntimeError::new_err("the result was taken before")),
            },
            Shape::Raise => {
                let list = self.positions.iter().map(|position| objects[*position].1.bind(py));
                Ok(PyList::new(py, list)?.into_any().unbind())
            }
            Shape::Each => {
                let pairs = self.positions.iter().map(|position| {
                    let (ok, object) = &objects[*position];
                    (*ok, object.bind(py))
                });
                let pairs: Vec<_> = pairs.collect();
                Ok(PyList::new(py, pairs)?.into_any().unbind())
            }
        }
    }

    fn timeout_message(&self) -> String {
        let pending = self.gather.items().iter().filter(|held| held.entry().is_pending());
        let mut pending = pending.map(|held| held.entry().key.to_string());
        match (pending.next(), pending.count()) {
            (None, _) => "the results did not arrive in time".into(),
            (Some(key), 0) => format!("{key} is not done in time"),
            (Some(key), more) => format!("{key} and {more} others are not done in time"),
        }
    }

    fn stops_on_failure(&self) -> bool {
        !matches!(self.shape, Shape::Each)
    }
}

/// Waiting until some of the futures are done, without bringing their results.
pub struct CompletionRounds {
    futures: Vec<Held>,
    /// How many must be done.
    count: usize,
    /// Of the last round: futures that are not done still know it.
    wait: Mutex<Option<Arc<Wait>>>,
}

impl CompletionRounds {
    #[must_use]
    pub fn new(futures: Vec<Held>, count: usize) -> Self {
        Self { futures, count, wait: Mutex::new(None) }
    }
}

impl Rounds for CompletionRounds {
    fn advance(&self, make_wait: &mut dyn FnMut(usize) -> Arc<Wait>) -> PyResult<bool> {
        let pending: Vec<_> =
            self.futures.iter().filter(|held| held.entry().is_pending()).collect();
        let done = self.futures.len() - pending.len();
        if done >= self.count {
            return Ok(true);
        }
        let wait = make_wait(self.count - done);
        *self.wait.lock() = Some(wait.clone());
        pending.iter().for_each(|held| held.entry().wait_with(&wait));
        Ok(false)
    }

    fn give_up(&self, wait: &Arc<Wait>) {
        self.futures.iter().for_each(|held| held.entry().stop_waiting(wait));
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let wait = self.wait.lock().take();
        if let Some(wait) = wait {
            self.give_up(&wait);
        }
        Ok(py.None())
    }

    fn timeout_message(&self) -> String {
        let done = self.futures.iter().filter(|held| !held.entry().is_pending()).count();
        format!("{done} of {} futures are done, {} were awaited", self.futures.len(), self.count)
    }

    fn stops_on_failure(&self) -> bool {
        false
    }
}
