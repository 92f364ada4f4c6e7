"""Values of workers that a client cannot reach travel by way of the scheduler."""

import json
import os
import signal

import numpy
import pytest

from taskloom import Client
from tests.support import command, wait_until


@pytest.fixture
def address(tmp_path):
    """A scheduler and two workers, all processes of their own."""
    file = tmp_path / "scheduler.json"
    worker = ["worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1"]
    with (
        command("scheduler", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"),
        command(*worker),
        command(*worker),
    ):
        wait_until(file.exists, "the scheduler listens")
        yield json.loads(file.read_text())["address"]


def connect(address, **options):
    client = Client(address, set_as_default=False, **options)
    client.wait_for_workers(2, timeout=60)
    return client


def relayed(client):
    return client.scheduler_info()["relay"]


class Counter:
    def __init__(self):
        self.n = 0

    def add(self, more):
        self.n += len(more)
        return self.n


def test_a_client_that_reaches_the_workers_needs_no_relay(address):
    with connect(address) as client:
        assert client.submit(numpy.ones, 1_000_000).result().sum() == 1_000_000
        assert relayed(client) == {"connections": 0, "bytes": 0}


def test_all_that_travels_between_client_and_workers_can_be_relayed(address):
    with connect(address, direct_to_workers=False) as client:
        # Beyond what is asked for in ranges, over connections of their own.
        result = client.submit(numpy.arange, 5_000_000)
        assert (result.result() == numpy.arange(5_000_000)).all()
        # Counted once it is written: the reader may be here before.
        wait_until(lambda: relayed(client)["bytes"] > 40_000_000, "they are counted")
        small = client.map(bytes, range(1000, 1100))
        assert [len(value) for value in client.gather(small)] == list(range(1000, 1100))
        scattered = client.scatter(numpy.full(2_000_000, 7), broadcast=True)
        assert client.submit(numpy.sum, scattered).result() == 14_000_000
        counter = client.submit(Counter, actor=True).result()
        assert counter.add(b"x" * 100_000).result() == 100_000
    with connect(address) as other:
        wait_until(lambda: relayed(other)["connections"] == 0, "the relayed connections end")
        assert relayed(other)["bytes"] > 56_000_000


@pytest.fixture
def killable(address):
    """A relayed client, and how to kill a worker by its address."""
    with connect(address, direct_to_workers=False) as client:
        pids = client.run(os.getpid)
        yield client, lambda worker: os.kill(pids[worker], signal.SIGKILL)


def test_a_worker_that_dies_behind_the_relay_costs_a_new_run_only(killable):
    client, kill = killable
    future = client.submit(numpy.ones, 1_000_000, pure=False)
    assert future.result().sum() == 1_000_000
    kill(client.who_has([future])[future.key][0])
    assert client.submit(numpy.sum, future).result(timeout=60) == 1_000_000
    assert future.result(timeout=60).sum() == 1_000_000
