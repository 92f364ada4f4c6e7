//! Memory that is a segment from the start: what is made in it need not be copied for readers.
//!
//! An allocator hands such memory to a task ([`Pool::allocate`]). When the bytes of a value lie in
//! it, readers get the segment itself ([`share_in_place`]). From then on its owner must not change
//! what they see: the owner's mapping is made private ([`keep_as_is`]), at once if anybody in the
//! owner's process may know the memory, or else before anybody gets to know it.

use super::mapping::Mapping;
use super::pool::{Home, Pool};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

/// Memory that somebody has, by where it starts.
type Table = BTreeMap<usize, Born>;

/// Not one of parking_lot's, since it is held across `fork`: those have state beside the lock.
static TABLE: Mutex<Table> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct Born {
    /// Where the segment goes when the memory is free.
    home: Home,
    /// As asked for, in bytes.
    length: usize,
    /// As mapped for the readers that there are.
    readers: Weak<Mapping>,
}

fn table() -> MutexGuard<'static, Table> {
    // Nothing that is done under the lock leaves the table half changed.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(table: &mut Table, address: usize) -> Option<(usize, &mut Born)> {
    let (start, born) = table.range_mut(..=address).next_back()?;
    (address - start < born.length).then_some((*start, born))
}

impl Pool {
    /// Memory for `length` bytes, at the start of a page. It belongs to the caller until
    /// [`release`]. Without `zeroed` it holds anything.
    ///
    /// # Errors
    /// When the pool's limits are reached, or there are no mappings or descriptors to be had.
    pub fn allocate(self: &Arc<Self>, length: usize, zeroed: bool) -> io::Result<NonNull<u8>> {
        // Twice the length must still be a number.
        if length > isize::MAX as usize / 2 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        watch_forks()?;
        let home = self.take_in_place(length as u64)?;
        let start = home.file().window()?;
        if zeroed && home.is_reused() {
            // SAFETY: at least `length` bytes are mapped there, and nobody else has them.
            unsafe { start.as_ptr().write_bytes(0, length) };
        }
        let born = Born { home, length, readers: Weak::new() };
        table().insert(start.as_ptr() as usize, born);
        Ok(start)
    }
}

/// Takes back what [`Pool::allocate`] gave; false: it did not give that.
///
/// # Safety
/// If it did, the caller must not use the memory any more.
pub unsafe fn release(start: NonNull<u8>) -> bool {
    let born = table().remove(&(start.as_ptr() as usize));
    // What is done with the segment is done without the lock.
    born.is_some()
}

/// How many bytes [`Pool::allocate`] gave at `start`.
#[must_use]
pub fn length_of(start: NonNull<u8>) -> Option<usize> {
    table().get(&(start.as_ptr() as usize)).map(|born| born.length)
}

/// Makes memory longer or shorter where it is; false: it must be moved, to be that long or not to
/// waste much.
#[must_use]
pub fn resize_in_place(start: NonNull<u8>, length: usize) -> bool {
    let mut table = table();
    let Some(born) = table.get_mut(&(start.as_ptr() as usize)) else { return false };
    let fits = born.home.suits(length as u64);
    if fits {
        born.length = length;
    }
    fits
}

/// Puts segments in place of the bytes that lie in memory from [`Pool::allocate`].
///
/// What such memory held when it was first shared is what readers get. It is shared once: if it
/// was made private since (see [`keep_as_is`]), its owner may have changed it, and the bytes
/// stay as they are.
///
/// `only_here`: nobody else in this process can write to the bytes; who lets somebody calls
/// [`keep_as_is`] first.
pub fn share_in_place(segments: &mut [Bytes], only_here: bool) {
    let mut table = table();
    let found: Vec<_> = segments.iter().map(|segment| share_one(&mut table, segment)).collect();
    // After the last one was found: several may lie in one segment.
    let is_safe = |(start, _): &(usize, Bytes)| {
        only_here || table.get(start).is_some_and(|born| born.home.file().make_private().is_ok())
    };
    let found: Vec<_> = found.into_iter().map(|found| found.filter(&is_safe)).collect();
    drop(table);
    // Without the lock: who holds the last reference to memory gives it back.
    for (segment, found) in segments.iter_mut().zip(found) {
        if let Some((_, shared)) = found {
            *segment = shared;
        }
    }
}

fn share_one(table: &mut Table, segment: &Bytes) -> Option<(usize, Bytes)> {
    let address = segment.as_ptr() as usize;
    let (start, born) = find(table, address)?;
    let file = born.home.file();
    let offset = address - start;
    if offset + segment.len() > born.length || file.is_private() {
        return None;
    }
    let mapping = match born.readers.upgrade() {
        Some(mapping) if mapping.length() >= born.length as u64 => mapping,
        _ => Mapping::new(file.open_reader().ok()?, born.length as u64, None).ok()?,
    };
    born.readers = Arc::downgrade(&mapping);
    Some((start, mapping.bytes().slice(offset..offset + segment.len())))
}

/// From now on what is written to the memory around `address` is the owner's alone: readers keep
/// what they have. For who passes on memory that was shared with nobody else knowing it.
pub fn keep_as_is(address: usize) {
    if let Some((_, born)) = find(&mut table(), address) {
        // The kernel exchanges a mapping for another one of the same size: that needs nothing
        // which it might not have, other than a few bytes of its own.
        let _ = born.home.file().make_private();
    }
}

/// Whether `address` lies in memory from [`Pool::allocate`].
#[must_use]
pub fn is_born_shared(address: usize) -> bool {
    find(&mut table(), address).is_some()
}

/// What memory from [`Pool::allocate`] occupies, in bytes, if any of it was made private: then the
/// process's resident memory does not tell. 0 otherwise.
#[must_use]
pub fn held_with_private() -> u64 {
    let table = table();
    if !table.values().any(|born| born.home.file().is_private()) {
        return 0;
    }
    table.values().map(|born| born.home.file().occupied_bytes()).sum()
}

// A forked child has all memory of its parent, as it was: neither sees what the other writes from
// then on. Memory that both have mapped as shared would break that. So it is made private before
// the fork, and its segments are not used again, since the child may read them as long as it lives.

thread_local! {
    /// Keeps others from the table from before a fork until after it.
    static FORKING: RefCell<Option<MutexGuard<'static, Table>>> = const { RefCell::new(None) };
}

fn watch_forks() -> io::Result<()> {
    static ONCE: Once = Once::new();
    static FAILED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
    use std::sync::atomic::Ordering::Relaxed;
    ONCE.call_once(|| {
        // SAFETY: the three functions may be called on any thread that forks.
        let status =
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        FAILED.store(status, Relaxed);
    });
    match FAILED.load(Relaxed) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

extern "C" fn before_fork() {
    let mut table = table();
    for born in table.values_mut() {
        born.home.leave_to_children();
    }
    FORKING.with_borrow_mut(|forking| *forking = Some(table));
}

extern "C" fn after_fork() {
    FORKING.with_borrow_mut(|forking| drop(forking.take()));
}
