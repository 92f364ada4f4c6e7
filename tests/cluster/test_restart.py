"""The scheduler's process dies and is started again at the same address."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskloom import CancelledError, Client, Lock
from tests import tasks
from tests.support import alive, command, wait_until


class Scheduler:
    """A scheduler at a fixed address that can be killed and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        #: The system's choice at first, then always the same.
        self.port = 0
        self._directory = directory
        self._options = options
        self._starts = 0
        self._stack = contextlib.ExitStack()
        self.process: subprocess.Popen
        self.start()

    def start(self) -> None:
        self._starts += 1
        file = self._directory / f"scheduler-{self._starts}.json"
        place = ["--port", str(self.port), "--scheduler-file", str(file)]
        self.process = self._stack.enter_context(command("scheduler", *place, *self._options))
        wait_until(file.exists, "the scheduler listens")
        self.address: str = json.loads(file.read_text())["address"]
        self.port = int(self.address.rsplit(":", 1)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    scheduler = Scheduler(tmp_path)
    yield scheduler
    scheduler.close()


@contextlib.contextmanager
def worker(scheduler: Scheduler, name: str = "alice", kind: str = "--no-nanny"):
    with command("worker", scheduler.address, kind, "--name", name, "--nthreads", "2") as process:
        yield process


def note_run(path: str, value: int, gate: str | None = None) -> bytes:
    """Leaves a mark for each time that it is run; its result is too large for a message."""
    if gate is not None:
        tasks.wait_for_file(gate, timeout=100)
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{value}\n")
    return bytes([value]) * 5000


def join(parts: list[bytes]) -> bytes:
    return b"".join(part[:1] for part in parts)


def runs(path: Path) -> list[int]:
    return sorted(int(line) for line in path.read_text().split())


def test_results_that_workers_hold_are_used_and_not_made_again(scheduler, tmp_path):
    marks = tmp_path / "marks"
    with worker(scheduler), Client(scheduler.address) as client:
        futures = [client.submit(note_run, str(marks), i) for i in range(10)]
        client.gather(futures)
        scheduler.kill()
        scheduler.start()
        joined = client.submit(join, futures)
        assert joined.result(timeout=60) == bytes(range(10))
        assert [value[0] for value in client.gather(futures)] == list(range(10))
        assert runs(marks) == list(range(10)), "nothing ran twice"
        assert client.counters()["results_adopted"] == 10


def test_what_was_unfinished_is_submitted_again(scheduler, tmp_path):
    marks = tmp_path / "marks"
    with worker(scheduler), Client(scheduler.address) as client:
        first = client.submit(note_run, str(marks), 1)
        first.result()
        gate = tmp_path / "gate"
        some = [client.submit(note_run, str(marks), i) for i in range(2, 5)]
        rest = [client.submit(note_run, str(marks), i, str(gate)) for i in range(5, 10)]
        last = client.submit(join, [first, *some, *rest])
        wait_until(lambda: len(runs(marks)) > 2, "some of them are done")
        scheduler.kill()
        assert last.status == "pending"
        scheduler.start()
        gate.touch()
        assert last.result(timeout=60) == bytes(range(1, 10))
        counts = runs(marks)
        assert counts.count(1) == 1, "what was finished did not run again"
        assert set(counts) == set(range(1, 10))


def test_a_graph_ends_over_a_restart(scheduler):
    dask = pytest.importorskip("dask")
    with worker(scheduler), worker(scheduler, "bob"), Client(scheduler.address) as client:
        slow = dask.delayed(_slow_inc)
        leaves = [slow(i) for i in range(40)]
        total = client.compute(dask.delayed(sum)(leaves))
        wait_until(lambda: client.counters()["tasks_done"] > 0, "some of them are done")
        scheduler.kill()
        scheduler.start()
        assert total.result(timeout=60) == sum(range(1, 41))


def _slow_inc(x: int) -> int:
    time.sleep(0.05)
    return x + 1


def test_results_whose_worker_died_with_the_scheduler_are_lost_by_name(tmp_path):
    # So long the scheduler waits for the worker: long enough for a start on a busy machine.
    with contextlib.closing(Scheduler(tmp_path, "--reconnect-timeout", "10s")) as scheduler:
        with Client(scheduler.address) as client:
            with worker(scheduler) as process:
                future = client.submit(bytes, 5000, key="precious")
                future.result()
                process.kill()
                process.wait()
                scheduler.kill()
            scheduler.start()
            with pytest.raises(CancelledError, match="precious"):
                future.result(timeout=60)
            assert future.status == "lost"


def test_small_results_outlive_their_workers_too(scheduler):
    """The client has them itself."""
    with Client(scheduler.address) as client:
        with worker(scheduler) as process:
            future = client.submit(tasks.inc, 1)
            assert future.result() == 2
            process.kill()
            process.wait()
            scheduler.kill()
        scheduler.start()
        with worker(scheduler, "bob"):
            assert client.submit(tasks.inc, future).result(timeout=60) == 3
            assert future.result() == 2


def test_scattered_data_is_kept_by_its_worker(scheduler):
    with worker(scheduler), Client(scheduler.address) as client:
        (data,) = client.scatter([b"x" * 10_000])
        scheduler.kill()
        scheduler.start()
        assert client.submit(len, data).result(timeout=60) == 10_000


def note_and_wait(started: str, flag: str) -> None:
    Path(started).touch()
    tasks.wait_for_file(flag)


def test_questions_under_way_end_with_a_typed_error(scheduler, tmp_path):
    from taskloom import SchedulerError

    started, flag = tmp_path / "started", tmp_path / "go"
    with worker(scheduler), Client(scheduler.address) as client:
        client.wait_for_workers(1, timeout=60)
        Lock("door", client=client).acquire()
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(client.run(note_and_wait, str(started), str(flag)))
            except SchedulerError as error:
                outcome.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(started.exists, "the question is under way")
        scheduler.kill()
        scheduler.start()
        thread.join(60)
        (error,) = outcome
        assert isinstance(error, SchedulerError)
        flag.touch()
        # The lock is as new.
        assert Lock("door", client=client).acquire(timeout=30)


@pytest.mark.parametrize("kind", ["--no-nanny", "--nanny"])
def test_workers_keep_their_process_over_a_restart(scheduler, kind):
    with worker(scheduler, kind=kind), Client(scheduler.address) as client:
        client.wait_for_workers(1, timeout=30)
        before = list(client.run(os.getpid).values())
        for _ in range(2):
            scheduler.kill()
            scheduler.start()
            assert client.submit(tasks.inc, 1, pure=False).result(timeout=60) == 2
        assert list(client.run(os.getpid).values()) == before


def test_workers_and_clients_end_when_the_scheduler_does_not_come_back(tmp_path):
    scheduler = Scheduler(tmp_path, "--reconnect-timeout", "1s")
    try:
        with worker(scheduler) as process, Client(scheduler.address) as client:
            client.wait_for_workers(1, timeout=30)
            future = client.submit(time.sleep, 60)
            scheduler.kill()
            with pytest.raises(CancelledError):
                future.result(timeout=30)
            wait_until(lambda: not alive(process.pid), "the worker ends")
            assert process.wait() == 1
    finally:
        scheduler.close()


def test_an_orderly_end_of_the_scheduler_is_not_waited_out(scheduler):
    with worker(scheduler) as process, Client(scheduler.address) as client:
        client.wait_for_workers(1, timeout=30)
        future = client.submit(time.sleep, 60)
        scheduler.process.terminate()
        with pytest.raises(CancelledError):
            # Less than the half minute for which a lost scheduler is waited for.
            future.result(timeout=25)
        assert process.wait(25) == 0
