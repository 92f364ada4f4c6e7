"""A file with the shards of one input: those of output 0, then those of output 1, and so on.

::

    shard | shard | … | footer | length of the footer, 8 bytes | magic, 8 bytes

A file is complete before anybody hears of it, and never changes. It goes with the
:class:`ShardFile` of the process that wrote it, at the latest with that process.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pickle
import secrets
import threading
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from taskloom._context import current_worker
from taskloom._shuffle import scratch
from taskloom.errors import ShuffleError

__all__ = ["ShardFile", "ShardReader", "Shards", "write_shards"]

_MAGIC = b"tlshard1"

#: Shards begin at multiples of this, so that what is mapped from them is aligned.
ALIGNMENT = 64

_WRITE_BUFFER = 1 << 20

#: Longer paths would keep the description of a file from travelling inside messages.
_LONGEST_DIRECTORY = 500


class Shards(NamedTuple):
    """Where the shards of one input are; what other processes get of a :class:`ShardFile`."""

    path: str
    #: Names this one file among all that ever were.
    identity: bytes
    #: Of the worker that wrote it; empty outside of workers.
    worker: str
    #: Of the file.
    size_bytes: int


class ShardFile:
    """The file that this process wrote; removed with this object."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        weakref.finalize(self, _unlink, shards.path, os.getpid())

    def __reduce__(self) -> Any:
        return _same, (tuple(self.shards),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shards.path} {self.shards.size_bytes} bytes>"


def _same(fields: tuple[Any, ...]) -> Shards:
    return Shards(*fields)


def _unlink(path: str, process: int) -> None:
    # A fork has its parent's objects.
    if process == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(path)


def write_shards(outputs: Iterable[tuple[int, list[Any]]], n_outputs: int, extra: Any) -> ShardFile:
    """Write one input's shards.

    Parameters
    ----------
    outputs : pairs of an output's number and the buffers of its shard, by ascending number
        Outputs that get nothing are left out.
    n_outputs : int
    extra : object
        What readers need beside the shards; pickled.

    Raises
    ------
    ShuffleError
        The file cannot be written, for example since the disk is full. Nothing is left of it.
    """
    worker = current_worker.get(None)
    place = "" if worker is None else worker._core.local_directory
    identity = secrets.token_bytes(16)
    path = ""
    try:
        directory = scratch.directory(place)
        if len(directory) > _LONGEST_DIRECTORY:
            raise ShuffleError(
                f"the path of the directory for shards has {len(directory)} characters, and may "
                f"have {_LONGEST_DIRECTORY}; give workers a shorter local_directory: {directory}"
            )
        path = os.path.join(directory, identity.hex())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", _WRITE_BUFFER) as file:
            size_bytes = _write(file, identity, outputs, n_outputs, extra)
    except BaseException as error:
        if path:
            _unlink(path, os.getpid())
        if isinstance(error, OSError):
            raise _write_error(error, path or place) from error
        raise
    address = "" if worker is None else worker.address
    return ShardFile(Shards(path, identity, address, size_bytes))


def _write(
    file: Any, identity: bytes, outputs: Iterable[tuple[int, list[Any]]], n: int, extra: Any
) -> int:
    import numpy as np

    starts, lengths = np.zeros(n, np.int64), np.zeros(n, np.int64)
    position = 0
    for output, buffers in outputs:
        starts[output] = position
        for buffer in buffers:
            lengths[output] += file.write(buffer)
        padding = -lengths[output] % ALIGNMENT
        file.write(bytes(padding))
        position += int(lengths[output] + padding)
    footer = pickle.dumps((identity, starts, lengths, extra), 5)
    file.write(footer)
    file.write(len(footer).to_bytes(8, "little"))
    file.write(_MAGIC)
    return position + len(footer) + 8 + len(_MAGIC)


def _write_error(error: OSError, path: str) -> ShuffleError:
    where = os.path.dirname(path) or path or "the directory for temporary files"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ShuffleError(
            f"there is no room for the shards of a shuffle in {where} ({error.strerror}); free "
            "space there, or give workers a local_directory on a larger disk",
            kind="disk-full",
        )
    return ShuffleError(f"the shards of a shuffle cannot be written to {where}: {error}")


class ShardReader:
    """The shards of one file."""

    def __init__(self, data: Any) -> None:
        """`data` is the whole file as a buffer."""
        end = len(data) - len(_MAGIC)
        length = int.from_bytes(data[end - 8 : end], "little") if end >= 8 else 0
        start = end - 8 - length
        if end < 8 or bytes(data[end:]) != _MAGIC or start < 0:
            raise ValueError("not a file of shards, or a part of one")
        self.identity, self._starts, self._lengths, self.extra = pickle.loads(data[start : end - 8])
        self._data = data
        #: Files of the same shape share one object here, once that is known.
        self.alike = object()

    @classmethod
    def open(cls, shards: Shards) -> ShardReader:
        """Map a file of this host.

        Raises
        ------
        FileNotFoundError
            It is gone, or it is another host's.
        """
        with open(shards.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        reader = cls(memoryview(mapped))
        if reader.identity != shards.identity:
            raise FileNotFoundError(errno.ENOENT, "another file has its name", shards.path)
        return reader

    def shard(self, output: int) -> memoryview:
        """What the input has for one output; empty: nothing."""
        start = int(self._starts[output])
        return self._data[start : start + int(self._lengths[output])]


class OpenFiles:
    """Files that are mapped while their shuffle is read here."""

    #: A process may have some 65,000 mappings in all.
    KEPT = 8192

    def __init__(self) -> None:
        self._readers: dict[bytes, ShardReader] = {}
        self._lock = threading.Lock()

    def get(self, shards: Shards) -> ShardReader:
        """The reader of a file, opened at first use."""
        reader = self._readers.get(shards.identity)
        if reader is None:
            reader = ShardReader.open(shards)
            with self._lock:
                if len(self._readers) < self.KEPT:
                    reader = self._readers.setdefault(shards.identity, reader)
        return reader
