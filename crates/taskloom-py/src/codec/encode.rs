//! Writing: values as segments, calls as one contiguous body.

use super::broadcast::compact;
use super::buffers::share_bytes;
use super::pickle;
use super::scan::{Kind, Scan, is_scalar, kind_of};
use super::{MAX_DEPTH, SEGMENT_FROM, tag};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

/// What counts as a dependency (a future) inside arguments, and which number it gets.
pub trait Dependencies {
    fn is_dependency(&self, object: &Bound<'_, PyAny>) -> bool;

    /// The position of this dependency in the task's list; adds it when it is new.
    fn position(&mut self, object: &Bound<'_, PyAny>) -> PyResult<u32>;

    /// Takes a large pickle out of a body: it becomes one of the task's functions, whose
    /// position is returned. `None`: it stays inside.
    fn take_out(&mut self, _object: &Bound<'_, PyAny>, _pickle: &[u8]) -> PyResult<Option<u32>> {
        Ok(None)
    }
}

/// Pickles in a body from this size on are offered to [`Dependencies::take_out`].
const LARGE: usize = 1024 * 1024;

/// The most that one object may add to a task: messages are bounded.
const LIMIT: usize = 192 * 1024 * 1024;

fn check_size(length: usize) -> PyResult<()> {
    if length <= LIMIT {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "an argument of {} MiB is too large to be part of a task: scatter it and pass the future, \
         load it inside the task, or cut it into smaller pieces",
        length >> 20
    )))
}

/// For values: a future inside a value is an object like any other.
pub struct NoDependencies;

impl Dependencies for NoDependencies {
    fn is_dependency(&self, _object: &Bound<'_, PyAny>) -> bool {
        false
    }

    fn position(&mut self, _object: &Bound<'_, PyAny>) -> PyResult<u32> {
        Err(PyValueError::new_err("there are no dependencies in a value"))
    }
}

/// Builds one encoding. The caller keeps the tree well formed: each `start_*` is followed by as
/// many items as it announced.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
    /// `None`: everything goes into one piece.
    segments: Option<Vec<Bytes>>,
    has_pickles: bool,
    /// An object was refused since it is larger than [`LIMIT`].
    was_too_large: bool,
}

fn count(length: usize) -> PyResult<u32> {
    u32::try_from(length)
        .map_err(|_| PyValueError::new_err("more than 4 GiB in one piece cannot be sent"))
}

impl Writer {
    /// A writer of contiguous bodies. [`Writer::clear`] makes it ready for the next.
    #[must_use]
    pub fn contiguous() -> Self {
        Self::default()
    }

