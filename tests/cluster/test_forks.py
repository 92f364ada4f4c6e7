"""Tasks that fork, and what becomes of the children."""

import multiprocessing
import os

import pytest

from tests import tasks
from tests.support import wait_until, worker_pids


def counted_by_processes(n):
    """Forks processes that work for the task."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(tasks.inc, range(n))


def fork_and_come_back(path):
    """The parent and the child both return; each says who it is."""
    child = os.fork()
    tasks.append_line(path, str(os.getpid()))
    return child


def test_a_task_may_have_processes_of_its_own(client):
    calls = [client.submit(counted_by_processes, n) for n in range(10, 14)]
    assert client.gather(calls) == [[i + 1 for i in range(n)] for n in range(10, 14)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_comes_back_from_its_task_is_ended_and_its_parent_goes_on(client, tmp_path):
    before = worker_pids(client)
    address = min(before)
    log = tmp_path / "log"
    child = client.submit(fork_and_come_back, str(log), workers=[address]).result(timeout=20)
    wait_until(lambda: len(log.read_text().split()) == 2, "both have come back")
    assert set(log.read_text().split()) == {str(before[address]), str(child)}

    def has_ended(pid):
        # A child that nobody waited for stays as a zombie.
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return True

    wait_until(
        lambda: client.submit(has_ended, child, pure=False, workers=[address]).result(timeout=20),
        "the child has ended",
    )
    assert client.gather(client.map(tasks.inc, range(20))) == list(range(1, 21))
    assert worker_pids(client) == before
