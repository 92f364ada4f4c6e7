//! Shared memory that may be written to without anybody seeing it.

use super::large;
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::os::fd::BorrowedFd;

/// A copy-on-write view of a part of a segment: reading costs nothing, and a page that is written
/// to is copied by the kernel for this view alone. The segment counts as used while it lives.
#[derive(Debug)]
pub struct PrivateView {
    /// Page-aligned start and length of the mapping.
    base: *mut u8,
    mapped: usize,
    /// Of the view in the mapping.
    offset: usize,
    length: usize,
}

// SAFETY: this view alone refers to its mapping.
unsafe impl Send for PrivateView {}
// SAFETY: shared references only give the address.
unsafe impl Sync for PrivateView {}

impl PrivateView {
    pub(super) fn new(reader: BorrowedFd<'_>, from: u64, length: usize) -> io::Result<Self> {
        let page = rustix::param::page_size() as u64;
        let start = from - from % page;
        let offset = (from - start) as usize;
        let mapped = length.checked_add(offset).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let base = large::map(mapped, protection, MapFlags::PRIVATE, reader, start)?.as_ptr();
        Ok(Self { base, mapped, offset, length })
    }

    /// The first byte; [`PrivateView::len`] bytes from it may be read and written while this lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.base.add(self.offset) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for PrivateView {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nobody else knows the mapping.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), self.mapped) };
    }
}
