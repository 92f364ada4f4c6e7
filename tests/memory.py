"""Tasks of the memory tests. Workers import this module: it stays small."""

from __future__ import annotations

import hashlib
import os
import threading
import time

leaked: list[bytearray] = []


def block(seed: int, size: int) -> bytes:
    """Bytes that no system shares or compresses, the same for each seed."""
    piece = hashlib.sha256(str(seed).encode()).digest() * 2048
    return (piece * (size // len(piece) + 1))[:size]


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checksums(*blocks: bytes) -> list[str]:
    return [checksum(data) for data in blocks]


def leak(size: int) -> int:
    """Keeps memory for ever; tells how much this process has kept."""
    leaked.append(bytearray(os.urandom(1024)) * (size // 1024))
    time.sleep(0.05)
    return sum(len(data) for data in leaked)


def let_go(*_: object) -> int:
    leaked.clear()
    return os.getpid()


def numbers(value: int, size: int):
    """An array that lies in memory of its own."""
    import numpy as np

    return np.full(size // 8, value, dtype="f8")


def add_one_and_sum(array) -> int:
    """Needs an array that may be written to, and leaves it as it was."""
    array += 1
    total = int(array.sum())
    array -= 1
    return total


class Unpicklable:
    """A result that cannot leave its process."""

    def __init__(self, size: int) -> None:
        self.data = block(0, size)
        self.lock = threading.Lock()
        self.nbytes = size


def unpicklable(size: int) -> Unpicklable:
    return Unpicklable(size)


def size_of_unpicklable(value: Unpicklable) -> int:
    return len(value.data)
