"""Workers that die, come late, or go: the results stay right."""

import os
import signal

import pytest

from taskloom import Client, KilledWorker, LocalCluster, as_completed
from tests import tasks
from tests.support import alive, command, kill_worker, wait_until, worker_pids


def layered(client, width, depth):
    """A graph of `depth` layers in which each task adds two of the layer before."""
    layer = client.map(tasks.slow_inc, range(width), delay=0.005)
    plain = [x + 1 for x in range(width)]
    for _ in range(depth):
        layer = [client.submit(tasks.add, layer[i], layer[i - 1]) for i in range(width)]
        plain = [plain[i] + plain[i - 1] for i in range(width)]
    return layer, plain


def test_a_worker_killed_in_the_middle_of_a_graph_changes_no_result(start):
    client = start()
    layer, plain = layered(client, 60, 5)
    next(iter(as_completed(layer)))
    kill_worker(client, min(worker_pids(client)))
    assert client.gather(layer) == plain
    client.wait_for_workers(2, timeout=30)


def test_results_lost_with_their_worker_are_computed_again(start):
    client = start()
    futures = client.map(tasks.double, range(200))
    client.gather(futures)
    big = [client.submit(bytes, 10_000 + i) for i in range(20)]
    for future in as_completed(big):
        assert future.status == "finished"
    for address in list(worker_pids(client)):
        kill_worker(client, address)
        sizes = client.map(len, big)
        assert client.gather(sizes) == [10_000 + i for i in range(20)]
    assert client.gather(futures) == [2 * x for x in range(200)]
    assert [len(value) for value in client.gather(big)] == [10_000 + i for i in range(20)]


def test_all_workers_killed_at_once_are_replaced_and_the_work_is_done(start):
    client = start()
    layer, plain = layered(client, 30, 4)
    for pid in worker_pids(client).values():
        os.kill(pid, signal.SIGKILL)
    assert client.gather(layer) == plain


def test_a_task_whose_worker_dies_once_runs_again_without_retries(start, tmp_path):
    client = start()
    future = client.submit(tasks.die_once, str(tmp_path / "died"), 42)
    assert future.result(timeout=60) == 42


def test_innocent_tasks_on_a_dying_worker_are_not_blamed(start):
    client = start(n_workers=1)
    fatal = client.submit(tasks.kill_me)
    innocent = client.map(tasks.inc, range(100))
    with pytest.raises(KilledWorker):
        fatal.result(timeout=60)
    assert client.gather(innocent) == list(range(1, 101))


def test_scattered_data_that_is_lost_is_reported_as_lost(start):
    from taskloom import CancelledError

    client = start(n_workers=1)
    (future,) = client.scatter([b"x" * 100_000])
    (pid,) = worker_pids(client).values()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: future.status in ("lost", "cancelled"), "the loss is known")
    with pytest.raises(CancelledError):
        future.result(timeout=20)


def test_a_worker_that_joins_late_takes_part(start, tmp_path):
    client = start(n_workers=1)
    gate = tmp_path / "gate"
    # The only thread is taken until the late worker has shown what it does.
    first = client.submit(tasks.wait_for_file, str(gate), timeout=100)
    futures = client.map(tasks.slow_inc, range(300), delay=0.02)
    with command("worker", client.cluster.scheduler_address, "--no-nanny", "--name", "late"):
        client.wait_for_workers(2, timeout=30)
        late = next(a for a, i in client.scheduler_info()["workers"].items() if i["name"] == "late")
        wait_until(lambda: client.has_what()[late], "the late worker has results")
        gate.touch()
        assert first.result(timeout=30) == str(gate)
        assert client.gather(futures) == list(range(1, 301))


def test_work_waits_for_the_first_worker():
    with LocalCluster(n_workers=0) as cluster, Client(cluster) as client:
        future = client.submit(tasks.inc, 1)
        assert future.status == "pending"
        with command("worker", cluster.scheduler_address, "--no-nanny"):
            assert future.result(timeout=30) == 2


def test_a_client_process_that_vanishes_leaves_nothing_behind(start, tmp_path):
    import subprocess
    import sys

    client = start()
    program = f"""
import os
from taskloom import Client
from tests import tasks
client = Client({client.cluster.scheduler_address!r})
held = client.submit(tasks.inc, 1, key="of-the-vanished")
held.result()
running = client.submit(tasks.wait_for_file, {str(tmp_path / "go")!r}, key="runs-for-the-vanished")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 9
    wait_until(lambda: not client.who_has(), "its keys are forgotten")
    (tmp_path / "go").touch()
    assert client.gather(client.map(tasks.inc, range(10))) == list(range(1, 11))


def test_a_worker_that_is_retired_hands_over_its_results(start):
    client = start()
    futures = [client.submit(bytes, 5000 + i) for i in range(20)]
    client.gather(futures)
    address = min(client.scheduler_info()["workers"])
    client.retire_workers([address], close_workers=True)
    wait_until(lambda: address not in client.scheduler_info()["workers"], "it left")
    assert [len(value) for value in client.gather(futures)] == [5000 + i for i in range(20)]


def test_no_process_outlives_its_cluster():
    cluster = LocalCluster(n_workers=2, threads_per_worker=1)
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=30)
        pids = list(worker_pids(client).values())
    cluster.close()
    wait_until(lambda: not any(alive(pid) for pid in pids), "workers end with their cluster")


def test_no_worker_outlives_a_killed_client_process():
    import subprocess
    import sys

    program = """
import os, signal
from taskloom import Client, LocalCluster
client = Client(LocalCluster(n_workers=2, threads_per_worker=1))
client.wait_for_workers(2)
print(*client.run(os.getpid).values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60)
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids), "workers notice and end")
