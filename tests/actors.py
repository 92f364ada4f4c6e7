"""Classes that tests submit as actors. Workers import this module: it stays small."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path

import taskloom
from taskloom import get_client, get_worker
from tests.tasks import meet


class Counter:
    """Counts; `n` is also a class attribute, as in dask's documentation."""

    n = 0

    def __init__(self, start: int = 0) -> None:
        self.n = start
        self.label = "mine"

    def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    def fail(self, message: str) -> None:
        self.n += 1
        raise ValueError(message)

    def where(self) -> tuple[int, str]:
        return os.getpid(), get_worker().address

    def ask_oneself(self, me: taskloom.Actor) -> tuple[int, int]:
        """Blocks on a method of the actor that this is."""
        return me.add(1).result(), me.n

    def ask(self, other: taskloom.Actor) -> int:
        return other.add(1).result()

    def run_task(self) -> int:
        return get_client().submit(sum, [1, 2, self.n]).result()

    def die(self) -> None:
        os.kill(os.getpid(), 9)

    def unpicklable(self) -> object:
        return threading.Lock()

    def stuck(self, seconds: float) -> str:
        time.sleep(seconds)
        return "awake"


class Meeting(Counter):
    """Is made once `count` of them are being made: side by side."""

    def __init__(self, directory: str, start: int, count: int) -> None:
        super().__init__(start)
        meet(directory, start, count)


class Journal:
    """Writes down what is asked of it, in order; refuses to do two things at once."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.busy = threading.Lock()

    def write(self, line: object) -> None:
        assert self.busy.acquire(blocking=False), "two methods at once"
        time.sleep(0.0005)
        self.lines.append(line)
        self.busy.release()

    def read(self) -> list[object]:
        return self.lines


class Gate:
    """Coroutine methods that wait for each other."""

    def __init__(self) -> None:
        self.event: asyncio.Event | None = None
        self.waiting = 0

    async def wait(self) -> str:
        self.event = self.event or asyncio.Event()
        self.waiting += 1
        await self.event.wait()
        return "open"

    async def open(self) -> int:
        assert self.event is not None
        self.event.set()
        return self.waiting

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise KeyError("async")

    async def ask_oneself(self, me: taskloom.Actor) -> str:
        return await me.echo("through")

    async def echo(self, text: str) -> str:
        return text


class Blocker:
    """A method that goes on until a file is there, and an attribute that changes meanwhile."""

    state = "idle"

    def run(self, path: str) -> str:
        self.state = "running"
        while not Path(path).exists():
            time.sleep(0.01)
        self.state = "done"
        return self.state


class Store:
    def __init__(self) -> None:
        self.kept: list[object] = []

    def keep(self, *values: object, **named: object) -> int:
        self.kept += [*values, *named.values()]
        return len(self.kept)

    def get(self) -> list[object]:
        return self.kept

    def size(self, array: object) -> int:
        return array.nbytes  # type: ignore[attr-defined]


class Closing:
    """Leaves a file behind when it is dropped."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __del__(self) -> None:
        # Also called where the interpreter ends.
        with contextlib.suppress(Exception):
            Path(self.path).touch()


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("cannot be made")


@taskloom.actor(restart=True, snapshot_every=1)
class Durable(Counter):
    """Every answered call is in a snapshot."""


@taskloom.actor(restart=True)
class Fresh(Counter):
    """Starts again as it was made."""


@taskloom.actor(restart=True, snapshot_every=1000)
class Seldom:
    """Saved when it is made, and long after that; counts calls that block and calls that await."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    def add_when(self, path: str) -> int:
        while not Path(path).exists():
            time.sleep(0.01)
        return self.add()

    def add_and_read(self, megabytes: int) -> tuple[int, bytes]:
        self.n += 1
        return self.n, bytes(megabytes * 1_000_000)

    async def add_later(self, path: str) -> int:
        while not Path(path).exists():
            await asyncio.sleep(0.01)
        return self.add()

    def where(self) -> tuple[int, str]:
        return os.getpid(), get_worker().address

    def spoil(self) -> str:
        self.lock = threading.Lock()
        return "spoiled"


@taskloom.actor(restart=True, snapshot_every=1)
class Unsaveable(Counter):
    """Cannot be pickled from the moment that it is told so."""

    def spoil(self) -> str:
        self.lock = threading.Lock()
        return "spoiled"


@taskloom.actor(restart=True)
class NeverSaveable:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@taskloom.actor(restart=True, snapshot_every=1)
class Hooked:
    """Says itself what is in a snapshot."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = open(path, "a")
        self.n = 0

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "n": self.n}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.file = open(self.path, "a")

    async def write(self, line: str) -> int:
        self.n += 1
        self.file.write(line)
        self.file.flush()
        return self.n

    def die(self) -> None:
        os.kill(os.getpid(), 9)


def add_by(counter: taskloom.Actor, amount: int) -> int:
    """A task that calls an actor."""
    return counter.add(amount).result()


async def add_by_coroutine(counter: taskloom.Actor, amount: int) -> tuple[int, int]:
    return await counter.add(amount), await counter.n


def hand_on(counter: taskloom.Actor) -> taskloom.Actor:
    return counter


def make_within(start: int) -> tuple[int, taskloom.Actor]:
    """A task that makes an actor and gives its proxy away."""
    counter = get_client().submit(Counter, start, actor=True).result()
    return counter.add(1).result(), counter
