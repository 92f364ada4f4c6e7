//! A segment that its owner writes in place.

use super::large::{self, LARGE_PAGE};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

const PROTECTION: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// The owner's writable mapping of a segment.
///
/// While it is *shared*, what is written goes into the segment's pages, which every reader sees.
/// Once it is *private*, the kernel copies each page that is written to: the segment keeps what it
/// held at that moment, and the owner's addresses stay valid.
#[derive(Debug)]
pub(super) struct Window {
    start: NonNull<u8>,
    length: usize,
    private: bool,
}

// SAFETY: it names memory of the process, which is mapped until the drop. Who may touch it is
// settled by who was given the memory.
unsafe impl Send for Window {}

impl Window {
    /// Maps the first `length` bytes of a file that is open for writing; its size is sealed.
    pub(super) fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let start = large::map(length, PROTECTION, MapFlags::SHARED, file, 0)?;
        if length >= LARGE_PAGE {
            // SAFETY: the mapping was just made. A hint for what is touched later: most systems do
            // not heed it for shared memory.
            let _ = unsafe {
                rustix::mm::madvise(start.as_ptr().cast(), length, Advice::LinuxHugepage)
            };
        }
        Ok(Self { start, length, private: false })
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Takes what is written from now on out of the segment. Other threads may use the memory
    /// meanwhile: the kernel exchanges the mapping in one step.
    pub(super) fn make_private(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        if self.private {
            return Ok(());
        }
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: replaces this window's own mapping by one of the same bytes.
        unsafe {
            rustix::mm::mmap(self.start.as_ptr().cast(), self.length, PROTECTION, flags, file, 0)?
        };
        self.private = true;
        Ok(())
    }

    /// Keeps a child process of a `fork` from having this memory.
    pub(super) fn hide_from_children(&self) {
        // SAFETY: this window's own mapping; nothing in this process changes. It cannot fail on a
        // mapping, and nothing is left to be tried if it did.
        let _ = unsafe {
            rustix::mm::madvise(self.start.as_ptr().cast(), self.length, Advice::LinuxDontFork)
        };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; who was given the memory has given it back.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
