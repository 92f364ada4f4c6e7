"""workers=, resources=, locality, explain()."""

import json
import threading
import time

import pytest

from taskloom import Client, get_worker, wait
from tests import tasks
from tests.support import wait_until


def where(*_args):
    return get_worker().address


@pytest.fixture(scope="module")
def gpu_client():
    """Two workers; only the second declares resources."""
    from taskloom import LocalCluster
    from tests.support import command

    with LocalCluster(n_workers=1, threads_per_worker=2) as cluster:
        address = cluster.scheduler_address
        options = ["--name", "gpu", "--nthreads", "4", "--no-nanny", "--resources", "GPU=2,FAST=1"]
        with command("worker", address, *options), Client(cluster) as client:
            client.wait_for_workers(2, timeout=30)
            yield client


def test_tasks_run_on_the_named_workers(client):
    for address, info in client.scheduler_info()["workers"].items():
        by_address = client.map(where, range(10), workers=[address], pure=False)
        assert set(client.gather(by_address)) == {address}
        assert client.submit(where, workers=address, pure=False).result() == address
        by_name = client.submit(where, workers=[info["name"]], pure=False)
        assert by_name.result() == address


def test_a_worker_that_is_not_there_is_waited_for_unless_others_may(client):
    absent = "tcp://127.0.0.1:1"
    waiting = client.submit(tasks.inc, 1, workers=[absent], key="waits-for-absent")
    allowed = client.submit(where, workers=[absent], allow_other_workers=True, pure=False)
    assert allowed.result(timeout=20) in client.scheduler_info()["workers"]
    assert waiting.status == "pending"
    story = client.explain(waiting.key)
    json.dumps(story)
    assert story["key"] == "waits-for-absent"
    assert story["reason"] == "no-worker"
    assert absent in json.dumps(story)
    waiting.cancel()


def test_tasks_run_where_their_large_inputs_lie(client):
    first, second = client.scheduler_info()["workers"]
    for address in (first, second):
        (data,) = client.scatter([b"x" * 5_000_000], workers=[address], hash=False)
        found = [client.submit(where, data, i, pure=False).result() for i in range(5)]
        assert found == [address] * 5


def test_independent_work_uses_all_workers(client, tmp_path):
    client.gather(client.map(tasks.slow_inc, range(4), pure=False))
    directory = str(tmp_path)

    def met_where(x):
        # The first two wait for each other: one worker alone runs one after the other.
        tasks.meet(directory, x, 2)
        return where()

    assert len(set(client.gather(client.map(met_where, range(20))))) == 2


def test_resources_choose_the_worker(gpu_client):
    names = gpu_client.run(lambda: get_worker().name)
    gpu = next(address for address, name in names.items() if name == "gpu")
    futures = gpu_client.map(where, range(20), resources={"GPU": 1}, pure=False)
    assert set(gpu_client.gather(futures)) == {gpu}
    info = gpu_client.scheduler_info()["workers"][gpu]
    assert info["resources"] == {"GPU": 2, "FAST": 1}
    assert info["nthreads"] == 4


def test_a_slot_of_a_resource_is_never_booked_twice(gpu_client, tmp_path):
    """Each task marks its run in a directory and counts who else is there."""
    directory = str(tmp_path)

    def count_together(i):
        import os
        import time

        mark = os.path.join(directory, str(i))
        open(mark, "w").close()
        try:
            time.sleep(0.02)
            return len(os.listdir(directory))
        finally:
            os.unlink(mark)

    futures = gpu_client.map(count_together, range(20), resources={"GPU": 1})
    assert max(gpu_client.gather(futures)) <= 2
    futures = gpu_client.map(count_together, range(20, 30), resources={"GPU": 2})
    assert max(gpu_client.gather(futures)) == 1
    futures = gpu_client.map(count_together, range(30, 40), resources={"GPU": 0.5, "FAST": 1})
    assert max(gpu_client.gather(futures)) == 1


def test_the_slot_of_a_task_that_fails_is_free_again(gpu_client):
    futures = gpu_client.map(tasks.fail, range(10), resources={"GPU": 2}, pure=False)
    for future in futures:
        with pytest.raises(ValueError):
            future.result(timeout=20)
    assert gpu_client.submit(tasks.inc, 1, resources={"GPU": 2}).result(timeout=20) == 2


def test_a_resource_that_nobody_offers_is_waited_for(start):
    from tests.support import command

    client = start(n_workers=1)
    future = client.submit(tasks.inc, 1, resources={"QUANTUM": 1}, key="needs-quantum")
    assert client.submit(tasks.inc, 5).result() == 6
    assert future.status == "pending"
    reason = client.explain("needs-quantum")
    json.dumps(reason)
    assert reason["reason"] == "no-worker"
    assert "QUANTUM" in json.dumps(reason)
    assert "needs-quantum" in client.who_has()
    address = client.cluster.scheduler_address
    with command("worker", address, "--no-nanny", "--resources", "QUANTUM=1"):
        assert future.result(timeout=30) == 2


def test_explain_tells_what_a_task_waits_for(client, tmp_path):
    flag = tmp_path / "go"
    a = client.submit(tasks.wait_for_file, str(flag), key="running-one")
    b = client.submit(tasks.identity, a, key="waiting-one")
    wait_until(lambda: any(client.processing().values()), "it runs")
    waiting = client.explain("waiting-one")
    assert waiting["reason"] in ("waiting-for-dependencies", "sent-ahead")
    assert "running-one" in json.dumps(waiting)
    assert client.explain("running-one")["state"] == "processing"
    flag.touch()
    b.result(timeout=20)
    assert client.explain("waiting-one")["reason"] == "finished"
    assert client.explain("no-such-key")["reason"] == "unknown-key"


def test_annotations_are_honoured_in_graphs(gpu_client):
    dask = pytest.importorskip("dask")
    names = gpu_client.run(lambda: get_worker().name)
    gpu = next(address for address, name in names.items() if name == "gpu")
    plain = next(address for address in names if address != gpu)
    with dask.annotate(resources={"GPU": 1}):
        on_gpu = dask.delayed(where)(1)
    with dask.annotate(workers=[plain]):
        on_plain = dask.delayed(where)(2)
    assert dask.compute(on_gpu, on_plain, optimize_graph=False) == (gpu, plain)


def hold_a_lock():
    return threading.Lock(), 7


def second(pair):
    time.sleep(0.02)
    return pair[1]


def test_what_needs_an_input_that_cannot_be_sent_runs_where_it_is(client):
    """LightGBM passes sockets from task to task, without a word about workers."""
    first, _ = client.scheduler_info()["workers"]
    held = client.submit(hold_a_lock, workers=[first], pure=False)
    wait([held])
    # Another worker is idle all the time.
    results = client.map(lambda _, pair: second(pair), range(20), [held] * 20, pure=False)
    assert client.gather(results) == [7] * 20
    assert {place for places in client.who_has(results).values() for place in places} == {first}


def test_an_input_that_cannot_be_sent_to_the_only_place_is_an_error(client):
    first, other = client.scheduler_info()["workers"]
    held = client.submit(hold_a_lock, workers=[first], pure=False)
    with pytest.raises(TypeError, match="could not serialize"):
        client.submit(second, held, workers=[other], pure=False).result(timeout=20)
