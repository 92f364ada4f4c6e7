"""Clusters that scale by the work at hand."""

import time

import pytest

import taskloom
from tests.support import wait_until


def wait_for_file(path, i=0):
    from pathlib import Path

    while not Path(path).exists():
        time.sleep(0.01)
    return i


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def cluster(request):
    with taskloom.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=request.param
    ) as cluster:
        yield cluster


def adapt(cluster, **options):
    return cluster.adapt(**{"interval": "20ms", "wait_count": 2, **options})


def workers(cluster):
    return len(cluster._present())


def test_workers_come_with_work_and_go_with_it(cluster, tmp_path):
    gate = tmp_path / "gate"
    adaptive = adapt(cluster, maximum=2, target_duration="100ms")
    with cluster.get_client() as client:
        futures = client.map(wait_for_file, [str(gate)] * 6, range(6), pure=False)
        wait_until(lambda: len(client.nthreads()) == 2, "as many workers as are allowed")
        gate.touch()
        assert client.gather(futures) == list(range(6))
        del futures
        wait_until(lambda: not client.nthreads(), "idle workers leave")
        # and come again
        assert client.submit(abs, -1, pure=False).result() == 1
    statuses = [change["status"] for _, change in adaptive.log]
    assert statuses[0] == "up"
    assert "down" in statuses


def test_a_worker_that_alone_holds_a_result_stays(cluster):
    adapt(cluster, maximum=2)
    with cluster.get_client() as client:
        future = client.submit(bytes, 100_000)
        taskloom.wait([future])
        (holder,) = client.who_has([future])[future.key]
        cluster.adapt(minimum=2, interval="20ms", wait_count=1)
        wait_until(lambda: len(client.nthreads()) == 2, "the minimum is there")
        cluster.adapt(minimum=0, interval="20ms", wait_count=1)
        wait_until(lambda: set(client.nthreads()) == {holder}, "only the holder is left")
        counters = client.counters()
        assert len(future.result()) == 100_000
        assert counters["recomputed"] == 0
        del future
        wait_until(lambda: not client.nthreads(), "the holder leaves when the future is gone")


def test_the_minimum_is_kept_without_work(start):
    client = start(n_workers=1)
    client.cluster.adapt(minimum=2, maximum=3, interval="20ms", wait_count=1)
    wait_until(lambda: len(client.nthreads()) == 2, "the minimum is there")


def test_scaling_by_hand_ends_adapting(cluster):
    adaptive = adapt(cluster, minimum=1, maximum=1)
    wait_until(lambda: workers(cluster) == 1, "the minimum is there")
    cluster.scale(2)
    assert not adaptive.running
    cluster.wait_for_workers(2, timeout=60)
    assert workers(cluster) == 2


def test_adapting_again_replaces_the_first(cluster):
    first = adapt(cluster, maximum=1)
    second = adapt(cluster, minimum=1, maximum=1)
    assert not first.running
    assert second.running
    assert "from 1 to 1" in repr(second)
    cluster.close()
    assert not second.running


def test_joblib_waits_for_the_first_worker_of_an_adaptive_cluster(cluster):
    import joblib

    import taskloom.joblib  # noqa: F401 - registers the backend

    adapt(cluster, maximum=2)
    with cluster.get_client(), joblib.parallel_config("taskloom", wait_for_workers_timeout=60):
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(5)) == [0, 1, 2, 3, 4]


def test_cores_and_memory_are_other_words_for_workers():
    with taskloom.LocalCluster(
        n_workers=0, threads_per_worker=2, memory_limit="1 GB", processes=False
    ) as cluster:
        adaptive = cluster.adapt(minimum_cores=3, maximum_cores=8, maximum_memory="3 GB")
        assert (adaptive.minimum, adaptive.maximum) == (2, 3)
        cluster.scale(cores=3)
        assert len(cluster.workers) == 2
        cluster.scale(1, memory="3 GB")
        assert len(cluster.workers) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": 3, "maximum": 2}, "minimum=3, maximum=2"),
        ({"minimum": -1}, "minimum=-1"),
        ({"interval": 0}, "interval= must be a positive time"),
        ({"target_duration": "0s"}, "target_duration= must be a positive time"),
    ],
)
def test_bounds_that_cannot_be_meant_are_value_errors(options, message):
    with taskloom.LocalCluster(n_workers=0, processes=False) as cluster:
        with pytest.raises(ValueError, match=message):
            cluster.adapt(**options)


def test_an_unknown_option_is_a_type_error():
    with taskloom.LocalCluster(n_workers=0, processes=False) as cluster:
        with pytest.raises(TypeError, match="no_such_option"):
            cluster.adapt(no_such_option=1)


def test_the_log_of_changes_may_be_read_while_it_goes_on():
    with taskloom.LocalCluster(n_workers=0, processes=False) as cluster:
        adaptive = cluster.adapt(interval="1 h")
        adaptive._note("up", n=1)
        changes = iter(adaptive.log)
        adaptive._note("down", workers=["0"])
        assert [change["status"] for _, change in changes] == ["up"]


def test_the_logs_of_a_cluster_are_those_of_its_parts(cluster):
    import logging

    adapt(cluster, minimum=1)
    with cluster.get_client() as client:
        client.wait_for_workers(1, timeout=60)
        client.submit(logging.getLogger("distributed.worker").warning, "words of a task").result()
        (address,) = client.nthreads()
        logs = cluster.get_logs()
        assert set(logs) == {"Cluster", "Scheduler", address}
        assert "'up'" in logs["Cluster"]
        assert "words of a task" in logs[address]
        assert set(cluster.get_logs(cluster=False, scheduler=False, workers=[address])) == {address}
