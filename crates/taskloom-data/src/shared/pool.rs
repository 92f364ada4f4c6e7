//! The segments of one owner, used again and again.

use super::large::LARGE_PAGE;
use super::mapping::Mapping;
use super::segment::SegmentFile;
use super::{ALIGNMENT, aligned};
use bytes::Bytes;
use parking_lot::Mutex;
use std::cmp::Reverse;
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
    /// Bytes of segments altogether beyond which none is made to be written in place.
    pub in_place_bytes: u64,
}

/// Of the bytes that may be written in place, the part that one segment's pages may come to before
/// anything is written: who makes an array need not fill it.
const AT_ONCE_SHARE: u64 = 16;
/// The most that this is.
const MAX_AT_ONCE_BYTES: u64 = 256 * 1024 * 1024;

impl PoolLimits {
    /// Up to which length memory to be written in place has its pages from the start, in bytes.
    fn at_once_bytes(&self) -> u64 {
        (self.in_place_bytes / AT_ONCE_SHARE).min(MAX_AT_ONCE_BYTES)
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_bytes: 1024 * 1024 * 1024, segments: 512, in_place_bytes: 0 }
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
    limits: PoolLimits,
    idle: Vec<Idle>,
    usage: PoolUse,
}

/// Writes values into shared memory.
#[derive(Debug)]
pub struct Pool {
    /// Segments belong to the process that made them: a forked child must not write to them.
    pid: u32,
    state: Mutex<State>,
}

/// A used segment may be this many times larger than what it is used for.
const MAX_WASTE: u64 = 2;

impl Pool {
    #[must_use]
    pub fn new(limits: PoolLimits) -> Arc<Self> {
        let state = State { limits, ..State::default() };
        Arc::new(Self { pid: std::process::id(), state: Mutex::new(state) })
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
        home.write(&parts)?;
        let whole = Mapping::new(home.file.open_reader()?, end, Some(home))?.bytes();
        let part = |(offset, bytes): (&u64, &Bytes)| {
            let offset = *offset as usize;
            whole.slice(offset..offset + bytes.len())
        };
        Ok(offsets.iter().zip(segments).map(part).collect())
    }

    /// A segment for `length` bytes, to be written as a file.
    fn take(self: &Arc<Self>, length: u64) -> io::Result<Home> {
        self.take_within(length, |state, _| state.limits.segments)
    }

    /// A segment for `length` bytes, to be written in place. Some are left for [`Pool::store`].
    pub(super) fn take_in_place(self: &Arc<Self>, length: u64) -> io::Result<Home> {
        let mut at_once = false;
        let home = self.take_within(length, |state, spare| {
            let limits = state.limits;
            at_once = length <= limits.at_once_bytes();
            let room = limits.in_place_bytes.checked_sub(capacity_for(length));
            let Some(room) = room.filter(|_| length > 0) else { return 0 };
            while state.usage.used_bytes + state.usage.idle_bytes > room {
                match state.take_oldest() {
                    Some(idle) => spare.push(idle),
                    None => return 0,
                }
            }
            limits.segments - limits.segments / 4
        })?;
        if at_once {
            home.file.fill()?;
        }
        Ok(home)
    }

    /// `fresh`: how many segments there may be for another one to be made. What it pushes is freed
    /// without the lock.
    fn take_within(
        self: &Arc<Self>,
        length: u64,
        fresh: impl FnOnce(&mut State, &mut Vec<Idle>) -> usize,
    ) -> io::Result<Home> {
        if self.pid != std::process::id() {
            return Err(io::Error::other("the shared memory belongs to the parent process"));
        }
        let mut spare = Vec::new();
        let mut state = self.state.lock();
        let reused = state.take_idle(length);
        let is_reused = reused.is_some();
        let file = match reused {
            Some(file) => {
                state.usage.reused += 1;
                file
            }
            None => {
                let most = fresh(&mut state, &mut spare);
                if state.usage.used + state.usage.idle >= most {
                    let oldest = if most > 0 { state.take_oldest() } else { None };
                    let full = || io::Error::other("all shared memory segments are in use");
                    spare.push(oldest.ok_or_else(full)?);
                }
                let file = Arc::new(SegmentFile::create(capacity_for(length))?);
                state.usage.made += 1;
                file
            }
        };
        state.usage.used += 1;
        state.usage.used_bytes += file.capacity;
        drop(state);
        Ok(Home { file, pool: Arc::downgrade(self), is_reused, is_left: false })
    }

    fn give_back(&self, file: Arc<SegmentFile>, is_left: bool) {
        if self.pid != std::process::id() {
            return;
        }
        // Freeing a large file takes a while: not under the lock.
        let mut spare = Vec::new();
        let mut state = self.state.lock();
        state.usage.used -= 1;
        state.usage.used_bytes -= file.capacity;
        if is_left {
            return;
        }
        state.push_idle(file);
        while state.usage.idle_bytes > state.limits.idle_bytes
            && let Some(oldest) = state.take_oldest()
        {
            spare.push(oldest);
        }
        drop(state);
    }

