//! Memory that Rust and Python share without a copy, in both directions.

use bytes::{Bytes, BytesMut};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, buffer::PyUntypedBuffer, ffi};
use std::ffi::c_int;
use taskloom_data::files::FilePart;
use taskloom_data::shared::{PrivateView, place_of};

/// Bytes that a Python object owns. Dropping it on a thread without the GIL queues the release.
struct PythonMemory {
    start: *const u8,
    length: usize,
    /// Keeps `start` valid: a bytes object, or a memoryview that nobody else can release.
    _owner: Py<PyAny>,
}

// SAFETY: the memory stays valid and in place while `_owner` lives, which any thread may drop.
// It is only read. That the user changes an array while it is being sent is the user's race, as
// with any zero-copy transfer.
unsafe impl Send for PythonMemory {}

impl AsRef<[u8]> for PythonMemory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: see above; `start` is not null since empty buffers are never wrapped.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// The content of a bytes object, shared.
pub(super) fn share_bytes(object: &Bound<'_, pyo3::types::PyBytes>) -> Bytes {
    let slice = object.as_bytes();
    if slice.is_empty() {
        return Bytes::new();
    }
    let owner = object.clone().into_any().unbind();
    Bytes::from_owner(PythonMemory { start: slice.as_ptr(), length: slice.len(), _owner: owner })
}

/// The content of a `pickle.PickleBuffer`, shared, and whether it is writable.
pub(super) fn share_pickle_buffer(buffer: &Bound<'_, PyAny>) -> PyResult<(Bytes, bool)> {
    // `raw()` is a flat view of its own: it keeps the exporter's memory locked while it lives.
    let view = buffer.call_method0(pyo3::intern!(buffer.py(), "raw"))?;
    let raw = PyUntypedBuffer::get(&view)?;
    let (start, length, writable) = (raw.buf_ptr(), raw.len_bytes(), !raw.readonly());
    raw.release(buffer.py());
    if length == 0 {
        return Ok((Bytes::new(), writable));
    }
    let memory = PythonMemory { start: start.cast(), length, _owner: view.unbind() };
    Ok((Bytes::from_owner(memory), writable))
}

/// What a [`SegmentBuffer`] holds.
enum Memory {
    Shared(Bytes),
    /// Ours alone, so that an array over it may be changed in place.
    Owned(BytesMut),
    /// Pages that others read, too: what is changed in place is copied by the kernel.
    Private(PrivateView),
    /// As `Private`, of a file on the worker's disk.
    OnDisk(FilePart),
}

/// Shorter buffers in shared memory are copied: that costs less than a mapping of their own.
const VIEW_FROM: usize = 64 * 1024;

/// A received segment as a Python buffer: arrays are built over it without a copy.
#[pyclass(frozen, module = "taskloom._taskloom")]
pub struct SegmentBuffer {
    memory: Memory,
}

impl SegmentBuffer {
    pub(super) fn shared(segment: Bytes) -> Self {
        Self { memory: Memory::Shared(segment) }
    }

    /// A buffer that may be written to: without a copy when nobody else holds the memory, or when
    /// it is shared memory.
    pub(super) fn writable(segment: Bytes) -> Self {
        if segment.len() >= VIEW_FROM
            && let Some(place) = place_of(&segment)
            && let Ok(view) = place.private_view(segment.len())
        {
            return Self { memory: Memory::Private(view) };
        }
        if let Some(part) = FilePart::of(&segment) {
            return Self { memory: Memory::OnDisk(part) };
        }
        let owned = segment.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        Self { memory: Memory::Owned(owned) }
    }
}

#[pymethods]
impl SegmentBuffer {
    fn __len__(&self) -> usize {
        match &self.memory {
            Memory::Shared(bytes) => bytes.len(),
            Memory::Owned(bytes) => bytes.len(),
            Memory::Private(view) => view.len(),
            Memory::OnDisk(part) => part.len(),
        }
    }

    // SAFETY: `view` comes from the interpreter. The memory does not move and lives as long as
    // `slf`, to which the view holds a reference.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, length, readonly) = match &slf.get().memory {
            Memory::Shared(bytes) => (bytes.as_ptr(), bytes.len(), 1),
            Memory::Owned(bytes) => (bytes.as_ptr(), bytes.len(), 0),
            Memory::Private(view) => (view.as_ptr().cast_const(), view.len(), 0),
            Memory::OnDisk(part) => (part.as_ptr().cast_const(), part.len(), 0),
        };
        let length = length as ffi::Py_ssize_t;
        // SAFETY: fills the view that the interpreter passed; writable memory is nobody else's.
        let result = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start as *mut _, length, readonly, flags)
        };
        match result {
            0 => Ok(()),
            _ => Err(PyErr::take(slf.py())
                .unwrap_or_else(|| PyBufferError::new_err("the segment gives no buffer"))),
        }
    }

    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}
