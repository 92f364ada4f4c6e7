"""A future in a pickle holds its result until somebody reads it."""

import copy
import gc
import multiprocessing
import pickle

import pytest

import taskloom
from taskloom import Client
from tests import tasks
from tests.support import wait_until


class Box:
    """No container that is looked into: what is inside travels as a pickle."""

    def __init__(self, future):
        self.future = future


def open_box(box):
    return box.future.result() + 1


def child(x):
    return taskloom.get_client().submit(tasks.inc, x)


def read(address, pickled, answers):
    with Client(address):
        answers.put(pickle.loads(pickled).result(timeout=20))


def test_a_pickle_holds_the_result_after_its_future_is_gone(client):
    future = client.submit(tasks.inc, 1, key="in-a-pickle")
    pickled = pickle.dumps(future)
    future.result()
    del future
    gc.collect()
    client.submit(tasks.inc, 1, key="barrier").result()
    assert client.who_has()["in-a-pickle"]
    assert pickle.loads(pickled).result(timeout=20) == 2


def test_a_pickle_outlives_the_client_that_made_it(client, cluster):
    with Client(cluster, set_as_default=False) as other:
        pickled = pickle.dumps(other.submit(tasks.slow_inc, 41))
    copy = pickle.loads(pickled)
    assert copy.client is client
    assert copy.result(timeout=20) == 42


def test_another_process_reads_it(client, cluster):
    pickled = pickle.dumps(client.submit(tasks.inc, 5))
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=read, args=(cluster.scheduler_address, pickled, answers))
    process.start()
    assert answers.get(timeout=60) == 6
    process.join(20)


def test_the_same_bytes_may_be_read_several_times(client):
    pickled = pickle.dumps(client.submit(tasks.inc, 6))
    for _ in range(3):
        assert pickle.loads(pickled).result(timeout=20) == 7


def test_a_future_in_an_object_reaches_the_task_as_a_future(client):
    box = Box(client.submit(tasks.inc, 40))
    results = [client.submit(open_box, box, pure=False) for _ in range(3)]
    del box
    gc.collect()
    assert client.gather(results) == [42] * 3


def test_a_task_may_return_a_future(client):
    assert client.submit(child, 100).result().result(timeout=20) == 101
    assert client.gather([f.result() for f in client.map(child, range(3))]) == [1, 2, 3]


def test_copies_are_futures_of_the_same_key(client):
    future = client.submit(tasks.inc, 8)
    for other in (copy.copy(future), copy.deepcopy([future])[0]):
        assert other.key == future.key
        assert other.result(timeout=20) == 9


def test_a_cancelled_future_is_cancelled_for_its_readers(client, cluster, tmp_path):
    future = client.submit(tasks.wait_for_file, str(tmp_path / "go"))
    pickled = pickle.dumps(future)
    future.cancel()
    with Client(cluster, set_as_default=False) as other, other.as_current():
        reader = pickle.loads(pickled)
        assert reader.client is other
        with pytest.raises(taskloom.CancelledError):
            reader.result(timeout=20)
    (tmp_path / "go").touch()


def test_a_released_future_leaves_no_trace_in_its_pickle(client):
    future = client.submit(tasks.inc, 9, key="released-before")
    future.result()
    future.release()
    pickle.dumps(future)
    wait_until(lambda: "released-before" not in client.who_has(), "it is forgotten")


def test_without_a_client_unpickling_is_an_error_that_says_so(cluster):
    with Client(cluster, set_as_default=False) as client:
        pickled = pickle.dumps(client.submit(tasks.inc, 1))
    with pytest.raises(ValueError, match="create a Client first"):
        pickle.loads(pickled)
