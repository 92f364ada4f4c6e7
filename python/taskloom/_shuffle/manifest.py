"""The list of all inputs' files, and how a reader gets at them: mapped on the host where they are,
by the data plane elsewhere."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from taskloom._context import current_worker
from taskloom._shuffle.files import ShardReader, Shards
from taskloom.errors import Reschedule, ShuffleError

__all__ = ["Manifest"]

#: A process may have some 65,000 mappings in all.
_KEPT_READERS = 8192

#: How long a worker that does not answer may take to be missed by the scheduler, in seconds.
_PATIENCE_S = 120.0

#: Before a reader looks whether the scheduler has missed the worker.
_PAUSE_S = 0.3

#: What is to be read of files of one worker: the file, where, and how much.
_Pieces = list[tuple[Shards, int, int]]


class Manifest:
    """The files of all inputs, in their order: what the barrier gives to those who read."""

    def __init__(self, files: Iterable[Shards]) -> None:
        self._files = tuple(files)
        # Kept with the object, which all readers of a worker share, and gone with it.
        self._readers: dict[bytes, ShardReader] = {}
        self._lock = threading.Lock()
        #: Since when workers do not answer.
        self._silent: dict[str, float] = {}

    def __reduce__(self) -> Any:
        return _manifest, (tuple(tuple(shards) for shards in self._files),)

    def __len__(self) -> int:
        return len(self._files)

    def readers(self, output: int, inputs: Sequence[int] | None = None) -> list[ShardReader]:
        """The files of these inputs, or of all, with the shards for one output at hand.

        Raises
        ------
        Reschedule
            A worker does not answer: if it is gone, what it had is being written again.
        ShuffleError
            A file is gone although its worker is there, or a worker is silent for too long.
        """
        files = self._files if inputs is None else [self._files[number] for number in inputs]
        readers = [self._known(shards) for shards in files]
        absent = [shards for shards, reader in zip(files, readers, strict=True) if reader is None]
        if absent:
            self._meet(absent)
            readers = [self._known(shards) for shards in files]
        found = [reader for reader in readers if reader is not None]
        self._bring([reader for reader in found if reader.is_remote], output)
        return found

    def _known(self, shards: Shards) -> ShardReader | None:
        reader = self._readers.get(shards.identity)
        if reader is None:
            try:
                reader = ShardReader.open(shards)
            except FileNotFoundError:
                return None
            self._keep(reader)
        return reader

    def _keep(self, reader: ShardReader) -> None:
        with self._lock:
            if reader.is_remote or len(self._readers) < _KEPT_READERS:
                self._readers.setdefault(reader.shards.identity, reader)

    def _meet(self, files: Sequence[Shards]) -> None:
        """Get the footers of files that are not on this host."""
        pieces = [
            (shards, shards.size_bytes - shards.footer_bytes, shards.footer_bytes)
            for shards in files
        ]
        for (shards, _, _), footer in self._read(pieces):
            self._keep(ShardReader(shards, footer))

    def _bring(self, readers: Sequence[ShardReader], output: int) -> None:
        """Get the shards for an output from other hosts."""
        if not readers:
            return
        by_file = {reader.shards.identity: reader for reader in readers}
        places = ((reader.shards, *reader.place(output)) for reader in readers)
        wanted = [(shards, start, length) for shards, start, length in places if length]
        for (shards, _, _), data in self._read(wanted):
            by_file[shards.identity].bring(output, data)

    def _read(self, pieces: _Pieces) -> list[tuple[tuple[Shards, int, int], bytes]]:
        """Pieces of files, one request for each worker."""
        by_worker: dict[str, _Pieces] = defaultdict(list)
        for piece in pieces:
            by_worker[piece[0].worker].append(piece)
        found: list[tuple[tuple[Shards, int, int], bytes]] = []
        for address, asked in by_worker.items():
            found.extend(zip(asked, self._ask(address, asked), strict=True))
        return found

    def _ask(self, address: str, pieces: _Pieces) -> list[bytes]:
        worker = current_worker.get(None)
        if worker is None or address in ("", worker.address):
            raise _lost(pieces[0][0], "it was removed")
        wanted = [(shards.identity, start, length) for shards, start, length in pieces]
        try:
            answers = worker._core.read_shards(address, wanted)
        except ConnectionError as error:
            self._wait_for_news(pieces[0][0], error)
            raise Reschedule from error
        self._silent.pop(address, None)
        data = []
        for (shards, _, _), answer in zip(pieces, answers, strict=True):
            if answer is None:
                raise _lost(shards, "its worker has it no more")
            data.append(answer)
        return data

    def _wait_for_news(self, shards: Shards, error: ConnectionError) -> None:
        """Give the scheduler time to miss a worker; a second attempt at once would be in vain."""
        since = self._silent.setdefault(shards.worker, time.monotonic())
        if time.monotonic() - since > _PATIENCE_S:
            raise _lost(shards, f"its worker cannot be reached from here: {error}") from error
        time.sleep(_PAUSE_S)


def _lost(shards: Shards, why: str) -> ShuffleError:
    where = f"worker {shards.worker}" if shards.worker else "this process"
    return ShuffleError(
        f"the shards {shards.path} of {where} cannot be read: {why}; compute the result again, and "
        "see that nobody removes the files of running workers",
        kind="lost",
    )


def _manifest(files: Sequence[tuple[Any, ...]]) -> Manifest:
    return Manifest(Shards(*fields) for fields in files)
