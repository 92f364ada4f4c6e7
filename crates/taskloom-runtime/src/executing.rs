//! Which tasks a worker process is in, in memory that it shares with its supervisor: still there
//! when the process is gone, whatever ended it. Writing costs a few nanoseconds.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use taskloom_net::runtime_dir::runtime_dir;
use taskloom_types::{Attempt, TaskId};

/// Names the table's file to a worker process.
pub const EXECUTING_FILE: &str = "TASKLOOM_EXECUTING_FILE";
/// Names the supervisor to a worker process; only its own children obey.
pub const SUPERVISOR_PID: &str = "TASKLOOM_SUPERVISOR_PID";

const MAGIC: u64 = u64::from_le_bytes(*b"TLEXEC01");

/// How far a worker process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Starting,
    /// Registered with its scheduler.
    Ready,
    /// It ends by its own will, in order: nobody needs to start another.
    Leaving,
}

#[repr(C)]
struct Header {
    magic: AtomicU64,
    slots: AtomicU32,
    progress: AtomicU32,
}

#[repr(C)]
struct Slot {
    task: AtomicU64,
    attempt: AtomicU32,
    armed: AtomicU32,
}

/// A table of what each executor thread runs.
#[derive(Debug)]
pub struct ExecutingTable {
    memory: Mapping,
    path: PathBuf,
    slots: usize,
}

impl ExecutingTable {
    /// Makes a table with room for `slots` threads. The file goes when this is dropped.
    pub fn create(slots: usize) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("executing-{}-{number}", std::process::id());
        let path = runtime_dir()?.join(name);
        // A file of this name was left by a dead process that had our number.
        let _ = std::fs::remove_file(&path);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let length = size_of::<Header>() + slots * size_of::<Slot>();
        let memory = file.set_len(length as u64).and_then(|()| Mapping::new(&file, length));
        let memory = memory.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        let table = Self { memory, path, slots };
        table.header().slots.store(slots as u32, Ordering::Relaxed);
        table.header().magic.store(MAGIC, Ordering::Release);
        Ok(table)
    }

    /// Opens a table that another process made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if length < size_of::<Header>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let slots = (length - size_of::<Header>()) / size_of::<Slot>();
        let table = Self { memory: Mapping::new(&file, length)?, path: path.into(), slots };
        let header = table.header();
        let good = header.magic.load(Ordering::Acquire) == MAGIC
            && header.slots.load(Ordering::Relaxed) as usize == slots;
        if good { Ok(table) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// The table that this process's supervisor made for it, if it has one.
    pub fn of_this_process() -> Option<&'static Self> {
        static TABLE: OnceLock<Option<ExecutingTable>> = OnceLock::new();
        let open = || {
            // A program that a task starts inherits the variable, but has another parent.
            let path = std::env::var_os(EXECUTING_FILE).filter(|_| is_supervised())?;
            Self::open(Path::new(&path)).ok()
        };
        TABLE.get_or_init(open).as_ref()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that the thread `slot` enters a run. Slots beyond the table are not noted.
    pub fn arm(&self, slot: usize, task: TaskId, attempt: Attempt) {
        if let Some(slot) = self.slots().get(slot) {
            slot.task.store(task.to_u64(), Ordering::Relaxed);
            slot.attempt.store(attempt, Ordering::Relaxed);
            slot.armed.store(1, Ordering::Release);
        }
    }

    /// Notes that the thread `slot` has left its run.
    pub fn disarm(&self, slot: usize) {
        if let Some(slot) = self.slots().get(slot) {
            slot.armed.store(0, Ordering::Release);
        }
    }

    /// The runs that were entered and not left.
    #[must_use]
    pub fn read_all(&self) -> Vec<(TaskId, Attempt)> {
        let armed = self.slots().iter().filter(|slot| slot.armed.load(Ordering::Acquire) == 1);
        let run = |slot: &Slot| {
            let task = TaskId::from_u64(slot.task.load(Ordering::Relaxed));
            (task, slot.attempt.load(Ordering::Relaxed))
        };
        armed.map(run).collect()
    }

    pub fn set_progress(&self, progress: Progress) {
        let number = match progress {
            Progress::Starting => 0,
            Progress::Ready => 1,
            Progress::Leaving => 2,
        };
        self.header().progress.store(number, Ordering::Release);
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        match self.header().progress.load(Ordering::Acquire) {
            1 => Progress::Ready,
            2 => Progress::Leaving,
            _ => Progress::Starting,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least as long as a header (checked where
        // `self` is made), and lives as long as `self`; all fields are atomic.
        unsafe { self.memory.start.cast().as_ref() }
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: as for `header`; the length was computed from the mapping's.
        unsafe {
            let first = self.memory.start.byte_add(size_of::<Header>()).cast::<Slot>();
            std::slice::from_raw_parts(first.as_ptr(), self.slots)
        }
    }
}

impl Drop for ExecutingTable {
    fn drop(&mut self) {
        // Both sides try; the second finds nothing.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether this process was started by a supervisor that still is its parent.
#[must_use]
pub fn is_supervised() -> bool {
    supervisor_pid().is_some_and(|pid| rustix::process::getppid() == Some(pid))
}

fn supervisor_pid() -> Option<rustix::process::Pid> {
    let text = std::env::var(SUPERVISOR_PID).ok()?;
    rustix::process::Pid::from_raw(text.parse().ok()?)
}

/// Makes the kernel end this process when its supervisor dies. Call it early in a worker process;
/// it ends the process at once when the supervisor is gone already.
pub fn die_with_supervisor() {
    let Some(supervisor) = supervisor_pid() else { return };
    #[cfg(target_os = "linux")]
    if is_supervised() {
        // Fails only for signals that do not exist.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    // Asked after the request was made: a supervisor that dies from here on is noticed.
    let gone = rustix::process::test_kill_process(supervisor) == Err(rustix::io::Errno::SRCH);
    if gone {
        std::process::exit(1);
    }
}

/// Memory of a file, shared with other processes.
#[derive(Debug)]
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory is only reached through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File, length: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0)? };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody refers to it any more. An error
        // would leave the memory mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> TaskId {
        TaskId { index, generation: 3 }
    }

    #[test]
    fn the_other_side_sees_what_is_armed() {
        let ours = ExecutingTable::create(2).unwrap();
        let theirs = ExecutingTable::open(ours.path()).unwrap();
        assert_eq!(ours.progress(), Progress::Starting);
        theirs.arm(0, id(1), 4);
        theirs.arm(1, id(2), 5);
        theirs.arm(99, id(3), 6);
        theirs.disarm(0);
        theirs.set_progress(Progress::Leaving);
        assert_eq!(ours.read_all(), [(id(2), 5)]);
        assert_eq!(ours.progress(), Progress::Leaving);
        drop(theirs);
        assert_eq!(ours.read_all(), [(id(2), 5)]);
    }

    #[test]
    fn a_file_that_is_no_table_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(ExecutingTable::open(file.path()).is_err());
        std::fs::write(file.path(), [7; 100]).unwrap();
        assert!(ExecutingTable::open(file.path()).is_err());
    }
}
