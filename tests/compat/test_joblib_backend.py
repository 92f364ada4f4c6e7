"""joblib's ``Parallel`` on a cluster, by ``import taskloom.joblib``."""

import gc
import os
import random
import threading
import time

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_backend, parallel_config

import taskloom
import taskloom.joblib
from taskloom.joblib import TaskloomBackend
from tests.support import wait_until


def outer(n, **options):
    """A call that itself calls `Parallel`; gives the process of each inner call, and the kind."""
    parallel = Parallel(**options)
    pids = parallel(delayed(os.getpid)() for _ in range(n))
    return type(parallel._backend).__name__, pids


def recursive(depth):
    if depth == 0:
        return 1
    return sum(Parallel()(delayed(recursive)(depth - 1) for _ in range(2)))


def fail_at(i, bad):
    if i == bad:
        raise ZeroDivisionError(f"item {i}")
    return i


def address_of_worker(_):
    return taskloom.get_worker().address


def random_number():
    return random.random()


class NoWeakReferences:
    __slots__ = ("payload",)

    def __init__(self, payload):
        self.payload = payload


@pytest.fixture(params=[parallel_config, parallel_backend], ids=lambda context: context.__name__)
def context(request):
    return request.param


def test_calls_run_on_the_workers_and_come_back_in_order(client, context):
    with context("taskloom"):
        assert Parallel()(delayed(abs)(-i) for i in range(50)) == list(range(50))
        pids = set(Parallel()(delayed(os.getpid)() for _ in range(20)))
    assert pids <= set(client.run(os.getpid).values())
    assert os.getpid() not in pids


def test_functions_of_the_program_and_closures_are_taken(client):
    offset = 10
    with parallel_config("taskloom"):
        calls = [delayed(lambda x: x + offset)(1), delayed(lambda x, y=0: x - y)(5, y=offset)]
        assert Parallel(batch_size=2)(calls) == [11, -5]


def test_an_error_comes_back_with_its_type_and_the_backend_stays_usable(client):
    with parallel_config("taskloom"):
        with pytest.raises(ZeroDivisionError, match="item 3") as info:
            Parallel()(delayed(fail_at)(i, 3) for i in range(40))
        assert "in fail_at" in str(info.value.__cause__)
        assert Parallel()(delayed(fail_at)(i, 99) for i in range(5)) == list(range(5))
    del info
    # joblib's own frames and objects refer to each other.
    gc.collect()
    wait_until(lambda: not client.who_has(), "nothing is left of the failed call")


def test_equal_impure_calls_are_run_each(client):
    with parallel_config("taskloom"):
        numbers = Parallel()(delayed(random_number)() for _ in range(20))
    assert len(set(numbers)) == 20


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators_give_every_result(client, return_as):
    with parallel_config("taskloom"):
        results = Parallel(return_as=return_as)(delayed(abs)(-i) for i in range(100))
        assert iter(results) is results
        assert sorted(results) == list(range(100))


def test_an_unordered_generator_gives_the_quickest_first(client, tmp_path):
    gate = tmp_path / "gate"

    def wait_for_gate(waits):
        while waits and not gate.exists():
            time.sleep(0.01)
        return waits

    with parallel_config("taskloom"):
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        results = parallel(delayed(wait_for_gate)(i == 0) for i in range(4))
        firsts = [next(results) for _ in range(3)]
        gate.touch()
        assert (firsts, list(results)) == ([False] * 3, [True])


def test_a_generator_that_is_dropped_cancels_the_rest(client, tmp_path):
    def wait_for_ever(i):
        while i and not (tmp_path / "gate").exists():
            time.sleep(0.01)
        return i

    with parallel_config("taskloom"):
        results = Parallel(return_as="generator", batch_size=1)(
            delayed(wait_for_ever)(i) for i in range(20)
        )
        assert next(results) == 0
        with pytest.warns(UserWarning, match="cancelled"):
            results.close()
    (tmp_path / "gate").touch()
    wait_until(lambda: not client.who_has(), "the other tasks are cancelled and forgotten")
    assert not client.futures


