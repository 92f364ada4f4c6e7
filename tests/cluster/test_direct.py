"""Values take the direct way: between workers and clients, never through the scheduler."""

import json
import os
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest

from taskloom import Client
from tests.support import command, wait_until

numpy = pytest.importorskip("numpy")

BYTES = 16_000_000


def array(fill):
    return numpy.full(BYTES // 8, float(fill))


def total(values):
    return float(values.sum())


class Counter:
    """Stands before an address and counts what passes, both ways."""

    def __init__(self, target):
        self.target = target
        self.passed = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source, target):
        try:
            while content := source.recv(65536):
                self.passed += len(content)
                target.sendall(content)
        except OSError:
            pass
        finally:
            # The thread of the other direction ends with them.
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextmanager
def counted_cluster(tmp_path, workers, **environment):
    """A scheduler that everybody reaches through a counter; gives the client and the counter."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    with ExitStack() as stack:
        stack.enter_context(command("scheduler", *options, "--no-dashboard", **environment))
        wait_until(file.exists, "the scheduler file is there")
        host, port = json.loads(file.read_text())["address"].removeprefix("tcp://").split(":")
        counter = Counter((host, int(port)))
        stack.callback(counter.listener.close)
        address = f"tcp://127.0.0.1:{counter.port}"
        for name in range(workers):
            worker = command("worker", address, "--name", str(name), "--no-nanny", **environment)
            stack.enter_context(worker)
        client = stack.enter_context(Client(address))
        client.wait_for_workers(workers, timeout=30)
        yield client, counter


@pytest.mark.parametrize("local_sockets", ["1", "0"])
def test_the_scheduler_carries_no_values(tmp_path, local_sockets, monkeypatch):
    monkeypatch.setenv("TASKLOOM_LOCAL_SOCKETS", local_sockets)
    with counted_cluster(tmp_path, 2) as (client, counter):
        first, second = client.scheduler_info()["workers"]
        made = client.submit(array, 1, workers=[first])
        moved = client.submit(total, made, workers=[second])
        scattered = client.scatter(array(2), workers=[first])
        spread = client.scatter(array(3), broadcast=True)
        assert moved.result() == BYTES // 8
        assert client.gather(made).sum() == BYTES // 8
        assert client.submit(total, scattered, workers=[second]).result() == 2 * BYTES // 8
        assert client.gather(spread)[-1] == 3
        assert client.run(os.getpid)
        # Six transfers of 16 MB went somewhere else.
        assert 0 < counter.passed < 200_000


def test_a_broadcast_beyond_the_host_reaches_every_worker(tmp_path, monkeypatch):
    # Without local sockets workers are as far as on other hosts.
    monkeypatch.setenv("TASKLOOM_LOCAL_SOCKETS", "0")
    with counted_cluster(tmp_path, 4) as (client, _):
        future = client.scatter(array(5), broadcast=True)
        workers = list(client.scheduler_info()["workers"])
        assert set(client.who_has([future])[future.key]) == set(workers)
        for worker in workers:
            task = client.submit(total, future, workers=[worker], pure=False)
            assert task.result() == 5 * BYTES // 8