    /// Changes what the pool may keep from now on.
    pub fn set_limits(&self, limits: PoolLimits) {
        self.state.lock().limits = limits;
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

    /// Gives the oldest idle segments back to the system, until the rest have at most so many bytes.
    pub fn trim_to(&self, bytes: u64) {
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        while state.usage.idle_bytes > bytes
            && let Some(oldest) = state.take_oldest()
        {
            dropped.push(oldest);
        }
        drop(state);
        // Freeing a large file takes a while: not under the lock.
        drop(dropped);
    }

    #[must_use]
    pub fn usage(&self) -> PoolUse {
        self.state.lock().usage
    }

    /// Bytes of idle segments that this process has mapped: they count as its memory, and are what
    /// the next values are written into.
    #[must_use]
    pub fn idle_mapped_bytes(&self) -> u64 {
        let state = self.state.lock();
        let mapped = state.idle.iter().filter(|idle| idle.file.has_window());
        mapped.map(|idle| idle.file.capacity).sum()
    }
}

impl State {
    /// The smallest segment that suits and that nobody reads any more; of equal ones one that can
    /// be written in place, and the one that was used last.
    fn take_idle(&mut self, length: u64) -> Option<Arc<SegmentFile>> {
        let most = most_for(length);
        let suits = |idle: &Idle| (length..=most).contains(&idle.file.capacity);
        let mut suitable: Vec<usize> =
            (0..self.idle.len()).filter(|at| suits(&self.idle[*at])).collect();
        suitable.sort_by_key(|at| {
            let Idle { file, since } = &self.idle[*at];
            (file.capacity, !file.has_window(), Reverse(*since))
        });
        let at = suitable.into_iter().find(|at| self.idle[*at].file.is_unused())?;
        let idle = self.idle.swap_remove(at);
        self.usage.idle -= 1;
        self.usage.idle_bytes -= idle.file.capacity;
        Some(idle.file)
    }

    fn push_idle(&mut self, file: Arc<SegmentFile>) {
        self.usage.idle += 1;
        self.usage.idle_bytes += file.capacity;
        self.idle.push(Idle { file, since: Instant::now() });
    }

    /// The segment that has been idle for longest.
    fn take_oldest(&mut self) -> Option<Idle> {
        let at = (0..self.idle.len()).min_by_key(|at| self.idle[*at].since)?;
        let idle = self.idle.swap_remove(at);
        self.usage.idle -= 1;
        self.usage.idle_bytes -= idle.file.capacity;
        Some(idle)
    }

    fn recount(&mut self) {
        self.usage.idle = self.idle.len();
        self.usage.idle_bytes = self.idle.iter().map(|idle| idle.file.capacity).sum();
    }
}

/// Sizes come in steps of an eighth, so that values of about one size use each other's segments. What
/// ends near a large page's end goes there.
fn capacity_for(length: u64) -> u64 {
    const LARGE: u64 = LARGE_PAGE as u64;
    let step = (length.next_power_of_two() / 16).max(4096);
    let capacity = length.max(1).next_multiple_of(step);
    match capacity % LARGE {
        beyond if beyond >= LARGE / 8 * 7 => capacity.next_multiple_of(LARGE),
        _ => capacity,
    }
}

/// The largest used segment that is not too large for this.
fn most_for(length: u64) -> u64 {
    capacity_for(length) * MAX_WASTE
}

/// Zeros from the end of a segment of `length` bytes to where the next one begins.
fn padding_behind(length: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; ALIGNMENT as usize];
    let length = length as u64;
    &ZEROS[..(aligned(length) - length) as usize]
}

/// A segment in use. Brings it back to its pool in the end.
#[derive(Debug)]
pub(super) struct Home {
    file: Arc<SegmentFile>,
    pool: Weak<Pool>,
    is_reused: bool,
    /// A child of a `fork` may use it for as long as it lives.
    is_left: bool,
}

impl Home {
    pub(super) fn file(&self) -> &SegmentFile {
        &self.file
    }

    /// Writes the parts one after the other, from the start.
    fn write(&self, parts: &[&[u8]]) -> io::Result<()> {
        let had_window = self.file.has_window();
        if !self.is_reused {
            self.file.fill()?;
        }
        let written = self.file.write(parts);
        // What the owner has mapped counts as his own memory, beside the value that was copied.
        if !had_window {
            self.file.close_window();
        }
        written
    }

    /// Whether it may hold something.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether it is large enough for `length` bytes, and not much too large.
    pub(super) fn suits(&self, length: u64) -> bool {
        (length..=most_for(length)).contains(&self.file.capacity)
    }

    /// What a child of a `fork` has of it stays as it is; it is not used again.
    pub(super) fn leave_to_children(&mut self) {
        self.is_left = true;
        if self.file.make_private().is_err() {
            self.file.hide_from_children();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.file.close_private_window();
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(self.file.clone(), self.is_left);
        }
    }
}
