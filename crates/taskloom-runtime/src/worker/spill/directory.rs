//! Directories for files of worker processes, below one base directory per user. A process holds a
//! lock on its own as long as it lives, whatever ends it: an unlocked one is nobody's and is swept.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Below a worker's local directory, or the system's directory for temporary files.
#[must_use]
pub fn base_directory(local_directory: &str) -> PathBuf {
    let parent = match local_directory {
        "" => std::env::temp_dir(),
        directory => PathBuf::from(directory),
    };
    parent.join(format!("taskloom-scratch-{}", rustix::process::geteuid().as_raw()))
}

/// A directory that goes with its process.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
    /// Locked while this process lives.
    _lock: File,
}

impl ScratchDirectory {
    /// Makes a directory of its own below `base`, and removes those of dead processes.
    pub fn create(base: &Path, name: &str) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        make_base(base)?;
        // While it is held nobody takes a directory for dead that is not locked yet.
        let gate = lock_base(base)?;
        sweep_locked(base);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let plain: String =
            name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(64).collect();
        let path = base.join(format!("worker-{plain}-{}-{number}", std::process::id()));
        // Left by a dead process of the same number, and not swept since it is in use after all.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        drop(gate);
        Ok(Self { path, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory and what is in it.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Others must not read results, nor put files or links there.
fn make_base(base: &Path) -> io::Result<()> {
    if let Some(parent) = base.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = fs::symlink_metadata(base)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} must be a directory of this user with mode 0700", base.display()),
    ))
}

fn lock_base(base: &Path) -> io::Result<File> {
    let gate = File::open(base)?;
    flock(&gate, FlockOperation::LockExclusive)?;
    Ok(gate)
}

/// Removes the directories below `base` whose processes are dead. Blocks.
pub fn sweep(base: &Path) {
    if base.is_dir()
        && let Ok(_gate) = lock_base(base)
    {
        sweep_locked(base);
    }
}

fn sweep_locked(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with("worker-");
        if !is_ours {
            continue;
        }
        let Ok(directory) = File::open(&path) else { continue };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_directories_that_nobody_has_locked_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let base = parent.path().join("base");
        let alive = ScratchDirectory::create(&base, "a/../b").unwrap();
        let dead = base.join("worker-x-1-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("0.spill"), "data").unwrap();
        fs::create_dir(base.join("other")).unwrap();
        sweep(&base);
        assert!(alive.path().exists() && base.join("other").exists());
        assert!(!dead.exists());
        assert_eq!(alive.path().parent(), Some(base.as_path()));
        let path = alive.path().to_path_buf();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn a_base_that_others_may_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let base = parent.path().join("base");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
        let error = ScratchDirectory::create(&base, "a").unwrap_err();
        assert!(error.to_string().contains("0700"), "{error}");
    }
}
