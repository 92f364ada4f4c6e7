"""Clients and clusters begin, end, restart, and say so when used afterwards."""

import asyncio
import os
import subprocess
import sys

import pytest

import taskloom
from taskloom import CancelledError, Client, LocalCluster, default_client
from tests import tasks
from tests.support import wait_until, worker_pids


def test_a_client_without_address_makes_its_own_cluster_and_closes_it():
    client = Client(n_workers=1, threads_per_worker=2)
    address = client.cluster.scheduler_address
    assert client.submit(tasks.inc, 1).result() == 2
    client.close()
    assert client.status == "closed"
    with pytest.raises((OSError, TimeoutError)):
        Client(address, timeout=1, set_as_default=False)


def test_a_closed_client_refuses_use_and_cancels_its_futures(cluster):
    client = Client(cluster, set_as_default=False)
    future = client.submit(tasks.inc, 1)
    future.result()
    client.close()
    client.close()
    with pytest.raises(RuntimeError):
        client.submit(tasks.inc, 1)
    assert future.status == "cancelled"
    with pytest.raises((CancelledError, RuntimeError)):
        future.result(timeout=5)


def test_the_default_client_is_the_newest_that_lives(cluster):
    before = _current()
    with Client(cluster) as first:
        assert default_client() is first
        with Client(cluster) as second:
            assert default_client() is second
            with Client(cluster, set_as_default=False):
                assert default_client() is second
            with first.as_current():
                assert taskloom.get_client() is first
        assert default_client() is first
    assert _current() is before


def _current():
    try:
        return default_client()
    except ValueError:
        return None


def test_without_a_client_there_is_no_default_client():
    program = """
import taskloom
try:
    taskloom.default_client()
except ValueError:
    print("none")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "none\n"


def test_dasks_default_scheduler_is_the_client_while_it_lives(cluster):
    import dask.base

    before = dask.base.get_scheduler()
    with Client(cluster) as client:
        get = dask.base.get_scheduler()
        assert get.__self__ is client
        assert get.__name__ == "get"
    assert dask.base.get_scheduler() == before


def test_a_client_refuses_options_that_only_a_new_cluster_has(cluster):
    with pytest.raises((TypeError, ValueError)):
        Client(cluster.scheduler_address, n_workers=3)
    with pytest.raises(TypeError):
        LocalCluster(n_workers=0, no_such_option=1)


def test_an_address_where_nobody_listens_is_an_os_error():
    with pytest.raises((OSError, TimeoutError)):
        Client("tcp://127.0.0.1:1", timeout=1)
    with pytest.raises(ValueError):
        Client("not an address", timeout=1)


def test_waiting_for_workers_that_never_come_times_out(client):
    with pytest.raises(TimeoutError):
        client.wait_for_workers(50, timeout=0.1)


def test_a_cluster_scales_up_and_down(start):
    client = start(n_workers=1)
    client.cluster.scale(3)
    client.wait_for_workers(3, timeout=30)
    assert len(client.cluster.workers) == 3
    futures = [client.submit(bytes, 5000 + i) for i in range(10)]
    client.gather(futures)
    client.cluster.scale(1)
    wait_until(lambda: len(client.scheduler_info()["workers"]) == 1, "two workers left")
    assert [len(value) for value in client.gather(futures)] == [5000 + i for i in range(10)]


def test_restart_forgets_all_work_and_gives_new_workers(start):
    client = start()
    before = set(worker_pids(client).values())
    future = client.submit(tasks.inc, 1)
    future.result()
    client.restart()
    assert client.who_has() == {}
    assert future.status in ("cancelled", "lost")
    after = worker_pids(client)
    assert len(after) == 2
    assert not before & set(after.values())
    assert client.submit(tasks.inc, 1).result() == 2


def test_shutdown_ends_the_cluster(start):
    client = start(n_workers=1)
    (pid,) = worker_pids(client).values()
    client.shutdown()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker's process ended")
    assert client.status == "closed"


def test_workers_in_the_clients_process_need_no_processes():
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=False) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(2)
            assert set(client.gather(client.map(tasks.pid, range(4)))) == {os.getpid()}
            assert client.gather(client.map(tasks.inc, range(100))) == list(range(1, 101))
            value = object()
            assert client.submit(tasks.add, 1, 2).result() == 3
            with pytest.raises(ValueError, match="boom"):
                client.submit(tasks.fail).result()
            del value


def test_threads_per_worker_run_tasks_at_once(start, tmp_path):
    client = start(n_workers=1, threads_per_worker=3)

    def meet(i):
        import time

        (tmp_path / str(i)).touch()
        deadline = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 3:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    assert client.gather(client.map(meet, range(3))) == [True] * 3


def test_blas_threads_follow_the_executor_threads(client):
    environment = client.run(lambda: os.environ.get("OMP_NUM_THREADS"))
    assert set(environment.values()) == {"1"}


def test_the_memory_limit_is_divided_among_workers(start):
    client = start(n_workers=2, memory_limit="512 MiB")
    limits = [w["memory_limit"] for w in client.scheduler_info()["workers"].values()]
    assert limits == [512 * 2**20] * 2


def test_programs_may_fork_after_the_import():
    program = """
import os, taskloom
pid = os.fork()
if pid == 0:
    client = taskloom.Client(n_workers=1, threads_per_worker=1)
    ok = client.submit(abs, -1).result() == 1
    client.close()
    os._exit(0 if ok else 1)
_, status = os.waitpid(pid, 0)
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_program_that_closes_nothing_still_ends():
    program = """
import taskloom
client = taskloom.Client(n_workers=1, threads_per_worker=1)
print(client.submit(abs, -1).result())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_local_cluster_has_all_its_workers():
    with LocalCluster(n_workers=3, threads_per_worker=1) as cluster:
        assert len(cluster.scheduler_info["workers"]) == 3


def test_an_awaited_local_cluster_has_all_its_workers():
    async def start():
        async with LocalCluster(n_workers=2, threads_per_worker=1, asynchronous=True) as cluster:
            async with Client(cluster, asynchronous=True) as client:
                return await client.run(lambda: 1)

    assert list(asyncio.run(start()).values()) == [1, 1]


def test_a_cluster_whose_workers_cannot_start_says_so():
    from taskloom import cluster as module

    before, module._START_S = module._START_S, 1
    try:
        with pytest.raises(RuntimeError, match="the 1 workers did not all start"):
            LocalCluster(n_workers=1, env={"PYTHONHOME": "/nowhere"})
    finally:
        module._START_S = before
