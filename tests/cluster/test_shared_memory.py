"""Large values between processes of one host: mapped, not copied, and gone with their last user."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskloom import Client, LocalCluster
from tests.support import alive, wait_until, worker_pids

numpy = pytest.importorskip("numpy")

LENGTH = 1_000_000


def array(fill):
    return numpy.full(LENGTH, float(fill))


def change(values, fill):
    values[:] = fill
    return values.sum()


def total(values):
    return values.sum()


def segments(pid="self"):
    """Shared memory that a process has mapped: one inode per segment."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "/memfd:taskloom" in line:
            found.add(line.split()[4])
    return found


def is_mapped(values):
    """Whether an array's memory belongs to a segment."""
    address = values.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "/memfd:taskloom" in line
    return False


def test_a_gathered_array_is_mapped_and_may_be_changed(client):
    future = client.submit(array, 1)
    first = client.gather(future)
    assert is_mapped(first)
    assert first.flags.writeable
    assert first.flags.aligned
    first[:] = 7
    assert (client.gather(future) == 1).all()
    assert client.submit(total, future).result() == LENGTH


def wait_for_no_segment():
    """What earlier tests have mapped here goes a moment after them."""
    wait_until(lambda: not segments(), "nothing is mapped")


def test_readers_of_one_result_map_one_segment(client):
    wait_for_no_segment()
    future = client.submit(array, 2)
    results = [client.gather(future) for _ in range(3)]
    assert len(segments()) == 1
    del results
    wait_for_no_segment()


def test_an_input_from_another_worker_is_mapped_and_a_change_stays_there(client):
    source, target = client.scheduler_info()["workers"]
    future = client.submit(array, 3, workers=[source])
    assert client.submit(is_mapped, future, workers=[target]).result()
    assert client.submit(change, future, 5, workers=[target]).result() == 5 * LENGTH
    assert client.submit(total, future, workers=[source]).result() == 3 * LENGTH
    assert (client.gather(future) == 3).all()


def test_scattered_arrays_are_mapped_by_every_worker(client):
    data = array(4)
    future = client.scatter(data, broadcast=True)
    data[:] = 0
    workers = list(client.scheduler_info()["workers"])
    for worker in workers:
        task = client.submit(total, future, workers=[worker], pure=False)
        assert task.result() == 4 * LENGTH
        assert client.submit(is_mapped, future, workers=[worker], pure=False).result()


def test_a_segment_is_used_again_when_nobody_reads_it(client):
    (worker, _) = client.scheduler_info()["workers"]

    def inode(fill):
        future = client.submit(array, fill, workers=[worker], pure=False)
        values = client.gather(future)
        assert (values == fill).all()
        return values, segments()

    wait_for_no_segment()
    kept, _ = inode(1)
    other, both = inode(2)
    assert len(both) == 2, "the first is still read"
    assert (kept == 1).all()
    del kept, other
    # Results go a moment after their futures.
    wait_until(lambda: inode(3)[1] <= both, "an old segment is used")


def test_strange_shapes_and_read_only_buffers_come_back_equal(client):
    values = [
        numpy.asfortranarray(numpy.arange(300_000).reshape(500, 600)),
        numpy.arange(600_000)[::-3],
        [array(1), b"x" * 400_000, {"a": numpy.zeros(100_000, "u1"), "b": "text" * 200_000}],
        bytearray(b"y" * 500_000),
        numpy.zeros((0, 5)),
    ]
    futures = client.map(lambda value: value, values, pure=False)
    for expected, got in zip(values, client.gather(futures), strict=True):
        assert repr(got) == repr(expected)
    frozen = array(1)
    frozen.flags.writeable = False
    got = client.submit(lambda: frozen).result()
    assert (got == 1).all()


def test_a_mapped_result_outlives_its_worker(start):
    client = start(n_workers=1)
    values = client.gather(client.submit(array, 6))
    (pid,) = worker_pids(client).values()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "the worker is dead")
    assert values.sum() == 6 * LENGTH


PROGRAM = """
import sys, time
from taskloom import Client, LocalCluster
from tests.cluster.test_shared_memory import array

if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1)
    client = Client(cluster)
    held = [client.gather(client.submit(array, n)) for n in range(4)]
    scattered = client.scatter(array(9), broadcast=True)
    print(*client.run(lambda: __import__("os").getpid()).values(), flush=True)
    time.sleep(600)
"""


def opened_segments(pid):
    """Segments that a process has as descriptors, mapped or not."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # Either may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            if str(entry.readlink()).startswith("/memfd:taskloom"):
                found.add(str(entry.stat().st_ino))
    return found


def users_of(inodes):
    """Processes of the whole machine that map these segments or have them open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # Others come and go, or are not ours to look into.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if (segments(pid) | opened_segments(pid)) & inodes:
                found.append(int(pid))
    return found


def test_nothing_is_left_when_all_processes_are_killed(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program.stdout as output:
        pids = [program.pid, *map(int, output.readline().split())]
    assert len(pids) == 3
    assert all(segments(pid) for pid in pids)
    inodes = set().union(*(segments(pid) | opened_segments(pid) for pid in pids))
    assert len(inodes) >= 5
    assert set(users_of(inodes)) == set(pids)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    program.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "all are dead")
    # Segments have no names: without a user they are gone.
    wait_until(lambda: not users_of(inodes), "nobody has the segments")


@pytest.mark.parametrize("switch", ["TASKLOOM_SHARED_MEMORY", "TASKLOOM_LOCAL_SOCKETS"])
def test_without_shared_memory_values_travel_as_bytes(switch, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
from taskloom import Client, LocalCluster
from tests.cluster.test_shared_memory import LENGTH, array, change, segments, total

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        source, target = client.scheduler_info()["workers"]
        future = client.submit(array, 2, workers=[source])
        values = client.gather(future)
        assert values.sum() == 2 * LENGTH and values.flags.writeable and values.flags.aligned
        assert client.submit(change, future, 3, workers=[target]).result() == 3 * LENGTH
        scattered = client.scatter(values, broadcast=True)
        assert client.submit(total, scattered).result() == 2 * LENGTH
        assert not segments()
        assert not any(client.run(lambda: len(segments())).values())
        print("done")
"""
    )
    environment = {**os.environ, switch: "0"}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["done"], done.stderr


def test_many_mapped_results_do_not_use_up_open_files():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1)
        futures = client.map(lambda n: numpy.full(40_000, n), range(700), pure=False)
        values = client.gather(futures)
        assert [int(value[-1]) for value in values] == list(range(700))
        assert len(os.listdir("/proc/self/fd")) < 700
