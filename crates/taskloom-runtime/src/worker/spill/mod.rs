//! Values on the worker's disk: one file each, checked when it is read, gone with the value.
//!
//! [`directory`] is where the files are. The threads that read and write are `worker/disk.rs`.

pub mod directory;

use bytes::Bytes;
use directory::ScratchDirectory;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskloom_data::files;
use taskloom_data::shared::ALIGNMENT;
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are hashed and moved at a time: they stay in the processor's cache between the two.
const CHUNK: usize = 256 * 1024;
/// From here on mapping a file costs less than copying it.
const MAPPED_FROM: u64 = 256 * 1024;
/// Longer segments begin at multiples of [`ALIGNMENT`] in the file, as arrays want it.
const ALIGNED_FROM: usize = 1024;
/// Of the disk, what has to be free for the files of values that are in memory, too: a part of it,
/// and so many times the value.
const FREE_SHARE: u64 = 20;
const FREE_TIMES: u64 = 4;

#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    #[error("the directory {directory} for spilled results cannot be used: {error}")]
    Directory { directory: PathBuf, error: io::Error },
    #[error("results on disk would exceed the limit max-spill of {limit} bytes")]
    Limit { limit: u64 },
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot read the spilled result {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("the spilled result {path} is damaged: its checksum does not match")]
    Checksum { path: PathBuf },
}

/// Where spilled values go, and how much there may be.
#[derive(Debug)]
pub struct SpillStore {
    /// Where the scratch directory is made, at first use.
    base: PathBuf,
    /// The worker's, for people who look at the directory.
    name: String,
    /// In bytes; `None`: as much as the disk takes.
    limit: Option<u64>,
    directory: Mutex<Option<Arc<ScratchDirectory>>>,
    last_file: AtomicU64,
    used: Arc<AtomicU64>,
}

/// A value on disk. Its file goes when this is dropped, which may take a while for a large one:
/// leave it to a thread that may wait.
#[derive(Debug)]
pub struct SpilledValue {
    path: PathBuf,
    /// Of the segments, in bytes.
    lengths: Vec<usize>,
    checksum: u64,
    disk_bytes: u64,
    used: Arc<AtomicU64>,
    /// The directory stays while a file is in it.
    _directory: Arc<ScratchDirectory>,
}

impl SpillStore {
    /// A store for a worker's process; nothing is made before it is needed.
    #[must_use]
    pub fn new(base: PathBuf, name: String, limit: Option<u64>) -> Self {
        Self {
            base,
            name,
            limit,
            directory: Mutex::new(None),
            last_file: AtomicU64::new(0),
            used: Arc::default(),
        }
    }

    /// What the values occupy, in bytes.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Writes a value. Blocks.
    pub fn write(&self, segments: &[Bytes]) -> Result<SpilledValue, SpillError> {
        let size: u64 = segments.iter().map(|segment| segment.len() as u64).sum();
        if let Some(limit) = self.limit
            && self.disk_bytes().saturating_add(size) > limit
        {
            return Err(SpillError::Limit { limit });
        }
        let directory = self.open()?;
        let number = self.last_file.fetch_add(1, Ordering::Relaxed);
        let path = directory.path().join(format!("{number}.spill"));
        match write_file(&path, segments) {
            Ok(checksum) => {
                self.used.fetch_add(size, Ordering::Relaxed);
                Ok(SpilledValue {
                    path,
                    lengths: segments.iter().map(Bytes::len).collect(),
                    checksum,
                    disk_bytes: size,
                    used: self.used.clone(),
                    _directory: directory,
                })
            }
            Err(error) => {
                // Half a file is of no use, and its room may be what is missing.
                let _ = fs::remove_file(&path);
                if error.kind() == io::ErrorKind::NotFound {
                    // Somebody removed the directory: the next value gets a new one.
                    *self.directory.lock() = None;
                }
                Err(SpillError::Write { path, error })
            }
        }
    }

