"""Copies of results on several workers."""

import pytest

from taskloom import SchedulerError
from tests import tasks


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not to be pickled")


def large(n):
    return bytes(200_000) + bytes([n])


def test_results_are_replicated_to_all_workers_or_to_as_many_as_asked(start):
    client = start(n_workers=3)
    a, b = client.map(large, [1, 2])
    client.replicate([a], n=2)
    assert len(client.who_has([a])[a.key]) == 2
    client.replicate([a, b])
    assert {len(holders) for holders in client.who_has([a, b]).values()} == {3}
    assert client.submit(len, a).result() == 200_001


def test_small_results_are_replicated_too(client):
    future = client.submit(tasks.inc, 1)
    client.replicate(future)
    assert len(client.who_has([future])[future.key]) == 2
    assert future.result() == 2


def test_what_cannot_be_copied_is_named_and_not_made_again(client):
    future = client.submit(Unpicklable, key="unpicklable")
    with pytest.raises(SchedulerError, match=r"unpicklable.*not to be pickled"):
        client.replicate(future)
    assert len(client.who_has([future])["unpicklable"]) == 1
    with pytest.raises(ValueError, match="n must be"):
        client.replicate(future, n=0)
    with pytest.raises(ValueError, match="futures"):
        client.replicate([])


def test_rebalancing_spreads_results(client):
    first = min(client.scheduler_info()["workers"])
    futures = client.map(large, range(10), workers=[first])
    client.gather(futures)
    client.rebalance(futures)
    holders = [address for (address,) in client.who_has(futures).values()]
    assert holders.count(first) == 5
    assert client.gather(futures)[3][-1] == 3


def test_retiring_a_worker_loses_no_result(start):
    client = start(n_workers=2)
    first, second = sorted(client.scheduler_info()["workers"])
    [data] = client.scatter([large(7)], workers=[first])
    futures = client.map(large, range(5), workers=[first])
    client.gather(futures)
    assert first in client.retire_workers([first])
    assert set(client.scheduler_info()["workers"]) == {second}
    assert set(client.who_has([*futures, data]).values()) == {(second,)}
    assert data.result()[-1] == 7
    assert client.counters()["recomputed"] == 0