    fn segmented() -> Self {
        Self { segments: Some(Vec::new()), ..Self::default() }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    pub fn clear(&mut self) {
        self.out.clear();
        self.has_pickles = false;
        self.was_too_large = false;
    }

    /// After an object was refused since it is too large for a task: takes back what was written
    /// since the writer had this length. False when something else went wrong.
    pub fn take_back(&mut self, length: usize) -> bool {
        let was_too_large = std::mem::take(&mut self.was_too_large);
        if was_too_large {
            self.out.truncate(length);
        }
        was_too_large
    }

    /// Whether something was pickled, so that equal objects may have unequal bytes.
    #[must_use]
    pub fn has_pickles(&self) -> bool {
        self.has_pickles
    }

    /// Appends items that another writer wrote.
    pub fn append(&mut self, other: &Self) {
        self.out.extend_from_slice(&other.out);
        self.has_pickles |= other.has_pickles;
    }

    /// Appends items that were written before.
    pub fn append_bytes(&mut self, items: &[u8]) {
        self.out.extend_from_slice(items);
    }

    fn counted(&mut self, tag: u8, length: usize) -> PyResult<()> {
        let length = count(length)?;
        self.out.push(tag);
        self.out.extend_from_slice(&length.to_le_bytes());
        Ok(())
    }

    fn blob(&mut self, tag: u8, content: &[u8]) -> PyResult<()> {
        self.counted(tag, content.len())?;
        self.out.extend_from_slice(content);
        Ok(())
    }

    pub fn start_tuple(&mut self, items: usize) -> PyResult<()> {
        self.counted(tag::TUPLE, items)
    }

    pub fn start_list(&mut self, items: usize) -> PyResult<()> {
        self.counted(tag::LIST, items)
    }

    pub fn start_set(&mut self, items: usize) -> PyResult<()> {
        self.counted(tag::SET, items)
    }

    pub fn start_frozen_set(&mut self, items: usize) -> PyResult<()> {
        self.counted(tag::FROZEN_SET, items)
    }

    /// Followed by key, value, key, value …
    pub fn start_dict(&mut self, entries: usize) -> PyResult<()> {
        self.counted(tag::DICT, entries)
    }

    /// A call of the n-th function: followed by `arguments` items, then by
    /// [`Writer::start_keywords`].
    pub fn start_call(&mut self, function: u32, arguments: usize) -> PyResult<()> {
        self.out.push(tag::CALL);
        self.out.extend_from_slice(&function.to_le_bytes());
        self.out.extend_from_slice(&count(arguments)?.to_le_bytes());
        Ok(())
    }

    /// A call of what the next item gives: followed by that item, then as after
    /// [`Writer::start_call`]. The number of arguments comes after the callable: see
    /// [`Writer::start_arguments`].
    pub fn start_apply(&mut self) {
        self.out.push(tag::APPLY);
    }

    /// The number of positional arguments of a [`Writer::start_apply`].
    pub fn start_arguments(&mut self, arguments: usize) -> PyResult<()> {
        self.out.extend_from_slice(&count(arguments)?.to_le_bytes());
        Ok(())
    }

    /// Followed by [`Writer::keyword`] and an item, for each.
    pub fn start_keywords(&mut self, keywords: usize) -> PyResult<()> {
        self.out.extend_from_slice(&count(keywords)?.to_le_bytes());
        Ok(())
    }

    pub fn keyword(&mut self, name: &str) -> PyResult<()> {
        self.out.extend_from_slice(&count(name.len())?.to_le_bytes());
        self.out.extend_from_slice(name.as_bytes());
        Ok(())
    }

    /// The value of the n-th dependency.
    pub fn dependency(&mut self, position: u32) {
        self.out.push(tag::DEPENDENCY);
        self.out.extend_from_slice(&position.to_le_bytes());
    }

    /// Items that others refer to: followed by `steps` items, then by the one that is the result.
    pub fn start_steps(&mut self, steps: usize) -> PyResult<()> {
        self.counted(tag::STEPS, steps)
    }

    /// The value of the n-th step of the body. Gives the place for [`Writer::mark_last_use`].
    pub fn step(&mut self, step: u32) -> usize {
        self.out.push(tag::STEP);
        self.out.extend_from_slice(&step.to_le_bytes());
        self.out.len() - 5
    }

    /// Makes a reference to a step the last one: no later item may refer to the step.
    pub fn mark_last_use(&mut self, place: usize) {
        self.out[place] = tag::LAST_STEP;
    }

    /// An item that was written before, by any contiguous writer, without dependencies, functions
    /// or steps in it.
    pub fn raw(&mut self, item: &[u8]) {
        self.out.extend_from_slice(item);
    }

    /// The n-th function itself, as a value.
    pub fn function(&mut self, position: u32) {
        self.out.push(tag::FUNCTION);
        self.out.extend_from_slice(&position.to_le_bytes());
    }

    /// Any object. What is native is written so, futures become dependencies, the rest is
    /// pickled.
    pub fn object(
        &mut self,
        object: &Bound<'_, PyAny>,
        deps: &mut dyn Dependencies,
    ) -> PyResult<()> {
        if self.scalar(object)? {
            return Ok(());
        }
        if deps.is_dependency(object) {
            let position = deps.position(object)?;
            self.dependency(position);
            return Ok(());
        }
        if matches!(kind_of(object)?, Kind::Other) {
            return self.pickled(object, deps);
        }
        let scan = Scan::of(object, deps)?;
        if scan.has_dependency || scan.native {
            self.container(object, deps, 0)
        } else {
            self.pickled(object, deps)
        }
    }

    /// Writes `None`, booleans, numbers, text and bytes of exactly these types.
    fn scalar(&mut self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(number) = object.cast_exact::<PyInt>() {
            self.integer(number)?;
        } else if let Ok(text) = object.cast_exact::<PyString>() {
            // Text with lone surrogates is not UTF-8: it goes the way of other objects.
            let Ok(text) = text.to_str() else { return Ok(false) };
            if self.is_too_long(text.len()) {
                return Ok(false);
            }
            self.blob(tag::TEXT, text.as_bytes())?;
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            self.out.push(tag::FLOAT);
            self.out.extend_from_slice(&number.value().to_le_bytes());
        } else if object.is_none() {
            self.out.push(tag::NONE);
        } else if let Ok(truth) = object.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { tag::TRUE } else { tag::FALSE });
        } else if let Ok(content) = object.cast_exact::<PyBytes>() {
            if self.is_too_long(content.as_bytes().len()) {
                return Ok(false);
            }
            self.bytes(content)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Long text and bytes in a body go the way of other large objects.
    fn is_too_long(&self, length: usize) -> bool {
        self.segments.is_none() && length >= LARGE
    }

    fn integer(&mut self, number: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(small) = number.extract::<i64>() {
            self.out.push(tag::INT);
            self.out.extend_from_slice(&small.to_le_bytes());
            return Ok(());
        }
        // Hexadecimal: linear in time, and not limited in length as decimal text is.
        let text = number.call_method1(intern!(number.py(), "__format__"), ("x",))?;
        self.blob(tag::BIG_INT, text.cast::<PyString>()?.to_str()?.as_bytes())
    }

    fn bytes(&mut self, content: &Bound<'_, PyBytes>) -> PyResult<()> {
        match &mut self.segments {
            Some(segments) if content.as_bytes().len() >= SEGMENT_FROM => {
                self.out.push(tag::BYTES_SEGMENT);
                segments.push(share_bytes(content));
                Ok(())
            }
            _ => self.blob(tag::BYTES, content.as_bytes()),
        }
    }

    fn container(
        &mut self,
        object: &Bound<'_, PyAny>,
        deps: &mut dyn Dependencies,
        depth: usize,
    ) -> PyResult<()> {
        match kind_of(object)? {
            Kind::Tuple => self.start_tuple(object.len()?)?,
            Kind::List => self.start_list(object.len()?)?,
            Kind::Set => self.start_set(object.len()?)?,
            Kind::FrozenSet => self.start_frozen_set(object.len()?)?,
            Kind::NamedTuple => {
                self.start_apply();
                self.pickled(object.get_type().as_any(), &mut NoDependencies)?;
                self.start_arguments(object.len()?)?;
            }
            Kind::Dict => return self.dict(object.cast::<PyDict>()?, deps, depth),
            Kind::Other => return self.pickled(object, deps),
        }
        // Copied first: writing an item may run code that changes the container.
        for item in snapshot(object)? {
            self.item(&item, deps, depth + 1)?;
        }
        match kind_of(object)? {
            Kind::NamedTuple => self.start_keywords(0),
            _ => Ok(()),
        }
    }

    fn dict(
        &mut self,
        dict: &Bound<'_, PyDict>,
        deps: &mut dyn Dependencies,
        depth: usize,
    ) -> PyResult<()> {
        let entries: Vec<_> = dict.iter().collect();
        self.start_dict(entries.len())?;
        for (key, value) in entries {
            self.item(&key, deps, depth + 1)?;
            self.item(&value, deps, depth + 1)?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        object: &Bound<'_, PyAny>,
        deps: &mut dyn Dependencies,
        depth: usize,
    ) -> PyResult<()> {
        if self.scalar(object)? {
            return Ok(());
        }
        if deps.is_dependency(object) {
            let position = deps.position(object)?;
            self.dependency(position);
            return Ok(());
        }
        if depth >= MAX_DEPTH - 1 || matches!(kind_of(object)?, Kind::Other) {
            return self.pickled(object, deps);
        }
        let scan = Scan::of(object, deps)?;
        if scan.has_dependency || scan.native {
            self.container(object, deps, depth)
        } else {
            self.pickled(object, deps)
        }
    }

    fn pickled(&mut self, object: &Bound<'_, PyAny>, deps: &mut dyn Dependencies) -> PyResult<()> {
        self.has_pickles = true;
        if let Some(array) = compact(object)? {
            self.start_apply();
            self.pickled(&array.function, deps)?;
            self.start_arguments(2)?;
            self.pickled(&array.block, deps)?;
            self.object(&array.shape, deps)?;
            return self.start_keywords(0);
        }
        let Some(segments) = &mut self.segments else {
            let pickle = pickle::dumps(object)?;
            if let Err(error) = check_size(pickle.as_bytes().len()) {
                self.was_too_large = true;
                return Err(error);
            }
            if pickle.as_bytes().len() >= LARGE
                && let Some(position) = deps.take_out(object, pickle.as_bytes())?
            {
                self.function(position);
                return Ok(());
            }
            return self.pickle_head(pickle.as_bytes(), &[]);
        };
        let pickled = pickle::dumps_out_of_band(object)?;
        let writable: Vec<u8> = pickled.buffers.iter().map(|(_, w)| u8::from(*w)).collect();
        segments.extend(pickled.buffers.into_iter().map(|(bytes, _)| bytes));
        self.pickle_head(pickled.head.as_bytes(), &writable)
    }

    /// Arguments behind their number.
    fn arguments(
        &mut self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        deps: &mut dyn Dependencies,
    ) -> PyResult<()> {
        for argument in args.iter() {
            self.object(&argument, deps)?;
        }
        let Some(kwargs) = kwargs else { return self.start_keywords(0) };
        self.start_keywords(kwargs.len())?;
        for (name, value) in kwargs.iter() {
            self.keyword(name.cast::<PyString>()?.to_str()?)?;
            self.object(&value, deps)?;
        }
        Ok(())
    }

    fn pickle_head(&mut self, pickle: &[u8], writable: &[u8]) -> PyResult<()> {
        self.counted(tag::PICKLE, pickle.len())?;
        self.out.extend_from_slice(&count(writable.len())?.to_le_bytes());
        self.out.extend_from_slice(writable);
        self.out.extend_from_slice(pickle);
        Ok(())
    }
}

/// The items of a list, tuple or set, held while they are written.
fn snapshot<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return Ok(tuple.iter().collect());
    }
    if let Ok(list) = object.cast::<PyList>() {
        return Ok(list.iter().collect());
    }
    if let Ok(set) = object.cast::<PySet>() {
        return Ok(set.iter().collect());
    }
    if let Ok(set) = object.cast::<PyFrozenSet>() {
        return Ok(set.iter().collect());
    }
    object.try_iter()?.collect()
}

