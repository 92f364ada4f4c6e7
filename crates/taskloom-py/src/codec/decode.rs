//! Reading. Damaged bytes are a `ValueError`, never a panic.

use super::buffers::SegmentBuffer;
use super::{MAX_DEPTH, pickle, tag};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

/// What a task's body asks for.
pub enum Work<'py> {
    Call {
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
    },
    /// The result is known without a call: a literal, or a dependency under another name.
    Value(Bound<'py, PyAny>),
}

fn damaged(what: &str) -> PyErr {
    PyValueError::new_err(format!("damaged encoding: {what}"))
}

/// Reads one encoding front to back.
struct Reader<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
    segments: std::vec::IntoIter<Bytes>,
    functions: &'a [Py<PyAny>],
    deps: &'a [Py<PyAny>],
    /// Values of the steps so far; taken by their last use.
    steps: Vec<Option<Bound<'py, PyAny>>>,
    /// Short buffers are copied: their segments are parts of something long.
    detaches: bool,
}

/// Shorter buffers are copied where a long piece of memory would live as long as they do, in bytes.
const DETACH_BELOW: usize = 16 * 1024;

impl<'a, 'py> Reader<'a, 'py> {
    /// Of an encoding that names no functions and no dependencies, and is nobody's part.
    fn of(py: Python<'py>, encoding: &'a [u8]) -> Self {
        Self {
            py,
            rest: encoding,
            segments: Vec::new().into_iter(),
            functions: &[],
            deps: &[],
            steps: Vec::new(),
            detaches: false,
        }
    }

    fn take(&mut self, length: usize) -> PyResult<&'a [u8]> {
        let (head, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (head, rest) =
            self.rest.split_first_chunk().ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> PyResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> PyResult<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// A count of items, each of which takes at least one byte.
    fn count(&mut self) -> PyResult<usize> {
        let count = self.number()?;
        if count > self.rest.len() {
            return Err(damaged("a count is larger than what follows"));
        }
        Ok(count)
    }

    fn blob(&mut self) -> PyResult<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn text(&mut self) -> PyResult<&'a str> {
        std::str::from_utf8(self.blob()?).map_err(|_| damaged("text is not UTF-8"))
    }

    fn segment(&mut self) -> PyResult<Bytes> {
        self.segments.next().ok_or_else(|| damaged("a segment is missing"))
    }

    fn items(&mut self, count: usize, depth: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
        (0..count).map(|_| self.item(depth + 1)).collect()
    }

    fn item(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        // Arguments may use all of it, and stand deep inside nested calls.
        if depth > 2 * MAX_DEPTH {
            return Err(damaged("it is nested too deep"));
        }
        let py = self.py;
        Ok(match self.byte()? {
            tag::NONE => py.None().into_bound(py),
            tag::TRUE => PyBool::new(py, true).to_owned().into_any(),
            tag::FALSE => PyBool::new(py, false).to_owned().into_any(),
            tag::INT => PyInt::new(py, i64::from_le_bytes(self.array()?)).into_any(),
            tag::FLOAT => PyFloat::new(py, f64::from_le_bytes(self.array()?)).into_any(),
            tag::BIG_INT => {
                let class = py.get_type::<PyInt>();
                class.call1((self.text()?, 16))?
            }
            tag::TEXT => PyString::new(py, self.text()?).into_any(),
            tag::BYTES => PyBytes::new(py, self.blob()?).into_any(),
            tag::BYTES_SEGMENT => PyBytes::new(py, &self.segment()?).into_any(),
            tag::DEPENDENCY => self.dependency()?,
            tag::FUNCTION => self.function()?,
            tag::PICKLE => self.pickle()?,
            tag::STEP => self.step()?,
            tag::LAST_STEP => self.last_step()?,
            tag::STEPS => {
                self.steps(depth)?;
                self.item(depth + 1)?
            }
            container => self.container(container, depth)?,
        })
    }

    fn container(&mut self, tag: u8, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match tag {
            tag::CALL => {
                let function = self.function()?;
                self.apply(&function, depth)
            }
            tag::APPLY => {
                let function = self.item(depth + 1)?;
                self.apply(&function, depth)
            }
            tag::DICT => self.dict(depth),
            tag::TUPLE | tag::LIST | tag::SET | tag::FROZEN_SET => {
                let count = self.count()?;
                let items = self.items(count, depth)?;
                Ok(match tag {
                    tag::TUPLE => PyTuple::new(py, items)?.into_any(),
                    tag::LIST => PyList::new(py, items)?.into_any(),
                    tag::SET => PySet::new(py, items)?.into_any(),
                    _ => PyFrozenSet::new(py, items)?.into_any(),
                })
            }
            unknown => Err(damaged(&format!("unknown tag {unknown}"))),
        }
    }

    fn dict(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        for _ in 0..self.count()? {
            let key = self.item(depth + 1)?;
            dict.set_item(key, self.item(depth + 1)?)?;
        }
        Ok(dict.into_any())
    }

    /// Evaluates the steps; the item that uses them follows.
    fn steps(&mut self, depth: usize) -> PyResult<()> {
        for _ in 0..self.count()? {
            let value = self.item(depth + 1)?;
            self.steps.push(Some(value));
        }
        Ok(())
    }

    fn step(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let step = self.number()?;
        self.steps.get(step).cloned().flatten().ok_or_else(|| damaged("no such step"))
    }

