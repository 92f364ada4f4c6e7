"""Directories for files that must not outlive their process, however it ends.

A process holds a lock on ``NAME.lock`` beside its directory ``NAME`` as long as it lives; the
kernel lets go of it also after ``kill -9``. Whoever gets the lock of another directory may remove
it. Unlike process numbers, that holds between containers that share a directory.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import threading

from taskloom._taskloom import CoreWorker

__all__ = ["directory", "remove_own", "sweep", "sweep_for"]

_NAME = "taskloom-shuffle"

#: The base directories where this process has a directory, with it and the lock.
_own: dict[str, tuple[str, int]] = {}
_own_process = 0
_lock = threading.Lock()


def directory(local_directory: str = "") -> str:
    """This process's directory for shards, made at first use.

    Parameters
    ----------
    local_directory : str
        The worker's; empty: below the system's directory for temporary files.

    Raises
    ------
    OSError
        The directory cannot be made, or somebody else owns it.
    """
    global _own_process
    base = _base(local_directory)
    with _lock:
        if _own_process != os.getpid():
            # A fork has its parent's directories, and must not remove them.
            _own.clear()
            _own_process = os.getpid()
            atexit.register(remove_own)
        if base not in _own or not os.path.isdir(_own[base][0]):
            _make_base(base)
            sweep(base)
            _own[base] = _make_own(base)
            CoreWorker.serve_shards_in(_own[base][0])
        return _own[base][0]


def _base(local_directory: str) -> str:
    if local_directory:
        return os.path.join(os.path.abspath(local_directory), _NAME)
    return os.path.join(tempfile.gettempdir(), f"{_NAME}-{os.geteuid()}")


def _make_base(base: str) -> None:
    os.makedirs(os.path.dirname(base), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(base, 0o700)
    status = os.lstat(base)
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    if status.st_uid != os.geteuid() or not is_private:
        raise PermissionError(
            f"{base} must be a directory of this user that nobody else may write; "
            "remove it, or give workers another local_directory"
        )


def _make_own(base: str) -> tuple[str, int]:
    while True:
        path = os.path.join(base, secrets.token_hex(8))
        lock = _try_lock(path + ".lock", os.O_CREAT)
        # Another process may have swept the lock's file in the moment before it was locked.
        if lock is not None:
            os.mkdir(path, 0o700)
            return path, lock


def _try_lock(path: str, flags: int = 0) -> int | None:
    """The lock on a file, as a descriptor; ``None``: another has it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def sweep(base: str) -> list[str]:
    """Remove what processes left that are gone; gives the removed directories."""
    removed = []
    for name in os.listdir(base) if os.path.isdir(base) else []:
        if not name.endswith(".lock"):
            continue
        path = os.path.join(base, name)
        if any(path == own + ".lock" for own, _ in _own.values()):
            continue
        lock = _try_lock(path)
        if lock is None:
            continue
        # The lock's file goes last: until then nobody else touches the directory.
        shutil.rmtree(path.removesuffix(".lock"), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(lock)
        removed.append(path.removesuffix(".lock"))
    return removed


def sweep_for(local_directory: str = "") -> None:
    """:func:`sweep` for a worker that starts: what fails there is no reason not to start."""
    with contextlib.suppress(OSError):
        sweep(_base(local_directory))


def remove_own() -> None:
    """Remove this process's directories, at its end."""
    if _own_process != os.getpid():
        return
    with _lock:
        for path, lock in _own.values():
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(path + ".lock")
            os.close(lock)
        _own.clear()
