"""Connections break and come back: nothing is lost, nothing is run twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskloom import Client
from tests import tasks
from tests.proxy import Proxy
from tests.support import command, wait_until


class Setting:
    """A scheduler, a worker and a client as processes, each pair with a relay between."""

    def __init__(self, address: str, client: Client, to_worker: Proxy, to_client: Proxy) -> None:
        self.address = address
        self.client = client
        self.worker_line = to_worker
        self.client_line = to_client

    def counters(self) -> dict[str, int]:
        return self.client.counters()


@contextlib.contextmanager
def scheduler(tmp_path: Path, *options: str) -> Iterator[str]:
    file = tmp_path / "scheduler.json"
    place = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    with command("scheduler", *place, *options):
        wait_until(file.exists, "the scheduler file is there")
        yield json.loads(file.read_text())["address"]


@contextlib.contextmanager
def setting(tmp_path: Path, *options: str, nanny: bool = False) -> Iterator[Setting]:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(scheduler(tmp_path, *options))
        to_worker = stack.enter_context(Proxy(address))
        to_client = stack.enter_context(Proxy(address))
        kind = "--nanny" if nanny else "--no-nanny"
        stack.enter_context(
            command("worker", to_worker.address, kind, "--name", "alice", "--nthreads", "2")
        )
        client = stack.enter_context(Client(to_client.address))
        client.wait_for_workers(1, timeout=30)
        yield Setting(address, client, to_worker, to_client)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Setting]:
    with setting(tmp_path) as parts:
        yield parts


def note_run(path: str, value: int, pause: float = 0.0) -> int:
    """Leaves a mark for each time that it is run."""
    time.sleep(pause)
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{value}\n")
    return value


def run_when(go: str, marks: str, value: int) -> int:
    """Leaves a mark when it begins and when it ends, which it may when the file `go` is there."""
    note_run(marks, value)
    while not os.path.exists(go):
        time.sleep(0.01)
    return note_run(marks, value)


def runs(path: Path) -> list[int]:
    return sorted(int(line) for line in path.read_text().split())


@pytest.mark.parametrize("line", ["worker_line", "client_line"])
def test_work_goes_on_over_connections_that_break_again_and_again(parts, tmp_path, line):
    marks, go = tmp_path / "marks", tmp_path / "go"
    stop = threading.Event()
    relay = getattr(parts, line)

    def cut_often():
        pause = 0.15
        while not stop.wait(pause):
            relay.cut()
            # A connection takes its time on a busy machine: in the end each gets enough.
            pause *= 1.2

    thread = threading.Thread(target=cut_often)
    thread.start()
    try:
        futures = [parts.client.submit(note_run, str(marks), i, 0.005) for i in range(300)]
        total = parts.client.submit(sum, futures)
        held = parts.client.submit(tasks.wait_for_file, str(go), timeout=100)
        wait_until(lambda: relay.connections > 2, "the connection was made again")
        go.touch()
        assert total.result(timeout=60) == sum(range(300))
        assert held.result(timeout=60) == str(go)
    finally:
        stop.set()
        thread.join()
    assert parts.client.gather(futures) == list(range(300))
    assert runs(marks) == list(range(300)), "nothing ran twice"
    counters = parts.counters()
    assert counters["sessions_resumed"] > 0
    assert counters["workers_lost"] == 0


def test_a_worker_runs_on_while_its_connection_is_broken(parts, tmp_path):
    go, marks = tmp_path / "go", tmp_path / "marks"
    futures = [parts.client.submit(run_when, str(go), str(marks), i) for i in range(2)]
    wait_until(lambda: marks.exists() and len(runs(marks)) == 2, "both run")
    with parts.worker_line.down():
        go.touch()
        wait_until(lambda: len(runs(marks)) == 4, "it runs on by itself")
        assert [future.status for future in futures] == ["pending", "pending"]
    assert parts.client.gather(futures) == [0, 1]
    assert runs(marks) == [0, 0, 1, 1]


def test_a_submission_while_the_connection_is_broken_arrives_later(parts):
    with parts.client_line.down():
        futures = parts.client.map(tasks.inc, range(100))
        time.sleep(0.1)
        assert futures[0].status == "pending"
    assert parts.client.gather(futures) == list(range(1, 101))


def test_large_messages_arrive_whole_through_a_line_that_breaks(parts):
    data = os.urandom(3_000_000)
    # More than one of them and what a socket holds: each connection gets at least one across.
    parts.client_line.breaks_after = 9_000_000
    before = parts.client_line.connections
    futures = [parts.client.submit(len, data[i:], pure=False) for i in range(8)]
    assert parts.client.gather(futures) == [len(data) - i for i in range(8)]
    assert parts.client_line.connections >= before + 2


def test_a_worker_that_stays_away_is_lost_after_the_grace_time(tmp_path):
    with setting(tmp_path, "--reconnect-timeout", "1s") as parts:
        future = parts.client.submit(time.sleep, 0.2)
        future.result()
        parts.worker_line._accepts.clear()
        parts.worker_line.cut()
        wait_until(lambda: not parts.client.scheduler_info()["workers"], "it is lost")


def test_a_dead_process_is_not_waited_for(tmp_path):
    """Its data port is closed: that its connection broke means its end."""
    with setting(tmp_path, "--reconnect-timeout", "10m") as parts:
        (worker,) = parts.client.scheduler_info()["workers"].values()
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: not parts.client.scheduler_info()["workers"], "it is seen to be dead")


def test_a_silent_line_is_given_up_and_made_again(tmp_path):
    """A half-open connection: it stands, and nothing comes through."""
    with setting(tmp_path, "--worker-ttl", "6s") as parts:
        before = parts.worker_line.connections
        with parts.worker_line.stalled("down"):
            wait_until(lambda: parts.worker_line.connections > before, "it tries another")
        futures = parts.client.map(tasks.inc, range(10))
        assert parts.client.gather(futures) == list(range(1, 11))


def test_a_stopped_worker_is_fenced_and_comes_back_with_its_results(tmp_path):
    marks = tmp_path / "marks"
    with setting(tmp_path, "--worker-ttl", "5s") as parts:
        client = parts.client
        # Large: only the worker holds it.
        kept = client.submit(bytes, 5000)
        kept.result()
        (worker,) = client.scheduler_info()["workers"].values()
        running = client.submit(note_run, str(marks), 7, 1.0)
        wait_until(lambda: any(client.processing().values()), "it runs")
        os.kill(worker["pid"], signal.SIGSTOP)
        try:
            wait_until(lambda: not client.scheduler_info()["workers"], "it is taken for dead")
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        client.wait_for_workers(1, timeout=30)
        assert running.result(timeout=30) == 7
        assert len(kept.result(timeout=30)) == 5000
        (again,) = client.scheduler_info()["workers"].values()
        assert again["pid"] == worker["pid"]
        assert parts.counters()["workers_lost"] == 1