/// A value as segments: the head, then its large buffers, which stay where they are in memory.
pub fn encode_value(object: &Bound<'_, PyAny>) -> PyResult<Vec<Bytes>> {
    let mut writer = Writer::segmented();
    writer.object(object, &mut NoDependencies)?;
    let mut segments = vec![Bytes::from(writer.out)];
    segments.extend(writer.segments.unwrap_or_default());
    Ok(segments)
}

/// The arguments of a call as segments, as [`encode_value`] writes a value.
pub fn encode_arguments(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    deps: &mut dyn Dependencies,
) -> PyResult<Vec<Bytes>> {
    let mut writer = Writer::segmented();
    writer.start_arguments(args.len())?;
    writer.arguments(args, kwargs, deps)?;
    let mut segments = vec![Bytes::from(writer.out)];
    segments.extend(writer.segments.unwrap_or_default());
    Ok(segments)
}

/// The value in one piece of at most `limit` bytes, when that can be told without pickling:
/// `None`, numbers, short text and bytes, and short containers of them.
pub fn encode_inline(object: &Bound<'_, PyAny>, limit: usize) -> PyResult<Option<Bytes>> {
    if is_scalar(object) {
        let is_long =
            object.cast_exact::<PyString>().is_ok_and(|s| s.len().is_ok_and(|n| n > limit))
                || object.cast_exact::<PyBytes>().is_ok_and(|b| b.as_bytes().len() > limit);
        if is_long {
            return Ok(None);
        }
    } else if matches!(kind_of(object)?, Kind::Other) || !Scan::of(object, &NoDependencies)?.native
    {
        return Ok(None);
    }
    let mut writer = Writer::contiguous();
    writer.object(object, &mut NoDependencies)?;
    Ok((writer.out.len() <= limit).then(|| Bytes::from(writer.out)))
}

/// The call `functions[0](*args, **kwargs)` as a body.
pub fn encode_call(
    writer: &mut Writer,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    deps: &mut dyn Dependencies,
) -> PyResult<()> {
    writer.start_call(0, args.len())?;
    writer.arguments(args, kwargs, deps)
}
