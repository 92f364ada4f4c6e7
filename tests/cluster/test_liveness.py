"""Liveness does not hang on Python: the GIL may be held, and the worker is still there."""

from tests import tasks
from tests.support import wait_until


def test_a_task_that_holds_the_gil_does_not_cost_its_worker(start):
    client = start(n_workers=1)
    (address,) = client.scheduler_info()["workers"]
    future = client.submit(tasks.hold_gil, 6)
    assert future.result(timeout=100) >= 6
    assert list(client.scheduler_info()["workers"]) == [address]


def test_results_are_served_while_the_gil_is_held(start):
    """What was serialized before is sent by a thread that needs no GIL."""
    client = start(n_workers=2)
    first, second = client.scheduler_info()["workers"]
    (data,) = client.scatter([b"x" * 1_000_000], workers=[first])
    client.submit(len, data, workers=[second]).result()
    holding = client.submit(tasks.hold_gil, 3, workers=[first], pure=False)
    wait_until(lambda: any(client.processing().values()), "it runs")
    assert len(client.gather(data, direct=True)) == 1_000_000
    assert client.submit(tasks.inc, 1, workers=[second]).result(timeout=20) == 2
    holding.result(timeout=60)


def test_a_busy_python_thread_in_the_client_delays_no_answer(client):
    import threading

    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        for i in range(100):
            assert client.submit(tasks.inc, i).result(timeout=20) == i + 1
    finally:
        stop.set()
        thread.join()
