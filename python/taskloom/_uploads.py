"""Files and directories that are sent to workers."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["FileLock", "pack_directory", "place_directory", "place_file"]


def pack_directory(
    path: str, skip_words: Sequence[str], skip: Sequence[Callable[[str], bool]]
) -> bytes:
    """A directory as the bytes of a zip file; names begin with the directory's own."""
    packed = io.BytesIO()
    words = set(skip_words)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for root, directories, files in os.walk(path):
            directories[:] = [name for name in directories if name not in words]
            for name in files:
                full = os.path.join(root, name)
                if name in words or any(predicate(full) for predicate in skip):
                    continue
                archive.write(full, os.path.relpath(full, os.path.dirname(path)))
    return packed.getvalue()


def place_directory(directory: str, name: str, data: bytes, update_path: bool) -> None:
    """Unpack a packed directory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(directory)
    _add_to_path(directory)
    if update_path:
        _add_to_path(os.path.join(directory, name))
    importlib.invalidate_caches()


def place_file(directory: str, filename: str, data: bytes, load: bool) -> None:
    """Write a file, and import what it holds.

    Raises
    ------
    Exception
        What importing it raises, when ``load``.
    """
    path = os.path.join(directory, os.path.basename(filename))
    _write(path, data)
    base, extension = os.path.splitext(os.path.basename(filename))
    extension = extension.lower()
    if extension in (".egg", ".zip", ".pyz"):
        _add_to_path(path)
    elif extension in (".py", ".pyc"):
        _add_to_path(directory)
        _drop_compiled(path)
    importlib.invalidate_caches()
    if load:
        for name in _modules_of(path, base, extension):
            _load(name)


def _write(path: str, data: bytes) -> None:
    """At once: others may import it meanwhile."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _drop_compiled(path: str) -> None:
    """A file that is replaced within a second may look unchanged to the cache."""
    from contextlib import suppress

    with suppress(OSError, NotImplementedError):
        os.unlink(importlib.util.cache_from_source(path))


def _add_to_path(entry: str) -> None:
    sys.path_importer_cache.pop(entry, None)
    if entry not in sys.path:
        sys.path.insert(0, entry)


def _modules_of(path: str, base: str, extension: str) -> list[str]:
    if extension in (".py", ".pyc"):
        return [base]
    if extension not in (".egg", ".zip", ".pyz"):
        return []
    with zipfile.ZipFile(path) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if _is_module(name)}
    return sorted(top.removesuffix(".py") for top in tops)


def _is_module(name: str) -> bool:
    parts = name.split("/")
    if len(parts) == 1:
        return name.endswith(".py") and name not in ("setup.py", "__main__.py")
    return len(parts) == 2 and parts[1] == "__init__.py"


def _load(name: str) -> None:
    """Import a module anew, with what is below it."""
    for known in [known for known in sys.modules if known == name or known.startswith(name + ".")]:
        del sys.modules[known]
    importlib.import_module(name)


class FileLock:
    """A lock between processes of one machine; without the right to write there, none.

    Parameters
    ----------
    path : of the lock's file
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> FileLock:
        import fcntl

        try:
            self._file = open(self._path, "w")
        except OSError:
            self._file = open(
                os.path.join(tempfile.gettempdir(), f"taskloom-install-{os.getuid()}.lock"), "w"
            )
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._file.close()
