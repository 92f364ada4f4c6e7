"""Memory limits: results go to disk and come back, workers pause, go on and are replaced."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import warnings
from pathlib import Path

import pytest

from taskloom import KilledWorker, LocalCluster, wait
from tests import memory
from tests.support import wait_until, worker_pids

MIB = 1024 * 1024


def worker_info(client) -> dict:
    (info,) = client.scheduler_info()["workers"].values()
    return info


def spilled_bytes(client) -> int:
    infos = client.scheduler_info()["workers"].values()
    return sum(info["metrics"]["spilled_bytes"]["memory"] for info in infos)


def spill_files(directory) -> list[str]:
    return glob.glob(f"{directory}/taskloom-scratch-*/worker-*/*.spill")


def blocks(client, count: int, size: int = 10 * MIB):
    return client.map(memory.block, range(count), size=size, key=f"block-{count}-{size}")


def test_four_times_the_memory_goes_to_disk_and_comes_back_unchanged(start, tmp_path):
    client = start(n_workers=1, memory_limit="160 MiB", local_directory=str(tmp_path))
    pid = worker_pids(client)
    futures = blocks(client, 128, 5 * MIB)
    wait(futures)
    wait_until(lambda: spilled_bytes(client) > 400 * MIB, "workers tell what they have spilled")
    sums = client.gather(client.map(memory.checksum, futures))
    assert sums == [memory.checksum(memory.block(i, 5 * MIB)) for i in range(128)]
    # Clients get them from disk, too.
    assert futures[0].result() == memory.block(0, 5 * MIB)
    assert worker_pids(client) == pid, "the worker was replaced"
    for future in futures:
        future.release()
    wait_until(lambda: not spill_files(tmp_path), "the files go with their results")


def test_what_came_back_from_disk_is_not_written_again(start, tmp_path):
    client = start(n_workers=1, memory_limit="256 MiB", local_directory=str(tmp_path))
    (pid,) = worker_pids(client).values()

    def written() -> int:
        """Bytes that the worker has given to the system to write, to any file."""
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["wchar"])

    arrays = client.map(memory.numbers, range(64), size=8 * MIB)
    wait(arrays)
    for _ in range(2):
        totals = client.gather(client.map(memory.add_one_and_sum, arrays, pure=False))
        assert totals == [(i + 1) * MIB for i in range(64)]
    before = written()
    totals = client.gather(client.map(memory.add_one_and_sum, arrays, pure=False))
    assert totals == [(i + 1) * MIB for i in range(64)]
    assert written() - before < 64 * MIB, "512 MiB went to disk once more"
    assert worker_pids(client) == dict.fromkeys(worker_pids(client), pid)


def test_a_task_with_many_inputs_on_disk_gets_all_of_them(start, tmp_path):
    client = start(n_workers=2, memory_limit="256 MiB", local_directory=str(tmp_path))
    futures = blocks(client, 60)
    calls = [client.submit(memory.checksums, *futures[i : i + 4]) for i in range(0, 60, 4)]
    sums = [sum_ for sums in client.gather(calls) for sum_ in sums]
    assert sums == [memory.checksum(memory.block(i, 10 * MIB)) for i in range(60)]


def test_what_does_not_pickle_stays_and_is_counted(start):
    client = start(n_workers=1, memory_limit="400 MiB")
    kept = client.submit(memory.unpicklable, 50 * MIB)
    futures = blocks(client, 40)
    sums = client.gather(client.map(memory.checksum, futures))
    assert len(set(sums)) == 40
    metrics = worker_info(client)["metrics"]
    wait_until(
        lambda: worker_info(client)["metrics"]["unspillable_bytes"] == 50 * MIB, f"{metrics}"
    )
    assert client.submit(memory.size_of_unpicklable, kept).result() == 50 * MIB


def test_memory_is_told_in_parts(start):
    client = start(n_workers=1, memory_limit="512 MiB")
    futures = blocks(client, 5)
    wait(futures)
    wait_until(
        lambda: worker_info(client)["metrics"]["managed_bytes"] >= 50 * MIB,
        "results are managed memory",
    )
    info = worker_info(client)
    parts = info["memory"]
    assert info["memory_limit"] == 512 * MIB
    assert parts["process"] > parts["managed"] >= 50 * MIB
    assert parts["unmanaged"] == parts["process"] - parts["managed"]
    assert parts["unmanaged"] == parts["unmanaged_old"] + parts["unmanaged_recent"]
    assert parts["spilled"] == 0


def test_a_leak_pauses_the_worker_and_its_process_is_replaced_with_the_cause_named(start):
    # Its end by the supervisor is another test's matter.
    options = {"memory_limit": "256 MiB", "memory_terminate_fraction": False}
    client = start(n_workers=1, **options)
    (before,) = worker_pids(client).values()
    futures = client.map(memory.leak, [10 * MIB] * 40, pure=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(client.gather(futures)) == 40
        client.scheduler_info()
    assert any("not managed by taskloom" in str(warning.message) for warning in caught)
    (after,) = worker_pids(client).values()
    assert after != before
    actions = [event["action"] for _, event in client.get_events("all") if "action" in event]
    assert {"worker-paused", "worker-exhausted"} <= set(actions)


def test_a_task_that_outgrows_its_worker_is_ended_and_the_reason_names_the_limit(start):
    client = start(n_workers=1, memory_limit="256 MiB", scheduler_kwargs={"allowed_failures": 0})
    future = client.submit(memory.block, 1, 2048 * MIB)
    with pytest.raises(KilledWorker, match=r"ran out of memory.*memory_limit") as caught:
        future.result()
    assert "243 MiB" in str(caught.value)
    assert client.submit(sum, [1, 2]).result() == 3


def test_a_paused_workers_queue_runs_elsewhere(start):
    client = start(n_workers=2, memory_limit="500 MiB")
    first, second = client.scheduler_info()["workers"]
    # No result, so that nothing helps it but the call below.
    client.run(memory.leak, 400 * MIB, workers=[first])
    wait_until(lambda: client.scheduler_info()["workers"][first]["status"] == "paused", "it pauses")
    info = client.scheduler_info()["workers"][first]
    assert "occupied" in info["status_reason"]
    futures = client.map(memory.checksum, [b"%d" % i for i in range(50)])
    client.gather(futures)
    bound = client.submit(memory.checksum, b"bound", workers=[first])
    wait_until(lambda: client.explain(bound.key)["reason"] == "waiting-for-memory", "it waits")
    client.run(memory.let_go, workers=[first])
    assert bound.result(timeout=30) == memory.checksum(b"bound")
    assert second in client.scheduler_info()["workers"]


def test_a_limit_of_the_disk_is_kept_and_results_that_are_released_make_room(start, tmp_path):
    client = start(
        n_workers=1, memory_limit="256 MiB", max_spill="100 MiB", local_directory=str(tmp_path)
    )
    futures = blocks(client, 200, 2 * MIB)
    wait_until(lambda: worker_info(client)["status"] == "paused", "it pauses", 60)
    wait_until(lambda: "max-spill" in worker_info(client)["metrics"]["spill_error"], "it says why")
    assert sum(os.path.getsize(path) for path in spill_files(tmp_path)) <= 100 * MIB
    done = [future for future in futures if future.done()]
    assert len(done) < 200
    rest = [future for future in futures if future not in done]
    for future in done:
        future.release()
    del done, futures, future
    wait_until(lambda: worker_info(client)["status"] == "running", "it goes on")
    assert all(len(data) == 2 * MIB for data in client.gather(rest[:5]))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=100m,mode=0777", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root and the permission to mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_a_full_disk_pauses_the_worker_and_loses_nothing(start, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(70 * MIB))
    client = start(n_workers=1, memory_limit="300 MiB", local_directory=str(small_disk))
    futures = blocks(client, 26)
    wait_until(lambda: worker_info(client)["status"] == "paused", "it pauses", 60)
    wait_until(
        lambda: "No space left" in worker_info(client)["metrics"]["spill_error"], "it says why"
    )
    wait_until(
        lambda: "nothing can go to disk" in worker_info(client)["status_reason"],
        "so says its state",
    )
    ballast.unlink()
    sums = client.gather(client.map(memory.checksum, futures), direct=True)
    assert sums == [memory.checksum(memory.block(i, 10 * MIB)) for i in range(26)]


def test_a_damaged_or_missing_file_costs_a_recomputation_and_no_wrong_result(start, tmp_path):
    client = start(n_workers=1, memory_limit="256 MiB", local_directory=str(tmp_path))
    futures = blocks(client, 30)
    wait_until(lambda: len(spill_files(tmp_path)) > 10, "results go to disk", 60)
    first, second, *_ = sorted(spill_files(tmp_path), key=os.path.getmtime)
    with open(first, "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"damage")
    os.unlink(second)
    sums = client.gather(client.map(memory.checksum, futures))
    assert sums == [memory.checksum(memory.block(i, 10 * MIB)) for i in range(30)]


def test_no_file_outlives_a_killed_worker_or_a_closed_cluster(tmp_path):
    with LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit="256 MiB", local_directory=str(tmp_path)
    ) as cluster:
        with cluster.get_client() as client:
            futures = blocks(client, 30)
            wait_until(lambda: len(spill_files(tmp_path)) > 5, "results go to disk", 60)
            (pid,) = worker_pids(client).values()
            old = Path(spill_files(tmp_path)[0]).parent
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not old.exists(), "the dead worker's directory is removed")
            client.gather(client.map(memory.checksum, futures))
            assert spill_files(tmp_path)
    wait_until(lambda: not spill_files(tmp_path), "the closed cluster leaves nothing")


def test_workers_of_this_process_spill_what_exceeds_the_target(tmp_path):
    with (
        LocalCluster(
            n_workers=1, processes=False, memory_limit="100 MiB", local_directory=str(tmp_path)
        ) as cluster,
        cluster.get_client() as client,
    ):
        futures = blocks(client, 20)
        sums = client.gather(client.map(memory.checksum, futures))
        assert len(set(sums)) == 20
        wait_until(lambda: spill_files(tmp_path), "the surplus goes to disk")
    wait_until(lambda: not spill_files(tmp_path), "the files go with their worker")


def test_without_a_limit_nothing_goes_to_disk(start, tmp_path):
    client = start(n_workers=1, memory_limit=0, local_directory=str(tmp_path))
    futures = blocks(client, 30)
    client.gather(client.map(memory.checksum, futures))
    assert worker_info(client)["memory_limit"] == 0
    assert not spill_files(tmp_path)


def test_wrong_limits_are_refused_by_name():
    with pytest.raises(ValueError, match="memory_target_fraction"):
        LocalCluster(n_workers=0, memory_target_fraction=6)
    with pytest.raises(ValueError, match=r"memory\.pause is 0\.5, less than spill"):
        LocalCluster(n_workers=0, memory_pause_fraction=0.5)


def test_an_array_that_repeats_its_elements_counts_for_what_it_occupies(start):
    np = pytest.importorskip("numpy")

    def spread():
        return np.broadcast_to(np.zeros(1), (10**9,))

    client = start(n_workers=1, memory_limit="256 MiB")
    future = client.submit(spread)
    assert client.submit(len, future).result() == 10**9
    assert client.nbytes(summary=False)[future.key] < MIB
