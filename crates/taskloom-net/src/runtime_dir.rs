//! The directory for sockets and shared files of this user, and the unix socket that belongs to
//! a loopback port: same-host peers talk over it, at half the price of TCP.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `$XDG_RUNTIME_DIR/taskloom`, or `/tmp/taskloom-<uid>`.
fn location() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(base) if Path::new(&base).is_absolute() => Path::new(&base).join("taskloom"),
        _ => PathBuf::from(format!("/tmp/taskloom-{}", rustix::process::geteuid().as_raw())),
    }
}

/// A directory that others may write, or that is not ours, is as good as none: somebody could
/// put his socket there.
fn check_private(directory: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(directory)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} must be a directory of this user with mode 0700", directory.display()),
    ))
}

/// The user's private runtime directory, made when it is missing.
pub fn runtime_dir() -> io::Result<PathBuf> {
    let directory = location();
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => check_private(&directory)?,
    }
    Ok(directory)
}

/// Tells processes of different network namespaces apart, which may use the same port.
fn network_namespace() -> u64 {
    fs::metadata("/proc/self/ns/net").map_or(0, |meta| meta.ino())
}

fn companion_in(directory: &Path, address: SocketAddr) -> PathBuf {
    let (ip, port) = (address.ip(), address.port());
    directory.join(format!("{}-{ip}-{port}.sock", network_namespace()))
}

/// Whether processes of one host talk over sockets that pass descriptors, where they can.
/// `TASKLOOM_LOCAL_SOCKETS=0`: everything goes over TCP, as between hosts.
#[must_use]
pub fn has_companions() -> bool {
    std::env::var_os("TASKLOOM_LOCAL_SOCKETS").is_none_or(|value| value != "0")
}

/// Where the listener of a loopback address also listens; `None` off loopback or when the
/// runtime directory cannot be trusted. Makes the directory.
#[must_use]
pub fn companion_to_bind(address: SocketAddr) -> Option<PathBuf> {
    let wanted = address.ip().is_loopback() && has_companions();
    wanted.then(runtime_dir)?.ok().map(|directory| companion_in(&directory, address))
}

/// The companion socket of a loopback address, when there is one.
#[must_use]
pub fn companion_to_connect(address: SocketAddr) -> Option<PathBuf> {
    if !address.ip().is_loopback() || !has_companions() {
        return None;
    }
    let directory = location();
    check_private(&directory).ok()?;
    let path = companion_in(&directory, address);
    path.exists().then_some(path)
}

/// Younger files may belong to a process that is about to listen.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// Removes what killed processes left in the runtime directory: sockets that nobody serves, and
/// `executing-<pid>-…` tables of supervisors that are gone.
pub fn sweep() {
    if let Ok(directory) = runtime_dir() {
        sweep_in(&directory, SWEEP_AGE);
    }
}

fn sweep_in(directory: &Path, age: Duration) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|passed| passed >= age));
        if old && is_abandoned(&entry.path()) {
            // Another process may sweep, too.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if name.ends_with(".sock") {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        return UnixStream::connect(path).is_err_and(refused);
    }
    let pid = name.strip_prefix("executing-").and_then(|rest| rest.split('-').next()?.parse().ok());
    let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    pid.and_then(rustix::process::Pid::from_raw).is_some_and(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_may_enter_is_not_trusted() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(check_private(base.path()).is_ok());
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(check_private(base.path()).is_err());
        let link = base.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(check_private(&link).is_err());
    }

    #[test]
    fn only_loopback_ports_have_a_companion() {
        assert_eq!(companion_to_bind("192.0.2.1:80".parse().unwrap()), None);
        assert_eq!(companion_to_connect("192.0.2.1:80".parse().unwrap()), None);
    }

    #[test]
    fn sweeping_removes_only_what_nobody_uses() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        let live = std::os::unix::net::UnixListener::bind(path("live.sock")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(path("dead.sock")).unwrap());
        let own = format!("executing-{}-0", std::process::id());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = format!("executing-{}-0", child.id());
        for name in [own.as_str(), gone.as_str(), "executing-nonsense", "other"] {
            fs::write(path(name), "").unwrap();
        }
        sweep_in(base.path(), Duration::from_secs(3600));
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 6);
        sweep_in(base.path(), Duration::ZERO);
        assert!(!path("dead.sock").exists() && !path(&gone).exists());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 4);
        drop(live);
    }
}