def test_parallel_inside_calls_runs_on_the_same_cluster(client):
    pids = set(client.run(os.getpid).values())
    with parallel_config("taskloom"):
        found = Parallel()(delayed(outer)(4) for _ in range(4))
    for name, inner in found:
        assert name == "TaskloomBackend"
        assert set(inner) <= pids


def test_parallel_four_levels_deep_needs_no_more_threads_than_there_are(client):
    with parallel_config("taskloom"):
        assert recursive(4) == 16


def test_threads_that_a_call_asks_for_are_threads_of_the_worker(client):
    with parallel_config("taskloom"):
        found = Parallel()(delayed(outer)(4, require="sharedmem", n_jobs=2) for _ in range(2))
    for name, inner in found:
        assert name == "ThreadingBackend"
        assert len(set(inner)) == 1


def test_a_backend_may_be_a_result(client):
    with parallel_config("taskloom"):
        backend = Parallel()([delayed(lambda: Parallel()._backend)()])[0]
    assert type(backend) is TaskloomBackend
    assert backend.client is client


def test_submit_keywords_hold_for_all_calls(client):
    for address in client.nthreads():
        with parallel_config("taskloom", workers=address):
            assert set(Parallel()(delayed(address_of_worker)(i) for i in range(10))) == {address}


def test_a_resource_that_one_worker_has_keeps_calls_there(start):
    client = start(n_workers=1, resources={"GPU": 1})
    with parallel_config("taskloom", resources={"GPU": 1}):
        # One thread: joblib alone would run the calls in this process.
        pids = set(Parallel()(delayed(os.getpid)() for _ in range(4)))
    assert pids == set(client.run(os.getpid).values())


def test_scattered_objects_are_sent_to_each_worker_once(client):
    class Counted:
        pickles = 0

        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            Counted.pickles += 1
            return int, (self.value,)

    shared = Counted(5)
    with parallel_config("taskloom", scatter=[shared]):
        results = Parallel(batch_size=1)(delayed(max)(shared, i) for i in range(8))
    assert results == [5, 5, 5, 5, 5, 5, 6, 7]
    once = Counted.pickles
    with parallel_config("taskloom"):
        Parallel(batch_size=1)(delayed(max)(shared, i) for i in range(8))
    assert Counted.pickles - once >= 8 > once


def test_large_arguments_are_scattered_once_whatever_their_place(client, tmp_path):
    data = np.ones(100_000)
    gate = tmp_path / "gate"

    def total(data, i, again):
        while i == 9 and not gate.exists():
            time.sleep(0.01)
        return float(data.sum()), again is data

    with parallel_config("taskloom"):
        call = Parallel(return_as="generator", batch_size=1, pre_dispatch="all")
        results = call(delayed(total)(data, i, again=data) for i in range(10))
        firsts = [next(results) for _ in range(9)]
        held = [key for key in client.futures if str(key).startswith("ndarray")]
        gate.touch()
        assert [*firsts, *results] == [(100_000.0, True)] * 10
    assert len(held) == 1
    wait_until(lambda: not client.futures, "the array is let go of after the call")


def test_large_arguments_that_allow_no_weak_reference_travel_with_the_call(client):
    def size(data):
        return len(data.payload)

    with parallel_config("taskloom"):
        values = [NoWeakReferences(b"x" * 50_000) for _ in range(3)]
        assert Parallel()(delayed(size)(value) for value in values) == [50_000] * 3


def test_futures_may_be_arguments(client):
    future = client.submit(abs, -7)
    with parallel_config("taskloom"):
        assert Parallel()([delayed(max)(future, 1), delayed(max)(9, future)]) == [7, 9]


def test_short_calls_are_batched(client):
    with parallel_config("taskloom"), Parallel() as parallel:
        assert parallel._backend.compute_batch_size() == 1
        parallel(delayed(abs)(i) for i in range(5000))
        assert parallel._backend.compute_batch_size() > 10
        assert parallel.n_dispatched_batches < 2500


