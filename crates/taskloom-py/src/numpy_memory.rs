//! Arrays that tasks make are in shared memory from the start, so that a large result need not be
//! copied for its readers: NumPy asks the allocator that a context variable names (NEP 49), and
//! executor threads name this one.
//!
//! taskloom does not import NumPy. Once the process has, the next task that a thread starts finds
//! it and sets the variable in the thread's own context, of which every task's is a copy.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict};
use pyo3::{ffi, intern};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use taskloom_data::shared;
use taskloom_runtime::data::{Allocator, SHARE_FROM};

/// Where arrays get their memory; not set in processes that are not a worker's own.
static MEMORY: OnceLock<Allocator> = OnceLock::new();

/// NumPy's functions, from its C API; `None` if it is too old.
static NUMPY: OnceLock<Option<Numpy>> = OnceLock::new();

/// Arrays of this size or more are in shared memory, in bytes.
const SHARED_FROM: usize = SHARE_FROM;

/// Memory from the pool begins at multiples of this; what does not is not from there.
const PAGE_SIZE: usize = 4096;

thread_local! {
    /// Whether there is nothing left to do for this thread.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
}

/// The allocator of a worker process. Only the first call counts.
pub fn enable(memory: Allocator) {
    let _ = MEMORY.set(memory);
}

/// Has arrays of the calling thread's tasks be made in shared memory, once NumPy is there. Call it
/// outside the tasks' contexts.
pub fn set_in_thread(py: Python<'_>) {
    if MEMORY.get().is_none() || IS_SET.get() {
        return;
    }
    match try_set(py) {
        Ok(is_done) => IS_SET.set(is_done),
        // Then arrays are where they always are.
        Err(error) => {
            IS_SET.set(true);
            error.write_unraisable(py, None);
        }
    }
}

/// False: NumPy is not there yet.
fn try_set(py: Python<'_>) -> PyResult<bool> {
    let Some(module) = c_module(py)? else { return Ok(false) };
    let numpy = match NUMPY.get() {
        Some(numpy) => numpy,
        None => {
            let table = module.getattr(intern!(py, "_ARRAY_API"))?;
            let found = Numpy::from_table(table.cast()?)?;
            NUMPY.get_or_init(|| found)
        }
    };
    let Some(numpy) = numpy else { return Ok(true) };
    // SAFETY: the name and the handler live as long as the process, as NumPy asks: arrays hold
    // the capsule, and their memory is freed through it.
    let capsule = unsafe {
        let handler = ptr::from_ref(&HANDLER).cast_mut().cast();
        Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(handler, CAPSULE_NAME.as_ptr(), None))?
    };
    // SAFETY: the interpreter is attached and the capsule is what the function takes. It gives a
    // reference to the handler before, or null with an exception set.
    let before = unsafe { (numpy.set_handler)(capsule.as_ptr()) };
    // SAFETY: as above.
    drop(unsafe { Bound::from_owned_ptr_or_err(py, before)? });
    Ok(true)
}

/// NumPy's C module, when somebody has imported all of NumPy.
fn c_module(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    /// Kept: this is asked before every task of a worker that does not use NumPy.
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
        PyResult::Ok(modules.cast_into::<PyDict>()?.unbind())
    })?;
    let modules = modules.bind(py);
    let Some(numpy) = modules.get_item(intern!(py, "numpy"))? else { return Ok(None) };
    // Another thread may be in the middle of importing it.
    let spec = numpy.getattr_opt(intern!(py, "__spec__"))?;
    let initializing = match &spec {
        Some(spec) => spec.getattr_opt(intern!(py, "_initializing"))?,
        None => None,
    };
    if initializing.is_some_and(|value| value.is_truthy().unwrap_or(true)) {
        return Ok(None);
    }
    let name = intern!(py, "numpy._core._multiarray_umath");
    match modules.get_item(name)? {
        Some(module) => Ok(Some(module)),
        // Before NumPy 2.
        None => modules.get_item(intern!(py, "numpy.core._multiarray_umath")),
    }
}

type SetHandler = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;

/// What is used of NumPy's C API. A table of pointers; positions never change.
struct Numpy {
    array_type: *mut ffi::PyTypeObject,
    set_handler: SetHandler,
    /// Of memory that is not shared.
    default: DataAllocator,
}

// SAFETY: addresses of functions and of a type that live as long as the process.
unsafe impl Send for Numpy {}
// SAFETY: as above.
unsafe impl Sync for Numpy {}

