"""Workers whose connections stand and say nothing: their process is stopped, and stays so."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskloom import Client
from taskloom.errors import ActorLostError, SchedulerError
from tests import frames
from tests.support import command, wait_until

#: After which a silent worker is given up. Everything here ends soon after.
TTL = "4s"


def is_stopped(pid: int) -> bool:
    """Whether no thread of a process runs."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] in "Tt" for stat in stats)


@dataclass
class Parts:
    client: Client
    #: The process of each worker.
    workers: dict[str, int]

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """It goes on at the end only: nothing that is awaited may need that."""
        pid = self.workers[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            # The signal arrives in each of its threads, a moment later.
            wait_until(lambda: is_stopped(pid), "all its threads stand")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def parts(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Parts]:
    local = getattr(request, "param", "1")
    monkeypatch.setenv("TASKLOOM_LOCAL_SOCKETS", local)
    monkeypatch.setenv("TASKLOOM_SHARED_MEMORY", local)
    file = tmp_path / "scheduler.json"
    place = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(command("scheduler", *place, "--worker-ttl", TTL))
        wait_until(file.exists, "the scheduler file is there")
        address = json.loads(file.read_text())["address"]
        for name in ("alice", "bob"):
            stack.enter_context(command("worker", address, "--no-nanny", "--name", name))
        client = stack.enter_context(Client(address))
        client.wait_for_workers(2, timeout=60)
        infos = client.scheduler_info()["workers"].values()
        yield Parts(client, {info["name"]: info["pid"] for info in infos})


both_ways = pytest.mark.parametrize("parts", ["1", "0"], indirect=True, ids=["local", "tcp"])


def make(size: int) -> bytes:
    return bytes(size)


@both_ways
def test_a_worker_gets_an_input_elsewhere_when_its_holder_stops_for_ever(parts: Parts):
    client = parts.client
    held = client.map(make, [100_000, 100_001], workers=["alice"], allow_other_workers=True)
    client.gather(held)
    # The connection between them is there.
    assert client.submit(len, held[0], workers=["bob"]).result() == 100_000
    with parts.stopped("alice"):
        assert client.submit(len, held[1], workers=["bob"]).result(timeout=60) == 100_001


@both_ways
def test_a_client_gets_a_result_elsewhere_when_its_holder_stops_for_ever(parts: Parts):
    client = parts.client
    held = client.map(make, [100_000, 100_001], workers=["alice"], allow_other_workers=True)
    assert len(held[0].result()) == 100_000
    with parts.stopped("alice"):
        assert len(held[1].result(timeout=60)) == 100_001


@both_ways
def test_a_shuffle_goes_on_when_a_worker_that_holds_parts_of_it_stops_for_ever(
    parts: Parts, tmp_path: Path
):
    dask = pytest.importorskip("dask")
    pytest.importorskip("pyarrow")
    dd = pytest.importorskip("dask.dataframe")
    plain = frames.awkward(400)
    log, gate = tmp_path / "log", tmp_path / "gate"
    log.mkdir()
    with dask.config.set({"dataframe.shuffle.method": "p2p", "dataframe.convert-string": False}):
        made = dd.from_pandas(plain, npartitions=12).map_partitions(
            frames.noted, str(log), meta=plain[:0]
        )
        read = made.shuffle("key", npartitions=12).map_partitions(
            frames.behind, str(gate), meta=plain[:0]
        )
        future = parts.client.compute(read)
    # All was made, on both, and nothing is read to the end.
    wait_until(lambda: len(os.listdir(log)) == 12, "all inputs were made")
    with parts.stopped("alice"):
        gate.touch()
        found = future.result(timeout=90)
    assert found.sort_values("n").equals(plain)
    # What the other one has was not made again.
    assert 12 < len(os.listdir(log)) < 24


def test_a_scatter_ends_with_an_error_when_a_worker_stops_for_ever(parts: Parts):
    client = parts.client
    # The connections to both are there.
    client.scatter([b"x" * 100_000, b"y" * 100_000], hash=False)
    values = [bytes([i]) * 100_000 for i in range(8)]
    with parts.stopped("alice"):
        with pytest.raises(SchedulerError, match="given it up"):
            client.scatter(values, hash=False)
        # From then on they go to the other one.
        again = client.scatter(values, hash=False)
        assert client.gather(client.map(len, again)) == [100_000] * 8


def test_a_call_of_an_actor_ends_with_an_error_when_its_worker_stops_for_ever(parts: Parts):
    client = parts.client
    counter = client.submit(list, actor=True, workers=["alice"]).result()
    counter.append(1).result()
    with parts.stopped("alice"), pytest.raises(ActorLostError):
        counter.append(2).result(timeout=60)