    fn last_step(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let step = self.number()?;
        let value = self.steps.get_mut(step).and_then(Option::take);
        value.ok_or_else(|| damaged("no such step"))
    }

    fn dependency(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let dep = self.deps.get(self.number()?);
        Ok(dep.ok_or_else(|| damaged("no such dependency"))?.bind(self.py).clone())
    }

    fn function(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let function = self.functions.get(self.number()?);
        Ok(function.ok_or_else(|| damaged("no such function"))?.bind(self.py).clone())
    }

    fn pickle(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let length = self.number()?;
        let buffers = self.number()?;
        let writable = self.take(buffers)?;
        let pickle = PyBytes::new(self.py, self.take(length)?);
        let buffers = writable.iter().map(|&writable| {
            let mut segment = self.segment()?;
            if self.detaches && segment.len() < DETACH_BELOW {
                segment = Bytes::copy_from_slice(&segment);
            }
            Ok(match writable {
                0 => SegmentBuffer::shared(segment),
                _ => SegmentBuffer::writable(segment),
            })
        });
        let buffers = buffers.collect::<PyResult<Vec<_>>>()?;
        pickle::loads_with_buffers(self.py, pickle, buffers)
    }

    fn arguments(
        &mut self,
        depth: usize,
    ) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        let count = self.count()?;
        let args = PyTuple::new(self.py, self.items(count, depth)?)?;
        let count = self.count()?;
        if count == 0 {
            return Ok((args, None));
        }
        let kwargs = PyDict::new(self.py);
        for _ in 0..count {
            // Interned: a keyword is compared with the function's own names by identity first.
            let name = PyString::intern(self.py, self.text()?);
            kwargs.set_item(name, self.item(depth + 1)?)?;
        }
        Ok((args, Some(kwargs)))
    }

    fn apply(&mut self, function: &Bound<'py, PyAny>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let (args, kwargs) = self.arguments(depth)?;
        function.call(args, kwargs.as_ref())
    }

    fn work(&mut self) -> PyResult<Work<'py>> {
        while self.rest.first() == Some(&tag::STEPS) {
            self.byte()?;
            self.steps(0)?;
        }
        match self.rest.first() {
            Some(&tag::CALL) => {
                self.byte()?;
                let function = self.function()?;
                let (args, kwargs) = self.arguments(0)?;
                Ok(Work::Call { function, args, kwargs })
            }
            Some(&tag::APPLY) => {
                self.byte()?;
                let function = self.item(1)?;
                let (args, kwargs) = self.arguments(0)?;
                Ok(Work::Call { function, args, kwargs })
            }
            _ => Ok(Work::Value(self.item(0)?)),
        }
    }
}

/// Reads a task's body. `functions` and `deps` are in the order of the task's lists.
///
/// # Errors
/// `ValueError` for damaged bytes, and whatever unpickling an argument raises.
pub fn decode_body<'py>(
    py: Python<'py>,
    body: &[u8],
    functions: &[Py<PyAny>],
    deps: &[Py<PyAny>],
) -> PyResult<Work<'py>> {
    Reader { functions, deps, ..Reader::of(py, body) }.work()
}

/// Reads a value. Consumes the segments: an array over memory that nobody else holds may then be
/// changed in place without a copy.
///
/// # Errors
/// `ValueError` for damaged bytes, and whatever unpickling raises.
pub fn decode_value(py: Python<'_>, segments: Vec<Bytes>) -> PyResult<Bound<'_, PyAny>> {
    read_value(py, segments, false)
}

/// As [`decode_value`], of segments that are parts of what came over a connection: what is short keeps
/// none of it.
///
/// # Errors
/// As [`decode_value`].
pub fn decode_arrived(py: Python<'_>, segments: Vec<Bytes>) -> PyResult<Bound<'_, PyAny>> {
    read_value(py, segments, true)
}

fn read_value(py: Python<'_>, segments: Vec<Bytes>, detaches: bool) -> PyResult<Bound<'_, PyAny>> {
    let (head, segments) = behead(segments)?;
    Reader { segments, detaches, ..Reader::of(py, &head) }.item(0)
}

/// The head, and the buffers behind it.
fn behead(segments: Vec<Bytes>) -> PyResult<(Bytes, std::vec::IntoIter<Bytes>)> {
    let mut segments = segments.into_iter();
    let head = segments.next().ok_or_else(|| damaged("there is not even a head"))?;
    // The head may share its memory with the buffers: a copy of it lets them go free. Heads of
    // values with buffers are short.
    let head = if segments.len() > 0 { Bytes::copy_from_slice(&head) } else { head };
    Ok((head, segments))
}

/// Reads what an actor is called with. `deps` are in the order of the call's list. Consumes the
/// segments as [`decode_value`] does.
///
/// # Errors
/// As [`decode_value`].
pub fn decode_arguments<'py>(
    py: Python<'py>,
    segments: Vec<Bytes>,
    deps: &[Py<PyAny>],
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let (head, segments) = behead(segments)?;
    Reader { segments, deps, ..Reader::of(py, &head) }.arguments(0)
}

/// A value in one segment, as [`super::encode_inline`] makes it.
///
/// # Errors
/// As [`decode_value`].
pub fn decode_small<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Reader::of(py, bytes).item(0)
}