    /// Whether the file of such a value may stay while the value is in memory again.
    #[must_use]
    pub fn has_room_for_both(&self, bytes: u64) -> bool {
        let wanted = bytes.saturating_mul(FREE_TIMES);
        if self.limit.is_some_and(|limit| self.disk_bytes().saturating_add(wanted) > limit) {
            return false;
        }
        let directory = self.directory.lock().clone();
        let Some(disk) = directory.and_then(|open| rustix::fs::statvfs(open.path()).ok()) else {
            return false;
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        free > wanted.saturating_add(disk.f_blocks.saturating_mul(disk.f_frsize) / FREE_SHARE)
    }

    fn open(&self) -> Result<Arc<ScratchDirectory>, SpillError> {
        let mut directory = self.directory.lock();
        if let Some(open) = &*directory {
            return Ok(open.clone());
        }
        let made = ScratchDirectory::create(&self.base, &self.name)
            .map_err(|error| SpillError::Directory { directory: self.base.clone(), error })?;
        Ok(directory.insert(Arc::new(made)).clone())
    }

    /// Removes the directory with all files. Values that are still on disk are lost.
    pub fn remove(&self) {
        let directory = self.directory.lock().take();
        if let Some(directory) = directory {
            directory.remove();
        }
    }
}

impl SpilledValue {
    /// In bytes.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Reads the value, so that it does not need its file any more. Blocks.
    pub fn read(&self) -> Result<Vec<Bytes>, SpillError> {
        let file = self.open()?;
        let mut hasher = Xxh3::new();
        let mut segments = Vec::with_capacity(self.lengths.len());
        for (offset, length) in self.layout() {
            let segment = read_segment(&file, offset, length, &mut hasher);
            segments.push(segment.map_err(|error| self.failed(error))?);
        }
        self.check(&hasher)?;
        Ok(segments)
    }

    /// The value, for as long as its file is kept: a large one lies in the file. Blocks.
    pub fn view(&self) -> Result<Vec<Bytes>, SpillError> {
        if self.disk_bytes < MAPPED_FROM {
            return self.read();
        }
        let file = self.open()?;
        let mut hasher = Xxh3::new();
        for (offset, length) in self.layout() {
            hash_segment(&file, offset, length, &mut hasher).map_err(|error| self.failed(error))?;
        }
        self.check(&hasher)?;
        let end = self.layout().last().map_or(0, |(offset, length)| offset as usize + length);
        let Ok(whole) = files::map(&file, end) else { return self.read() };
        let segment = |(offset, length)| whole.slice(offset as usize..offset as usize + length);
        Ok(self.layout().map(segment).collect())
    }

    fn open(&self) -> Result<File, SpillError> {
        File::open(&self.path).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> SpillError {
        SpillError::Read { path: self.path.clone(), error }
    }

    fn check(&self, hasher: &Xxh3) -> Result<(), SpillError> {
        if hasher.digest() == self.checksum {
            Ok(())
        } else {
            Err(SpillError::Checksum { path: self.path.clone() })
        }
    }

    fn layout(&self) -> impl Iterator<Item = (u64, usize)> {
        layout(self.lengths.iter().copied())
    }
}

/// Where segments of these lengths are in a file, and their lengths.
fn layout(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = (u64, usize)> {
    let mut end = 0_u64;
    lengths.map(move |length| {
        let start = if length < ALIGNED_FROM { end } else { end.next_multiple_of(ALIGNMENT) };
        end = start + length as u64;
        (start, length)
    })
}

impl Drop for SpilledValue {
    fn drop(&mut self) {
        // The directory may be gone already.
        let _ = fs::remove_file(&self.path);
        self.used.fetch_sub(self.disk_bytes, Ordering::Relaxed);
    }
}

/// The checksum of what was written.
fn write_file(path: &Path, segments: &[Bytes]) -> io::Result<u64> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let mut hasher = Xxh3::new();
    for ((start, _), segment) in layout(segments.iter().map(Bytes::len)).zip(segments) {
        let mut at = start;
        for chunk in segment.chunks(CHUNK) {
            hasher.update(chunk);
            file.write_all_at(chunk, at)?;
            at += chunk.len() as u64;
        }
    }
    Ok(hasher.digest())
}

fn hash_segment(file: &File, start: u64, length: usize, hasher: &mut Xxh3) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK.min(length)];
    let mut done = 0;
    while done < length {
        let wanted = CHUNK.min(length - done);
        file.read_exact_at(&mut chunk[..wanted], start + done as u64)?;
        hasher.update(&chunk[..wanted]);
        done += wanted;
    }
    Ok(())
}

