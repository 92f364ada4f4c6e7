"""Tasks made again in the client's process, where a debugger can enter them."""

import asyncio
import operator
import os

import pytest

import taskloom
from taskloom import Client
from tests import tasks


def test_a_task_is_made_again_in_this_process(client):
    assert client.submit(tasks.pid).result() != os.getpid()
    assert client.recreate_task_locally(client.submit(tasks.pid)) == os.getpid()


def test_inputs_are_fetched_also_nested_ones(client):
    a, b = client.map(tasks.inc, [1, 10])
    future = client.submit(tasks.keywords, a, [b, {"k": a}], named=b)
    assert client.recreate_task_locally(future) == ((2, [11, {"k": 2}]), {"named": 11})
    assert client.recreate_task_locally(future.key) == ((2, [11, {"k": 2}]), {"named": 11})


def test_the_task_that_failed_first_is_made_again(client):
    zero = client.submit(operator.sub, 1, 1)
    bad = client.submit(operator.truediv, 1, zero)
    later = client.submit(operator.add, bad, 1)
    del bad
    with pytest.raises(ZeroDivisionError) as caught:
        client.recreate_error_locally([zero, later])
    # Nothing remote about it: the frames are of this process.
    assert not hasattr(caught.value, "__notes__")


def test_tasks_of_graphs_are_made_again(client):
    import dask

    @dask.delayed
    def divide(x, y):
        return x / y

    good, bad = client.compute([divide(4, divide(4, 2)), divide(1, divide(0, 1)) + 1])
    taskloom.wait([good, bad])
    assert client.recreate_task_locally(good) == 2.0
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally(bad)


def test_without_an_error_there_is_none_to_recreate(client):
    with pytest.raises(ValueError, match="none of the futures failed"):
        client.recreate_error_locally(client.submit(tasks.inc, 1))


def test_what_is_no_call_or_not_known_is_named(client):
    with pytest.raises(taskloom.SchedulerError, match="scattered data"):
        client.recreate_task_locally(client.scatter(5))
    with pytest.raises(taskloom.SchedulerError, match="nobody-knows-it"):
        client.recreate_task_locally("nobody-knows-it")


async def test_asynchronous_clients_await_it(cluster):
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    async with Client(cluster, asynchronous=True) as client:
        assert await client.recreate_task_locally(client.submit(tasks.inc, 1)) == 2
        assert await client.recreate_task_locally(client.submit(double, 4)) == 8
        with pytest.raises(ValueError, match="boom"):
            await client.recreate_error_locally(client.submit(tasks.fail))
