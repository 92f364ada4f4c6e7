//! Large pages for segments.
//!
//! Pages of shared memory are dear when they are touched for the first time: each is had, cleared
//! and put into its file by itself. A large page is had at once, for a tenth of the price, and
//! so is its mapping at every reader. By default kernels do not give them to shared memory that is
//! touched. They do to who asks for a piece by name (`MADV_COLLAPSE`, Linux 6.1), which is done
//! here for whole pieces of fresh segments. Where that is refused, pages come as they always do.
//!
//! It may also take long: the kernel may have to move others' memory to make room, and the host of
//! a virtual machine may have to find memory for what the machine had not used for a while. Small
//! pages, of which parts of used memory are taken, are cheaper then. So each piece is timed, and
//! after a dear one there is a pause in proportion, which gets longer as long as they are dear.

use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A large page, in bytes: those of processors whose ordinary pages are of 4 KiB. Elsewhere the
/// kernel refuses.
pub(super) const LARGE_PAGE: usize = 2 * 1024 * 1024;

/// From `linux/mman.h`; the same on all architectures that have large pages.
const MADV_COLLAPSE: libc::c_int = 25;

/// After a refusal nothing is asked for this long, in the process's own time.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// Processor time beyond which a piece is too dear: on a slow machine its small pages take as much.
const DEAR: Duration = Duration::from_micros(1500);

/// Of the process's own time, pieces that are too dear take at most one part in so many.
const PAUSE_FACTOR: u32 = 50;

/// How often the pause doubles while each piece is too dear.
const MAX_DOUBLINGS: u32 = 4;

/// When the next piece may be asked for, in ms of the process's own time.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Pieces that were too dear since the last one that was not.
static DEAR_ONES: AtomicU32 = AtomicU32::new(0);

/// Processor time that this thread or, for pauses, the whole process has used: what others do on
/// a busy machine makes no piece dear and ends no pause.
fn used(by: ClockId) -> Duration {
    Duration::try_from(clock_gettime(by)).unwrap_or_default()
}

fn is_pausing() -> bool {
    (used(ClockId::ProcessCPUTime).as_millis() as u64) < NEXT.load(Ordering::Relaxed)
}

fn pause(duration: Duration) {
    let end = used(ClockId::ProcessCPUTime) + duration;
    NEXT.store(end.as_millis() as u64, Ordering::Relaxed);
}

/// Pauses if a piece took too long.
fn judge(taken: Duration) {
    if taken > DEAR {
        let doublings = DEAR_ONES.fetch_add(1, Ordering::Relaxed).min(MAX_DOUBLINGS);
        pause(taken * (PAUSE_FACTOR << doublings));
    } else {
        DEAR_ONES.store(0, Ordering::Relaxed);
    }
}

/// Has the first `length` bytes of a fresh file be in large pages, as far as there are any to be
/// had. Gives how many bytes are, from the start.
///
/// # Safety
/// The file is mapped at `start` for at least `length` bytes, and stays so.
pub(super) unsafe fn fill(file: BorrowedFd<'_>, start: NonNull<u8>, length: usize) -> usize {
    let mut done = 0;
    while length - done >= LARGE_PAGE && !is_pausing() {
        let begun = used(ClockId::ThreadCPUTime);
        // SAFETY: within the mapping. What the memory holds does not change.
        if unsafe { fill_one(file, start.add(done), done) }.is_err() {
            pause(PAUSE_AFTER_REFUSAL);
            break;
        }
        done += LARGE_PAGE;
        judge(used(ClockId::ThreadCPUTime).saturating_sub(begun));
    }
    done
}

/// # Safety
/// The file's large page from `offset` on is mapped at `start`.
unsafe fn fill_one(file: BorrowedFd<'_>, start: NonNull<u8>, offset: usize) -> io::Result<()> {
    // The kernel looks only at what is there already: one small page will do.
    if rustix::io::pwrite(file, &[0], offset as u64)? != 1 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    // SAFETY: of the caller's mapping; bytes stay what they are.
    match unsafe { libc::madvise(start.as_ptr().cast(), LARGE_PAGE, MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Maps `length` bytes of a file from `offset` on, where large pages of the file can be mapped as
/// such: at an address that is as far from a multiple of their size as `offset` is.
pub(super) fn map(
    length: usize,
    protection: ProtFlags,
    flags: MapFlags,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<NonNull<u8>> {
    let place = Reserved::new(length, offset);
    let (at, flags) = match &place {
        Some(place) => (place.start, flags | MapFlags::FIXED),
        None => (std::ptr::null_mut(), flags),
    };
    // SAFETY: a new mapping at an address that the kernel picks, or in place of one that is nobody
    // else's.
    let start = unsafe { rustix::mm::mmap(at.cast(), length, protection, flags, file, offset)? };
    if let Some(place) = place {
        std::mem::forget(place);
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Addresses that nothing else gets.
struct Reserved {
    start: *mut u8,
    length: usize,
}

impl Reserved {
    /// For `length` bytes of a file from `offset` on; `None` when they hold no large page, or there
    /// are no addresses to be had: then any place will do.
    fn new(length: usize, offset: u64) -> Option<Self> {
        let wanted = offset as usize % LARGE_PAGE;
        if length < LARGE_PAGE {
            return None;
        }
        let length = length.next_multiple_of(rustix::param::page_size());
        let most = length.checked_add(LARGE_PAGE)?;
        let (protection, flags) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address that the kernel picks.
        let whole = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), most, protection, flags).ok()?
        };
        let whole: *mut u8 = whole.cast();
        let before = (wanted + LARGE_PAGE - whole.addr() % LARGE_PAGE) % LARGE_PAGE;
        // SAFETY: within the mapping just made, of which the rest goes.
        unsafe {
            let start = whole.add(before);
            unmap(whole, before);
            unmap(start.add(length), LARGE_PAGE - before);
            Some(Self { start, length })
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: reserved in `new`, and used for nothing.
        unsafe { unmap(self.start, self.length) }
    }
}

/// # Safety
/// The memory is the caller's, and nobody uses it any more.
unsafe fn unmap(start: *mut u8, length: usize) {
    if length > 0 {
        // SAFETY: the caller's promise. Failing leaves addresses in use that nobody asks for.
        let _ = unsafe { rustix::mm::munmap(start.cast(), length) };
    }
}
