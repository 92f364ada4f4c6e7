"""A file with the shards of one input: those of output 0, then those of output 1, and so on, and
behind them a footer that says where each begins.

A file is complete before anybody hears of it, and never changes. It goes with the
:class:`ShardFile` of the process that wrote it, at the latest with that process.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import mmap
import os
import pickle
import secrets
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from taskloom._context import current_worker
from taskloom._taskloom import CoreWorker
from taskloom.errors import ShuffleError

__all__ = ["ShardFile", "ShardReader", "Shards", "write_shards"]

#: Shards begin at multiples of this, so that what is mapped from them is aligned.
ALIGNMENT = 64

_WRITE_BUFFER = 1 << 20

#: Longer paths would keep the description of a file from travelling inside messages.
_LONGEST_DIRECTORY = 500

# A worker's process has no such end, and does it itself.
atexit.register(CoreWorker.remove_shard_directories)


class Shards(NamedTuple):
    """Where the shards of one input are; what other processes get of a :class:`ShardFile`."""

    path: str
    #: Names this one file among all that ever were.
    identity: bytes
    #: Of the worker that wrote it; empty outside of workers.
    worker: str
    #: Of the file, and of the footer at its end.
    size_bytes: int
    footer_bytes: int


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
        directory = CoreWorker.shard_directory(place)
        if len(directory) > _LONGEST_DIRECTORY:
            raise ShuffleError(
                f"the path of the directory for shards has {len(directory)} characters, and may "
                f"have {_LONGEST_DIRECTORY}; give workers a shorter local_directory: {directory}"
            )
        path = os.path.join(directory, identity.hex())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", _WRITE_BUFFER) as file:
            sizes = _write(file, identity, outputs, n_outputs, extra)
    except BaseException as error:
        if path:
            _unlink(path, os.getpid())
        if isinstance(error, OSError):
            raise _write_error(error, path or place) from error
        raise
    address = "" if worker is None else worker.address
    return ShardFile(Shards(path, identity, address, *sizes))


def _write(
    file: Any, identity: bytes, outputs: Iterable[tuple[int, list[Any]]], n: int, extra: Any
) -> tuple[int, int]:
    """The lengths of the file and of its footer."""
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
    return position + len(footer), len(footer)


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
    """The shards of one file: mapped, or read piece by piece from another host."""

    def __init__(self, shards: Shards, footer: Any, data: memoryview | None = None) -> None:
        """`data` is the whole file; without it, shards are to be brought one by one."""
        identity, self._starts, self._lengths, self.extra = pickle.loads(footer)
        if identity != shards.identity:
            raise FileNotFoundError(errno.ENOENT, "another file has its name", shards.path)
        self.shards = shards
        self._data = data
        self._brought: dict[int, Any] = {}
        #: Files of the same shape share one object here, once that is known.
        self.alike = object()
        #: Of Arrow, once it was read.
        self.schema: Any = None

    @classmethod
    def open(cls, shards: Shards) -> ShardReader:
        """Map a file of this host.

        Raises
        ------
        FileNotFoundError
            It is gone, or it is another host's.
        """
        with open(shards.path, "rb") as file:
            if os.fstat(file.fileno()).st_size != shards.size_bytes:
                raise FileNotFoundError(errno.ENOENT, "another file has its name", shards.path)
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        data = memoryview(mapped)
        return cls(shards, data[shards.size_bytes - shards.footer_bytes :], data)

    @property
    def is_remote(self) -> bool:
        """Whether shards have to be brought before they can be read."""
        return self._data is None

    def place(self, output: int) -> tuple[int, int]:
        """Where the shard of an output begins, and its length; in bytes."""
        return int(self._starts[output]), int(self._lengths[output])

    def bring(self, output: int, data: Any) -> None:
        """A shard came from another host; it is read once."""
        self._brought[output] = data

    def shard(self, output: int) -> memoryview:
        """What the input has for one output; empty: nothing."""
        if self._data is None:
            return memoryview(self._brought.pop(output, b""))
        start, length = self.place(output)
        return self._data[start : start + length]
