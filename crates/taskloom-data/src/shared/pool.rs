//! The segments of one owner, used again and again.

use super::mapping::Mapping;
use super::segment::SegmentFile;
use super::{ALIGNMENT, aligned};
use bytes::Bytes;
use parking_lot::Mutex;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// What a pool may keep.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Bytes of segments that hold no value of this process. Some of them may still be read by
    /// others.
    pub idle_bytes: u64,
    /// Segments altogether: each takes a file descriptor here and one at every reader.
    pub segments: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_bytes: 1024 * 1024 * 1024, segments: 512 }
    }
}

/// What a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUse {
    /// Segments with values of this process, and their bytes.
    pub used: usize,
    pub used_bytes: u64,
    /// Segments kept for the next value, and their bytes.
    pub idle: usize,
    pub idle_bytes: u64,
    /// How many values were written into a fresh segment, and into a used one.
    pub made: u64,
    pub reused: u64,
}

#[derive(Debug)]
struct Idle {
    file: Arc<SegmentFile>,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    usage: PoolUse,
}

/// Writes values into shared memory.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    /// Segments belong to the process that made them: a forked child must not write to them.
    pid: u32,
    state: Mutex<State>,
}

/// A used segment may be this many times larger than what it is used for.
const MAX_WASTE: u64 = 2;

impl Pool {
    #[must_use]
    pub fn new(limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self { limits, pid: std::process::id(), state: Mutex::default() })
    }

    /// Copies a value's segments into shared memory: the same bytes, in one mapping.
    ///
    /// # Errors
    /// When there are too many segments, no memory for another, or this is a forked child of the
    /// pool's process: the value stays as it is.
    pub fn store(self: &Arc<Self>, segments: &[Bytes]) -> io::Result<Vec<Bytes>> {
        let mut offsets = Vec::with_capacity(segments.len());
        let mut end = 0;
        for segment in segments {
            offsets.push(aligned(end));
            end = aligned(end) + segment.len() as u64;
        }
        let home = self.take(end)?;
        let mut parts = Vec::with_capacity(2 * segments.len());
        for segment in segments {
            parts.push(&segment[..]);
            parts.push(padding_behind(segment.len()));
        }
        parts.pop();
        home.file.write(&parts)?;
        let whole = Mapping::new(home.file.open_reader()?, end, Some(home))?.bytes();
        let part = |(offset, bytes): (&u64, &Bytes)| {
            let offset = *offset as usize;
            whole.slice(offset..offset + bytes.len())
        };
        Ok(offsets.iter().zip(segments).map(part).collect())
    }

    /// A segment for `length` bytes.
    fn take(self: &Arc<Self>, length: u64) -> io::Result<Home> {
        if self.pid != std::process::id() {
            return Err(io::Error::other("the shared memory belongs to the parent process"));
        }
        let mut state = self.state.lock();
        let file = match state.take_idle(length) {
            Some(file) => {
                state.usage.reused += 1;
                file
            }
            None => {
                let usage = &state.usage;
                if usage.used + usage.idle >= self.limits.segments && !state.drop_one() {
                    return Err(io::Error::other("all shared memory segments are in use"));
                }
                state.usage.made += 1;
                Arc::new(SegmentFile::create(capacity_for(length))?)
            }
        };
        state.usage.used += 1;
        state.usage.used_bytes += file.capacity;
        Ok(Home { file, pool: Arc::downgrade(self) })
    }

    fn give_back(&self, file: Arc<SegmentFile>) {
        if self.pid != std::process::id() {
            return;
        }
        let mut state = self.state.lock();
        state.usage.used -= 1;
        state.usage.used_bytes -= file.capacity;
        state.push_idle(file);
        while state.usage.idle_bytes > self.limits.idle_bytes && state.drop_one() {}
    }

    /// Gives memory back to the system that nothing was written into for `age`.
    pub fn trim(&self, age: Duration) {
        let dropped: Vec<Idle> = {
            let mut state = self.state.lock();
            let (old, young) = std::mem::take(&mut state.idle)
                .into_iter()
                .partition(|idle| idle.since.elapsed() >= age);
            state.idle = young;
            state.recount();
            old
        };
        // Freeing a large file takes a while: not under the lock.
        drop(dropped);
    }

    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.state.lock().usage
    }
}

impl State {
    /// The smallest segment that suits and that nobody reads any more.
    fn take_idle(&mut self, length: u64) -> Option<Arc<SegmentFile>> {
        let suits = |idle: &Idle| {
            idle.file.capacity >= length && idle.file.capacity <= capacity_for(length) * MAX_WASTE
        };
        let mut suitable: Vec<usize> =
            (0..self.idle.len()).filter(|at| suits(&self.idle[*at])).collect();
        suitable.sort_by_key(|at| self.idle[*at].file.capacity);
        let at = suitable.into_iter().find(|at| self.idle[*at].file.is_unused())?;
        let idle = self.idle.swap_remove(at);
        self.recount();
        Some(idle.file)
    }

    fn push_idle(&mut self, file: Arc<SegmentFile>) {
        self.idle.push(Idle { file, since: Instant::now() });
        self.recount();
    }

    /// Drops the segment that has been idle for longest.
    fn drop_one(&mut self) -> bool {
        let oldest = (0..self.idle.len()).min_by_key(|at| self.idle[*at].since);
        let Some(at) = oldest else { return false };
        self.idle.swap_remove(at);
        self.recount();
        true
    }

    fn recount(&mut self) {
        self.usage.idle = self.idle.len();
        self.usage.idle_bytes = self.idle.iter().map(|idle| idle.file.capacity).sum();
    }
}

/// Sizes come in steps of an eighth, so that values of about one size use each other's segments.
fn capacity_for(length: u64) -> u64 {
    let step = (length.next_power_of_two() / 16).max(4096);
    length.max(1).next_multiple_of(step)
}

/// Zeros from the end of a segment of `length` bytes to where the next one begins.
fn padding_behind(length: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; ALIGNMENT as usize];
    let length = length as u64;
    &ZEROS[..(aligned(length) - length) as usize]
}

/// Brings a segment back to its pool when its value goes.
#[derive(Debug)]
pub(super) struct Home {
    file: Arc<SegmentFile>,
    pool: Weak<Pool>,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(self.file.clone());
        }
    }
}