def wait_for_gate(i, gate):
    while not os.path.exists(gate):
        time.sleep(0.01)
    return i


def test_keys_name_the_function(client, tmp_path):
    gate = tmp_path / "gate"
    with parallel_config("taskloom"):
        call = Parallel(return_as="generator", batch_size=2, pre_dispatch="all")
        results = call(delayed(wait_for_gate)(i, str(gate)) for i in range(4))
        # Batches that are done are let go of.
        keys = [str(key) for key in client.futures]
        gate.touch()
        assert list(results) == [0, 1, 2, 3]
    assert len(keys) == 2
    assert all(key.startswith("batch_of_wait_for_gate_2_calls-") for key in keys)


def test_the_number_of_jobs_is_that_of_the_clusters_threads(client):
    with parallel_config("taskloom"):
        assert joblib.effective_n_jobs() == 2


def test_a_worker_that_dies_in_a_call_is_an_error_and_no_hang(start):
    client = start(scheduler_kwargs={"allowed_failures": 0})

    def die():
        os._exit(1)

    with parallel_config("taskloom"), pytest.raises(taskloom.KilledWorker):
        Parallel()([delayed(die)()])
    assert client.submit(abs, -1).result() == 1


def test_a_client_that_is_closed_during_a_call_is_an_error_and_no_hang(start):
    client = start()
    with parallel_config("taskloom", client=client):
        results = Parallel(return_as="generator")(delayed(time.sleep)(60) for _ in range(2))
        client.close()
        with pytest.raises((taskloom.CancelledError, taskloom.ClosedClientError)):
            list(results)


def test_a_cluster_without_workers_is_waited_for_and_then_an_error():
    with taskloom.LocalCluster(n_workers=0, threads_per_worker=2) as cluster:
        with taskloom.Client(cluster) as client:
            with parallel_config("taskloom", wait_for_workers_timeout=0.1):
                with pytest.raises(TimeoutError, match=r"no worker after 0\.1 seconds"):
                    Parallel()(delayed(abs)(i) for i in range(3))
            with parallel_config("taskloom", wait_for_workers_timeout=0):
                with pytest.raises(RuntimeError, match="no active worker"):
                    Parallel()(delayed(abs)(i) for i in range(3))
            threading.Timer(0.1, cluster.scale, (1,)).start()
            with parallel_config("taskloom", wait_for_workers_timeout=60):
                assert Parallel()(delayed(abs)(i) for i in range(3)) == [0, 1, 2]
            assert client.nthreads()


def test_the_schedulers_address_may_be_given(cluster):
    with parallel_config("taskloom", scheduler_host=cluster.scheduler_address):
        pids = set(Parallel()(delayed(os.getpid)() for _ in range(4)))
    assert os.getpid() not in pids


def test_without_a_client_the_error_says_to_create_one():
    with pytest.raises(ValueError, match="create a taskloom Client"):
        parallel_config("taskloom")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scatter": 1}, "scatter must be a list/tuple, got `int`"),
        ({"wrokers": "a"}, "unknown options .*'wrokers'.*known: .*'workers'"),
        ({"key": "a"}, "unknown options"),
    ],
)
def test_options_that_cannot_be_meant_are_type_errors(client, options, message):
    with pytest.raises(TypeError, match=message):
        parallel_config("taskloom", **options)


def test_a_grid_search_of_scikit_learn_gives_what_one_process_gives(client):
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    x, y = make_classification(n_samples=400, n_features=20, random_state=0)
    grid = {"max_depth": [2, 4], "n_estimators": [5, 10]}

    def search():
        model = RandomForestClassifier(random_state=0)
        return GridSearchCV(model, grid, cv=3).fit(x, y)

    expected = search()
    with parallel_config("taskloom"):
        found = search()
    assert found.best_params_ == expected.best_params_
    assert found.best_score_ == pytest.approx(expected.best_score_)