fn read_segment(file: &File, start: u64, length: usize, hasher: &mut Xxh3) -> io::Result<Bytes> {
    let mut segment: Vec<u8> = Vec::new();
    segment.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    while segment.len() < length {
        let done = segment.len();
        let wanted = CHUNK.min(length - done);
        let room = &mut segment.spare_capacity_mut()[..wanted];
        let (read, _) = match rustix::io::pread(file.as_fd(), room, start + done as u64) {
            Ok(parts) => parts,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let count = read.len();
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the call has just written `count` bytes behind the first `done`.
        unsafe { segment.set_len(done + count) };
        hasher.update(&segment[done..]);
    }
    Ok(Bytes::from(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(base: &Path, limit: Option<u64>) -> SpillStore {
        SpillStore::new(base.to_path_buf(), "alice".into(), limit)
    }

    fn segments() -> Vec<Bytes> {
        let large: Vec<u8> = (0..3 * CHUNK + 17).map(|i| i as u8).collect();
        vec![Bytes::from_static(b"head"), Bytes::new(), Bytes::from(large)]
    }

    /// Only this user may enter it, whatever the umask is.
    fn private_directory() -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o700);
        tempfile::Builder::new().permissions(mode).tempdir().unwrap()
    }

    #[test]
    fn a_value_comes_back_as_it_was_and_its_file_goes_with_it() {
        let base = private_directory();
        let store = store(base.path(), None);
        let value = store.write(&segments()).unwrap();
        assert_eq!(value.read().unwrap(), segments());
        let view = value.view().unwrap();
        assert_eq!(view, segments());
        assert!(view[2].as_ptr().addr().is_multiple_of(ALIGNMENT as usize));
        assert_eq!(store.disk_bytes(), value.disk_bytes());
        let path = value.path.clone();
        assert!(path.exists());
        drop(value);
        assert!(!path.exists());
        assert_eq!(store.disk_bytes(), 0);
        // What is in use goes on to be there.
        assert_eq!(view, segments());
    }

    #[test]
    fn a_changed_byte_and_a_cut_file_are_noticed() {
        let base = private_directory();
        let store = store(base.path(), None);
        let value = store.write(&segments()).unwrap();
        let mut content = fs::read(&value.path).unwrap();
        content[2 * CHUNK] ^= 1;
        fs::write(&value.path, &content).unwrap();
        assert!(matches!(value.read(), Err(SpillError::Checksum { .. })));
        assert!(matches!(value.view(), Err(SpillError::Checksum { .. })));
        content.truncate(CHUNK);
        fs::write(&value.path, &content).unwrap();
        assert!(value.view().is_err());
        let error = value.read().unwrap_err();
        assert!(error.to_string().contains(".spill"), "{error}");
    }

    #[test]
    fn the_limit_is_kept_and_room_comes_back_with_each_value() {
        let base = private_directory();
        let store = store(base.path(), Some(100));
        let half = [Bytes::from(vec![1; 60])];
        let value = store.write(&half).unwrap();
        assert!(matches!(store.write(&half), Err(SpillError::Limit { limit: 100 })));
        assert!(!store.has_room_for_both(60));
        drop(value);
        assert!(store.write(&half).is_ok());
    }

    #[test]
    fn a_file_stays_beside_its_value_while_the_disk_has_room() {
        let base = private_directory();
        let store = store(base.path(), Some(1000));
        let _value = store.write(&[Bytes::from(vec![1; 60])]).unwrap();
        assert!(store.has_room_for_both(60));
        assert!(!store.has_room_for_both(300));
        assert!(
            !SpillStore::new(base.path().into(), "bob".into(), None).has_room_for_both(u64::MAX)
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let base = private_directory();
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        let error = store(&file, None).write(&segments()).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn after_its_directory_was_removed_the_store_makes_another() {
        let base = private_directory();
        let store = store(base.path(), None);
        let value = store.write(&segments()).unwrap();
        fs::remove_dir_all(value.path.parent().unwrap()).unwrap();
        assert!(store.write(&segments()).is_err());
        assert_eq!(store.write(&segments()).unwrap().read().unwrap(), segments());
    }
}
