//! The memory file behind a segment.

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

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
        Ok(Self { writer, capacity })
    }

    /// A description for one reader.
    pub(super) fn open_reader(&self) -> io::Result<OwnedFd> {
        reopen(self.writer.as_fd(), OFlags::RDONLY)
    }

    /// Whether nobody has it open or mapped, other than through the writer.
    pub(super) fn is_unused(&self) -> bool {
        let lease = |kind: libc::c_int| {
            // SAFETY: `writer` is open; setting and removing a lease touch no memory.
            unsafe { libc::fcntl(self.writer.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
        };
        lease(libc::F_WRLCK) && lease(libc::F_UNLCK)
    }

    /// Writes the parts one after the other, from the start. Written, not mapped and copied: the
    /// kernel then fills fresh pages without a fault for each, and without zeros first.
    pub(super) fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        let mut offset = 0;
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
