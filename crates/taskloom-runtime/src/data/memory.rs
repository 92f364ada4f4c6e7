//! This process's shared memory, and what it may be used for.

use crate::io::IoThread;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taskloom_data::shared::{Layout, Pool, PoolLimits, PoolUse};

/// Smaller values are copied through the socket: that is cheaper than mapping them. In bytes.
pub const SHARE_FROM: usize = 256 * 1024;

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
        let pool = Pool::new(PoolLimits::default());
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

    /// The value in shared memory; `None` when it stays as it is. Takes as long as copying it.
    #[must_use]
    pub fn share(&self, segments: &[Bytes]) -> Option<Vec<Bytes>> {
        if !self.would_share(segments) {
            return None;
        }
        self.arm();
        // Without memory or descriptors to spare, values travel through the socket.
        self.inner.pool.store(segments).ok()
    }

    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.inner.pool.usage()
    }

    /// Gives memory back that holds no value. For when memory is short.
    pub fn release_idle(&self) {
        self.inner.pool.trim(Duration::ZERO);
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
/// that is kept anyway.
#[must_use]
pub fn is_shared(segments: &[Bytes]) -> bool {
    segments.iter().map(Bytes::len).sum::<usize>() >= SHARE_FROM && loose_bytes(segments) == 0
}