impl Numpy {
    const ARRAY_TYPE: usize = 2;
    const FEATURE_VERSION: usize = 211;
    const SET_HANDLER: usize = 304;
    const DEFAULT_HANDLER: usize = 306;
    /// NumPy 1.22, the first with handlers.
    const NEEDED_VERSION: c_uint = 0xf;

    fn from_table(capsule: &Bound<'_, PyCapsule>) -> PyResult<Option<Self>> {
        let table = pointer_of(capsule.as_any(), None)?.cast::<*mut c_void>();
        // SAFETY: the capsule holds the table of NumPy's C API, in which each position is of the
        // type that is documented for it. Positions of functions that a version does not have are
        // not looked at.
        unsafe {
            let at = |position: usize| *table.as_ptr().add(position);
            let version: unsafe extern "C" fn() -> c_uint =
                std::mem::transmute(at(Self::FEATURE_VERSION));
            if version() < Self::NEEDED_VERSION {
                return Ok(None);
            }
            let default = *at(Self::DEFAULT_HANDLER).cast::<*mut ffi::PyObject>();
            let default = Bound::from_borrowed_ptr_or_err(capsule.py(), default)?;
            let default = pointer_of(&default, Some(CAPSULE_NAME))?.cast::<Handler>();
            Ok(Some(Self {
                array_type: at(Self::ARRAY_TYPE).cast(),
                set_handler: std::mem::transmute::<*mut c_void, SetHandler>(at(Self::SET_HANDLER)),
                default: default.as_ref().allocator,
            }))
        }
    }
}

fn pointer_of(object: &Bound<'_, PyAny>, name: Option<&CStr>) -> PyResult<NonNull<c_void>> {
    let name = name.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: attached; the call checks that it is a capsule of that name.
    let pointer = unsafe { ffi::PyCapsule_GetPointer(object.as_ptr(), name) };
    NonNull::new(pointer).ok_or_else(|| {
        let py = object.py();
        PyErr::take(py).unwrap_or_else(|| PyImportError::new_err("numpy has no C API"))
    })
}

/// The address of an array's memory when nobody but its only reference can write to it: its
/// worker may then lend it as it is. `None` otherwise, and when the memory is not shared memory.
#[must_use]
pub fn lendable(array: &Bound<'_, PyAny>) -> Option<NonZeroAddress> {
    let numpy = NUMPY.get()?.as_ref()?;
    // The worker's reference, and this one.
    if !is_array(numpy, array) || references(array) > 2 || has_weak_references(array)? {
        return None;
    }
    let address = data_of(array)?;
    // A view of an array that nobody else has is as good: such as a transposed one.
    let base = array.getattr(intern!(array.py(), "base")).ok()?;
    if !base.is_none() {
        let is_root = base.getattr(intern!(array.py(), "base")).is_ok_and(|base| base.is_none());
        let is_known = references(&base) > 2 || has_weak_references(&base)?;
        if !is_array(numpy, &base) || !is_root || is_known {
            return None;
        }
    }
    shared::is_born_shared(address.get()).then_some(address)
}

/// Smaller arrays travel inside their pickle, in bytes.
const COMPACT_FROM: usize = 64 * 1024;

/// The same elements without gaps, when an array has gaps: NumPy pickles only arrays without them
/// with their buffer beside the pickle, and copies others several times. `None`: it is to be
/// pickled as it is.
#[must_use]
pub fn compacted<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let numpy = NUMPY.get()?.as_ref()?;
    if !is_array(numpy, array) {
        return None;
    }
    let compact = || -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = array.py();
        let flags = array.getattr(intern!(py, "flags"))?;
        let is_small = array.getattr(intern!(py, "nbytes"))?.extract::<usize>()? < COMPACT_FROM;
        if is_small || flags.getattr(intern!(py, "forc"))?.is_truthy()? {
            return Ok(None);
        }
        let dtype = array.getattr(intern!(py, "dtype"))?;
        if dtype.getattr(intern!(py, "hasobject"))?.is_truthy()? {
            return Ok(None);
        }
        array.call_method1(intern!(py, "copy"), (intern!(py, "C"),)).map(Some)
    };
    // Pickling says what is wrong with it, if anything is.
    compact().unwrap_or(None)
}

/// An address, not null.
pub type NonZeroAddress = std::num::NonZeroUsize;

fn is_array(numpy: &Numpy, object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == numpy.array_type }
}

fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: reads the count of a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) as isize }
}

fn has_weak_references(object: &Bound<'_, PyAny>) -> Option<bool> {
    let py = object.py();
    let module = py.import(intern!(py, "_weakref")).ok()?;
    let count = module.call_method1(intern!(py, "getweakrefcount"), (object,)).ok()?;
    Some(count.extract::<usize>().ok()? > 0)
}

fn data_of(array: &Bound<'_, PyAny>) -> Option<NonZeroAddress> {
    let py = array.py();
    let interface = array.getattr(intern!(py, "__array_interface__")).ok()?;
    let data = interface.get_item(intern!(py, "data")).ok()?;
    NonZeroAddress::new(data.get_item(0).ok()?.extract().ok()?)
}

const CAPSULE_NAME: &CStr = c"mem_handler";

/// NumPy's `PyDataMemAllocator`, version 1.
#[repr(C)]
#[derive(Clone, Copy)]
struct DataAllocator {
    context: *mut c_void,
    malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

/// NumPy's `PyDataMem_Handler`.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    allocator: DataAllocator,
}

// SAFETY: constant, and its context is null.
unsafe impl Sync for Handler {}

static HANDLER: Handler = Handler {
    name: handler_name(b"taskloom"),
    version: 1,
    allocator: DataAllocator { context: ptr::null_mut(), malloc, calloc, realloc, free },
};

const fn handler_name(text: &[u8]) -> [c_char; 127] {
    let mut name = [0; 127];
    let mut at = 0;
    while at < text.len() {
        name[at] = text[at] as c_char;
        at += 1;
    }
    name
}

/// The allocator for everything else. The handler is known to nobody before this is.
fn default() -> Option<&'static DataAllocator> {
    NUMPY.get()?.as_ref().map(|numpy| &numpy.default)
}

fn shared_memory(length: usize, zeroed: bool) -> Option<*mut c_void> {
    if length < SHARED_FROM {
        return None;
    }
    Some(MEMORY.get()?.allocate(length, zeroed)?.as_ptr().cast())
}

/// Whether the memory may be from the pool.
fn may_be_shared(pointer: *mut c_void) -> Option<NonNull<u8>> {
    NonNull::new(pointer.cast::<u8>()).filter(|start| start.addr().get() % PAGE_SIZE == 0)
}

unsafe extern "C" fn malloc(_context: *mut c_void, size: usize) -> *mut c_void {
    shared_memory(size, false).unwrap_or_else(|| {
        // SAFETY: NumPy's own allocator, called as NumPy does.
        default()
            .map_or(ptr::null_mut(), |default| unsafe { (default.malloc)(default.context, size) })
    })
}

unsafe extern "C" fn calloc(_context: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let shared = count.checked_mul(size).and_then(|length| shared_memory(length, true));
    shared.unwrap_or_else(|| {
        // SAFETY: NumPy's own allocator, called as NumPy does.
        default().map_or(ptr::null_mut(), |default| unsafe {
            (default.calloc)(default.context, count, size)
        })
    })
}

unsafe extern "C" fn realloc(
    context: *mut c_void,
    pointer: *mut c_void,
    size: usize,
) -> *mut c_void {
    let shared = may_be_shared(pointer);
    let Some((start, length)) = shared.and_then(|start| Some((start, shared::length_of(start)?)))
    else {
        // SAFETY: NumPy's own allocator, called as NumPy does; the memory is its.
        return default().map_or(ptr::null_mut(), |default| unsafe {
            (default.realloc)(default.context, pointer, size)
        });
    };
    if size >= SHARED_FROM && shared::resize_in_place(start, size) {
        return pointer;
    }
    // SAFETY: both are at least as long as what is copied, and they are not the same memory;
    // then the caller has the new one instead of the old one.
    unsafe {
        let moved = malloc(context, size);
        if !moved.is_null() {
            ptr::copy_nonoverlapping(pointer.cast::<u8>(), moved.cast(), length.min(size));
            shared::release(start);
        }
        moved
    }
}

unsafe extern "C" fn free(_context: *mut c_void, pointer: *mut c_void, size: usize) {
    if let Some(start) = may_be_shared(pointer)
        // SAFETY: NumPy gives it back.
        && unsafe { shared::release(start) }
    {
        return;
    }
    if let Some(default) = default() {
        // SAFETY: NumPy's own allocator, called as NumPy does; the memory is its.
        unsafe { (default.free)(default.context, pointer, size) };
    }
}
