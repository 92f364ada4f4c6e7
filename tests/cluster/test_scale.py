"""Large numbers of tasks and futures. The time-outs are bounds against hangs, not measurements."""

import pytest

from taskloom import wait
from tests import tasks


def test_a_chain_of_100_000_tasks_as_a_graph(client):
    n = 100_000
    graph = {"step-0": (tasks.inc, 0)}
    graph |= {f"step-{i}": (tasks.inc, f"step-{i - 1}") for i in range(1, n)}
    assert client.get(graph, f"step-{n - 1}") == n


def test_a_chain_of_20_000_futures(client):
    future = client.submit(tasks.inc, 0)
    for _ in range(20_000 - 1):
        future = client.submit(tasks.inc, future)
    assert future.result(timeout=100) == 20_000


def test_10_000_inputs_into_one_task(client):
    inputs = client.map(tasks.inc, range(10_000))
    assert client.submit(tasks.total, inputs).result(timeout=100) == sum(range(1, 10_001))
    graph = {f"in-{i}": (tasks.inc, i) for i in range(10_000)}
    graph["sum"] = (tasks.total, list(graph))
    assert client.get(graph, "sum") == sum(range(1, 10_001))


def test_10_000_tasks_of_one_input(client):
    source = client.submit(tasks.inc, 0)
    assert sum(client.gather(client.map(tasks.add, [source] * 10_000, range(10_000)))) == sum(
        range(1, 10_001)
    )


@pytest.mark.timeout(300)
def test_a_million_futures_outstanding(client):
    futures = client.map(tasks.inc, range(1_000_000))
    assert len(futures) == 1_000_000
    wait(futures)
    assert futures[0].result() == 1
    assert futures[-1].result() == 1_000_000
    assert client.gather(futures[::1000]) == list(range(1, 1_000_001, 1000))


def test_many_large_results_pass_between_workers(client):
    blocks = [client.submit(bytes, 1_000_000 + i) for i in range(30)]
    pairs = [client.submit(lambda a, b: len(a) + len(b), a, b) for a in blocks for b in blocks[:5]]
    expected = [2_000_000 + i + j for i in range(30) for j in range(5)]
    assert client.gather(pairs) == expected


def test_a_result_of_200_mb_arrives_whole(client):
    value = client.submit(bytes, 200_000_000).result(timeout=100)
    assert len(value) == 200_000_000
    assert not any(value[:1000])
