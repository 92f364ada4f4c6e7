//! This process's shared memory, and what it may be used for.

use crate::io::IoThread;
use bytes::Bytes;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use taskloom_data::shared::{self, Layout, Pool, PoolLimits, PoolUse};
use taskloom_net::runtime_dir::has_companions;
use taskloom_net::stream::MAX_FILES;

/// Smaller values are copied through the socket: that is cheaper than mapping them. In bytes.
pub const SHARE_FROM: usize = 256 * 1024;

/// Part of the descriptors of a process that go to segments at most: each takes two.
const DESCRIPTORS_SHARE: u64 = 4;

/// Part of a worker's memory limit that is kept for the next value.
const IDLE_SHARE: u64 = 8;

/// Memory that no value was written into for this long goes back to the system.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Puts values into shared memory. Cheap to clone.
#[derive(Clone)]
pub struct SharedMemory {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    io: Arc<IoThread>,
    enabled: bool,
    /// Whether a look at idle memory is due.
    armed: AtomicBool,
}

impl SharedMemory {
    pub(super) fn new(io: Arc<IoThread>, enabled: bool) -> Self {
        let pool = Pool::new(limits());
        let inner = Inner { pool, io, enabled, armed: AtomicBool::new(false) };
        Self { inner: Arc::new(inner) }
    }

    /// Whether it may be used at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.inner.enabled
    }

    /// Whether it pays to have this value in shared memory, and it is not there yet.
    #[must_use]
    pub fn would_share(&self, segments: &[Bytes]) -> bool {
        self.inner.enabled && loose_bytes(segments) >= SHARE_FROM
    }

    /// The value in shared memory; `None` when it stays as it is. Takes as long as copying what was
    /// not made there. `only_here`: as of [`shared::share_in_place`].
    #[must_use]
    pub fn share(&self, segments: &[Bytes], only_here: bool) -> Option<Shared> {
        if !self.would_share(segments) {
            return None;
        }
        let mut segments = segments.to_vec();
        // Each may be a file of its own, of which one message takes only so many.
        let large = segments.iter().filter(|segment| segment.len() >= SHARE_FROM).count();
        let before = loose_bytes(&segments);
        if large < MAX_FILES {
            shared::share_in_place(&mut segments, only_here);
        }
        let loose = loose_bytes(&segments);
        match self.copy_loose(&mut segments, loose >= SHARE_FROM) {
            Ok(()) => Some(Shared { segments, copied_bytes: loose as u64 }),
            // Without memory or descriptors to spare, values travel through the socket.
            Err(_) => (loose < before).then_some(Shared { segments, copied_bytes: 0 }),
        }
    }

    /// Copies what is not in shared memory: all of a value is to be as it was at one time.
    fn copy_loose(&self, segments: &mut [Bytes], into_shared: bool) -> io::Result<()> {
        let layout = Layout::of(segments);
        let is_loose = |at: usize| layout.as_ref().is_none_or(|l| l.places[at].is_none());
        let loose: Vec<usize> = (0..segments.len()).filter(|at| is_loose(*at)).collect();
        let bytes: Vec<Bytes> = loose.iter().map(|at| segments[*at].clone()).collect();
        let copies = if into_shared {
            self.arm();
            self.inner.pool.store(&bytes)?
        } else {
            bytes.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect()
        };
        for (at, copy) in loose.into_iter().zip(copies) {
            segments[at] = copy;
        }
        Ok(())
    }

    /// Has tasks' memory be shared memory from the start, within `memory_limit` bytes (0: those of
    /// the machine). `None` when nobody could get at it.
    #[must_use]
    pub fn allocator(&self, memory_limit: u64) -> Option<Allocator> {
        if !self.inner.enabled || !has_companions() {
            return None;
        }
        let system = rustix::system::sysinfo();
        let machine_bytes = system.totalram.saturating_mul(system.mem_unit.into());
        let mut limits = limits();
        limits.in_place_bytes = if memory_limit > 0 { memory_limit } else { machine_bytes };
        limits.idle_bytes = limits.idle_bytes.min(limits.in_place_bytes / IDLE_SHARE);
        self.inner.pool.set_limits(limits);
        Some(Allocator { inner: Arc::downgrade(&self.inner) })
    }

    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.inner.pool.usage()
    }

    /// Gives memory back that holds no value, but for so many bytes of it. For when memory is short.
    pub fn release_idle(&self, kept_bytes: u64) {
        self.inner.pool.trim_to(kept_bytes);
    }

    /// Bytes that count as this process's memory and hold no value: the next ones are written there.
    #[must_use]
    pub fn idle_bytes(&self) -> u64 {
        self.inner.pool.idle_mapped_bytes()
    }

    fn arm(&self) {
        if self.inner.armed.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        let _ = self.inner.io.after(IDLE_TIME, move || {
            let Some(inner) = inner.upgrade() else { return };
            inner.armed.store(false, Ordering::Relaxed);
            inner.pool.trim(IDLE_TIME);
            let usage = inner.pool.usage();
            if usage.idle + usage.used > 0 {
                Self { inner }.arm();
            }
        });
    }
}

/// A value in shared memory.
pub struct Shared {
    pub segments: Vec<Bytes>,
    /// Of what had to be copied: memory that is occupied twice.
    pub copied_bytes: u64,
}

/// Gives memory that is shared memory from the start. Where it gives none, any other does: a value
/// in it is copied when it is shared.
#[derive(Clone)]
pub struct Allocator {
    inner: Weak<Inner>,
}

impl Allocator {
    /// Memory for `length` bytes, at the start of a page, to be given back by
    /// [`shared::release`]. Without `zeroed` it holds anything.
    #[must_use]
    pub fn allocate(&self, length: usize, zeroed: bool) -> Option<NonNull<u8>> {
        let inner = self.inner.upgrade()?;
        let start = inner.pool.allocate(length, zeroed).ok()?;
        SharedMemory { inner }.arm();
        Some(start)
    }
}

/// As many segments as there are descriptors for.
fn limits() -> PoolLimits {
    use rustix::process::{Resource, getrlimit};
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(descriptors / DESCRIPTORS_SHARE).unwrap_or(usize::MAX);
    let limits = PoolLimits::default();
    PoolLimits { segments: limits.segments.min(most), ..limits }
}

/// Bytes of the segments that are not in shared memory.
fn loose_bytes(segments: &[Bytes]) -> usize {
    let total = || segments.iter().map(Bytes::len);
    if total().sum::<usize>() < SHARE_FROM {
        return 0;
    }
    let Some(layout) = Layout::of(segments) else { return total().sum() };
    total().zip(layout.places).filter(|(_, place)| place.is_none()).map(|(length, _)| length).sum()
}

/// Whether keeping these bytes costs this process next to nothing, since they are in shared memory
/// that is kept anyway, but for a head and small buffers.
#[must_use]
pub fn is_shared(segments: &[Bytes]) -> bool {
    segments.iter().map(Bytes::len).sum::<usize>() >= SHARE_FROM
        && loose_bytes(segments) < SHARE_FROM
}
