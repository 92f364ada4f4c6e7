"""What tasks can do: know their worker, submit tasks, wait, leave and re-enter their slot."""

import threading

import pytest

from taskloom import (
    Client,
    get_client,
    get_worker,
    rejoin,
    secede,
    worker_client,
)
from tests import tasks
from tests.support import wait_until


def test_a_task_knows_its_worker(client):
    info = client.submit(lambda: (get_worker().address, get_worker().name), pure=False).result()
    workers = client.scheduler_info()["workers"]
    assert info[0] in workers
    assert workers[info[0]]["name"] == info[1]


def test_outside_a_task_there_is_no_worker():
    with pytest.raises(ValueError, match="worker"):
        get_worker()


def test_outside_a_task_get_client_gives_the_default_client(client):
    assert get_client() is client


def test_the_keys_of_running_tasks_are_known_to_them(client):
    def key():
        return get_worker().get_current_task()

    future = client.submit(key, key="my-own-key")
    assert future.result() == "my-own-key"


def test_tasks_submit_tasks_and_wait_for_them_on_one_thread(start):
    """A blocking wait frees the slot by itself: one thread is enough for any depth."""
    client = start(n_workers=1, threads_per_worker=1)
    assert client.submit(tasks.fib_tasks, 7).result(timeout=60) == 13


def test_a_task_may_gather_wait_and_iterate_on_one_thread(start):
    client = start(n_workers=1, threads_per_worker=1)

    def all_ways():
        from taskloom import as_completed, wait

        inner = get_client()
        futures = inner.map(tasks.inc, range(5))
        gathered = inner.gather(futures)
        wait(inner.map(tasks.double, range(5)))
        completed = sorted(
            r for _, r in as_completed(inner.map(tasks.dec, range(5)), with_results=True)
        )
        return gathered, completed

    assert client.submit(all_ways).result(timeout=60) == ([1, 2, 3, 4, 5], [-1, 0, 1, 2, 3])


def test_a_task_may_compute_a_graph(start):
    client = start(n_workers=1, threads_per_worker=1)

    def inner():
        import dask

        return dask.delayed(tasks.add)(1, dask.delayed(tasks.inc)(1)).compute()

    assert client.submit(inner).result(timeout=60) == 3


def test_worker_client_secedes_and_comes_back(start):
    client = start(n_workers=1, threads_per_worker=1)

    def with_worker_client(n):
        with worker_client() as inner:
            return sum(inner.gather(inner.map(tasks.inc, range(n))))

    assert client.submit(with_worker_client, 10).result(timeout=60) == 55


def test_a_seceded_task_lets_others_run(start, tmp_path):
    client = start(n_workers=1, threads_per_worker=1)
    flag = str(tmp_path / "go")

    def leave_and_wait():
        secede()
        tasks.wait_for_file(flag)
        rejoin()
        return "back"

    left = client.submit(leave_and_wait)
    assert client.gather(client.map(tasks.inc, range(20))) == list(range(1, 21))
    assert left.status == "pending"
    (tmp_path / "go").touch()
    assert left.result(timeout=20) == "back"


def test_blocked_tasks_do_not_pile_up_threads(start):
    client = start(n_workers=1, threads_per_worker=1)

    def nested(depth):
        if not depth:
            return threading.active_count()
        return get_client().submit(nested, depth - 1).result()

    client.submit(nested, 30).result(timeout=60)

    def threads():
        return sum("executor" in t.name.lower() for t in threading.enumerate())

    wait_until(
        lambda: client.submit(threads, pure=False).result() <= 3, "surplus threads have retired"
    )


def test_context_variables_do_not_leak_between_tasks(client):
    found = client.gather(client.map(tasks.read_and_set_variable, range(20), pure=False))
    assert set(found) == {"unset"}


def test_thread_locals_live_as_long_as_their_thread(client):
    def where():
        return threading.current_thread().name

    names = set(client.gather(client.map(lambda _: where(), range(50), pure=False)))
    assert 1 <= len(names) <= 2


def test_coroutine_functions_run_as_tasks(client):
    assert client.submit(tasks.async_inc, 1).result() == 2
    futures = client.map(tasks.async_inc, range(100), delay=0.05)
    assert client.gather(futures) == list(range(1, 101))
    with pytest.raises(KeyError, match="async boom"):
        client.submit(tasks.async_fail).result()


def test_a_coroutine_may_use_its_worker_and_client(client):
    async def inner():
        here = get_worker().address
        with_client = get_client()
        return here, await with_client.submit(tasks.inc, 1)

    address, value = client.submit(inner).result(timeout=20)
    assert address in client.scheduler_info()["workers"]
    assert value == 2


def test_futures_given_to_tasks_inside_objects_bind_to_their_client(client):
    class Box:
        def __init__(self, future):
            self.future = future

    def open_box(box):
        return box.future.result()

    future = client.submit(tasks.inc, 1)
    future.result()
    assert client.submit(open_box, Box(future)).result(timeout=20) == 2


def test_a_task_may_return_a_future(client):
    def make():
        return get_client().submit(tasks.inc, 10)

    future = client.submit(make, pure=False).result(timeout=20)
    assert future.result(timeout=20) == 11


def test_same_worker_dependents_get_the_same_object(start):
    client = start(n_workers=1)
    value = client.submit(object, pure=False)
    first = client.submit(id, value)
    second = client.submit(id, value, key="id-again")
    assert first.result() == second.result()


def test_run_calls_a_function_on_every_worker(client):
    found = client.run(lambda dask_worker: dask_worker.address)
    assert found == {address: address for address in client.scheduler_info()["workers"]}
    (one,) = client.run(tasks.inc, 1, workers=[next(iter(found))]).values()
    assert one == 2
    with pytest.raises(ValueError, match="boom"):
        client.run(tasks.fail)
    returned = client.run(tasks.fail, on_error="return")
    assert all(isinstance(error, ValueError) for error in returned.values())
    assert client.run(tasks.fail, on_error="ignore") == {}
    assert set(client.run(tasks.async_inc, 1).values()) == {2}


def test_run_works_while_all_threads_are_busy(client, tmp_path):
    flag = tmp_path / "go"
    futures = [client.submit(tasks.wait_for_file, str(flag), pure=False) for _ in range(4)]
    assert len(client.run(tasks.pid)) == 2
    flag.touch()
    client.gather(futures)


def test_several_clients_of_several_clusters_live_in_one_process(client):
    with Client(n_workers=1, threads_per_worker=1, set_as_default=False) as other:
        mine, theirs = client.submit(tasks.inc, 1), other.submit(tasks.inc, 2)
        assert (mine.result(), theirs.result()) == (2, 3)
        with pytest.raises((ValueError, RuntimeError, TypeError)):
            client.submit(tasks.inc, theirs).result(timeout=20)
