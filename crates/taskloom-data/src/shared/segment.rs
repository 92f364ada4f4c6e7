//! The memory file behind a segment.

use super::large::{self, LARGE_PAGE};
use super::window::Window;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Slices offered to one write: what the kernel takes.
const MAX_SLICES: usize = 1024;

/// A memory file that this process may write. Nobody else ever gets a descriptor that may.
///
/// Readers get descriptions of their own ([`SegmentFile::open_reader`]). The kernel counts those
/// per file, descriptors under way and mappings included, and a write lease is only granted when
/// there is none: this is how the owner knows that a segment may be written again, whatever
/// became of the processes that he gave it to.
#[derive(Debug)]
pub(super) struct SegmentFile {
    /// The only description that is open for writing.
    writer: OwnedFd,
    /// Sealed: it never changes.
    pub(super) capacity: u64,
    /// Whether there ever was a reader: as long as there was none, nobody need be asked.
    was_read: AtomicBool,
    /// For writing in place. Kept from one use to the next: making it known to the processor page
    /// by page costs more than filling the pages.
    window: Mutex<Option<Window>>,
    /// How much of it is in large pages, in bytes from the start.
    large: AtomicUsize,
}

impl SegmentFile {
    pub(super) fn create(capacity: u64) -> io::Result<Self> {
        use rustix::fs::MemfdFlags;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("taskloom", flags)?;
        rustix::fs::ftruncate(&file, capacity)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        // The description that `memfd_create` gives is not among those that the kernel counts.
        let writer = reopen(file.as_fd(), OFlags::RDWR)?;
        avoid_lease_signal(&writer)?;
        Ok(Self {
            writer,
            capacity,
            was_read: AtomicBool::new(false),
            window: Mutex::default(),
            large: AtomicUsize::new(0),
        })
    }

    /// A description for one reader.
    pub(super) fn open_reader(&self) -> io::Result<OwnedFd> {
        self.was_read.store(true, Ordering::Relaxed);
        reopen(self.writer.as_fd(), OFlags::RDONLY)
    }

    /// Whether nobody has it open or mapped, other than through the writer.
    pub(super) fn is_unused(&self) -> bool {
        if !self.was_read.load(Ordering::Relaxed) {
            return true;
        }
        let lease = |kind: libc::c_int| {
            // SAFETY: `writer` is open; setting and removing a lease touch no memory.
            unsafe { libc::fcntl(self.writer.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
        };
        lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
    }

    /// Has the pages of a fresh segment come at once, as far as that is cheaper than one by one.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(super) fn fill(&self) -> io::Result<()> {
        let length = usize::try_from(self.capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if length >= LARGE_PAGE {
            let start = self.window()?;
            // SAFETY: the window is of the whole segment, and stays while that is in use.
            let large = unsafe { large::fill(self.writer.as_fd(), start, length) };
            self.large.store(large, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Where all of it can be written in place. For the only user of an unused segment.
    pub(super) fn window(&self) -> io::Result<NonNull<u8>> {
        let mut window = self.window.lock();
        if let Some(window) = &*window {
            return Ok(window.start());
        }
        let length = usize::try_from(self.capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(window.insert(Window::new(self.writer.as_fd(), length)?).start())
    }

    pub(super) fn has_window(&self) -> bool {
        self.window.lock().is_some()
    }

    /// What is written through the window from now on does not reach the segment.
    pub(super) fn make_private(&self) -> io::Result<()> {
        let mut window = self.window.lock();
        window.as_mut().map_or(Ok(()), |window| window.make_private(self.writer.as_fd()))
    }

    /// Whether what was written through the window may differ from the segment.
    pub(super) fn is_private(&self) -> bool {
        self.window.lock().as_ref().is_some_and(Window::is_private)
    }

    /// Forgets a window that does not show the segment any more.
    pub(super) fn close_private_window(&self) {
        let window = self.window.lock().take_if(|window| window.is_private());
        drop(window);
    }

    /// Forgets a window that was only needed to write.
    pub(super) fn close_window(&self) {
        drop(self.window.lock().take());
    }

    /// What it occupies, in bytes.
    pub(super) fn occupied_bytes(&self) -> u64 {
        /// Of `st_blocks`, in bytes, whatever the file system's own are.
        const BLOCK: u64 = 512;
        rustix::fs::fstat(&self.writer).map_or(0, |stat| stat.st_blocks as u64 * BLOCK)
    }

    /// For the last resort before a `fork`.
    pub(super) fn hide_from_children(&self) {
        if let Some(window) = &*self.window.lock() {
            window.hide_from_children();
        }
    }

    /// Copies the beginning of the parts, as much as large pages hold; gives how much that was.
    fn copy_into_large(&self, parts: &[&[u8]]) -> io::Result<usize> {
        let large = self.large.load(Ordering::Relaxed);
        if large == 0 {
            return Ok(0);
        }
        let start = self.window()?;
        let mut copied = 0;
        for part in parts {
            // SAFETY: the window has as many bytes as there are in large pages, and its user is
            // the caller, who has the parts elsewhere.
            copied += unsafe { copy_some(part, start.add(copied), large - copied) };
        }
        Ok(copied)
    }

    /// Writes the parts one after the other, from the start. Into large pages they are copied. The
    /// rest is written: the kernel then fills fresh small pages without a fault for each, and
    /// without zeros first. For the only user of an unused segment.
    pub(super) fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        let copied = self.copy_into_large(parts)?;
        IoSlice::advance_slices(&mut rest, copied);
        let mut offset = copied as u64;
        // Empty parts at the end would be written in vain.
        while rest.iter().any(|slice| !slice.is_empty()) {
            let count = rest.len().min(MAX_SLICES);
            match rustix::io::pwritev(&self.writer, &rest[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut rest, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Copies as much of `part` as there is `room` for, and gives how much that is.
///
/// # Safety
/// `room` bytes at `to` can be written, by nobody else, and none of them is in `part`.
unsafe fn copy_some(part: &[u8], to: NonNull<u8>, room: usize) -> usize {
    let length = part.len().min(room);
    // SAFETY: the caller's promise.
    unsafe { to.copy_from_nonoverlapping(NonNull::from(part).cast(), length) }
    length
}

/// A description of its own for an open memory file.
fn reopen(file: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())?)
}

/// Should anybody open the file in the instant of the lease (a debugger might, through `/proc`), the
/// kernel sends a signal, which by default ends the process; this one is ignored by default.
fn avoid_lease_signal(file: &OwnedFd) -> io::Result<()> {
    /// From `linux/fcntl.h`; the same on all architectures.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: `file` is open; the call touches no memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
