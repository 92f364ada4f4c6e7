"""Queues, variables, published datasets and metadata."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from taskloom import Client, Future, Queue, Variable, secede
from tests.support import kill_worker, wait_until


def put_all(name: str, values: list[int]) -> None:
    queue = Queue(name)
    for value in values:
        queue.put(value)


def take(name: str, count: int) -> list[int]:
    # The producers need the slots: a wait for a queue keeps them.
    secede()
    queue = Queue(name)
    return [queue.get() for _ in range(count)]


def double(x: int) -> int:
    return 2 * x


def share_a_task(name: str) -> None:
    """Puts the future of a task that it made, and ends."""
    from taskloom import get_client

    Queue(name).put(get_client().submit(double, 4))


def test_values_and_futures_go_through_a_queue(client):
    queue = Queue("q")
    queue.put(1)
    queue.put(client.submit(double, 2))
    queue.put({"nested": [client.submit(double, 3)]})
    assert queue.qsize() == 3
    assert queue.get() == 1
    assert queue.get().result() == 4
    (future,) = queue.get()["nested"]
    assert isinstance(future, Future)
    assert future.result() == 6
    assert future.client is client


def test_producers_and_consumers_lose_and_repeat_nothing(client):
    bounded = Queue("work", maxsize=3)
    consumers = [client.submit(take, "work", 20, pure=False) for _ in range(3)]
    producers = [client.submit(put_all, "work", list(range(30 * i, 30 * i + 30))) for i in range(2)]
    taken = [value for values in client.gather(consumers) for value in values]
    client.gather(producers)
    assert sorted(taken) == list(range(60))
    assert bounded.qsize() == 0


def test_a_full_or_empty_queue_is_waited_for_in_time(client):
    queue = Queue("timed", maxsize=1)
    with pytest.raises(TimeoutError, match="timed"):
        queue.get(timeout="10 ms")
    queue.put(1)
    with pytest.raises(TimeoutError, match="full"):
        queue.put(2, timeout=0.01)
    assert queue.get(timeout=0) == 1


def test_batches(client):
    queue = Queue("batches")
    assert queue.get(batch=True) == []
    for value in range(5):
        queue.put(value)
    assert queue.get(batch=2) == [0, 1]
    assert queue.get(batch=0) == []
    with pytest.raises(TimeoutError):
        queue.get(batch=4, timeout=0.01)
    assert queue.get(batch=True) == [2, 3, 4]
    with pytest.raises(ValueError, match="batch"):
        queue.get(batch=-1)


def test_closing_the_last_object_empties_a_queue(client):
    queue, other = Queue("closing"), Queue("closing")
    queue.put(1)
    queue.close()
    queue.close()
    assert other.qsize() == 1
    other.close()
    assert Queue("closing").qsize() == 0


def test_a_future_in_a_queue_outlives_its_client(cluster):
    with Client(cluster):
        with Client(cluster, set_as_default=False) as maker:
            Queue("outlives", client=maker).put(maker.submit(double, 21))
        assert Queue("outlives").get(timeout=20).result(timeout=20) == 42


def test_a_future_that_a_task_shares_stays_alive(client):
    client.submit(share_a_task, "from-task").result()
    assert Queue("from-task").get(timeout=20).result(timeout=20) == 8


def test_a_shared_future_is_released_with_its_last_holder(client):
    future = client.submit(double, 100, key="held")
    future.result()
    Variable("holder").set([future])
    del future
    wait_until(lambda: client._core.held_keys == 0, "the client holds nothing")
    assert "held" in client.who_has()
    Variable("holder").delete()
    wait_until(lambda: "held" not in client.who_has(), "the result is gone")


def test_a_variable_is_set_read_and_deleted(client):
    variable = Variable("v")
    with pytest.raises(TimeoutError, match="variable v"):
        variable.get(timeout="10 ms")
    variable.set({"plain": (1, 2.5, "text")})
    assert Variable("v").get() == {"plain": (1, 2.5, "text")}
    variable.set(client.submit(double, 5))
    assert variable.get().result() == 10
    variable.delete()
    with pytest.raises(TimeoutError):
        variable.get(timeout=0)


def test_the_error_of_a_shared_future_is_shared_too(client):
    failed = client.submit(int, "no number")
    Variable("failed").set(failed)
    del failed
    with pytest.raises(ValueError, match="no number"):
        Variable("failed").get().result()


class Box:
    def __init__(self, content: object) -> None:
        self.content = content


def test_a_future_inside_an_object_is_kept_as_long_as_the_value(client):
    Variable("boxed").set(Box(client.submit(double, 50, key="boxed")))
    wait_until(lambda: client._core.held_keys == 0, "the client holds nothing")
    assert Variable("boxed").get().content.result(timeout=20) == 100
    Variable("boxed").delete()
    wait_until(lambda: "boxed" not in client.who_has(), "the result is gone")


def test_a_released_future_cannot_be_shared(client):
    future = client.submit(double, 1)
    future.release()
    with pytest.raises(Exception, match="released"):
        Variable("released").set(future)


def test_a_future_that_was_cancelled_by_force_is_lost_for_all(client):
    future = client.submit(double, 77)
    future.result()
    variable = Variable("forced")
    variable.set(future)
    client.cancel(future, force=True)
    del future
    lost = variable.get()
    assert lost.status == "lost"
    with pytest.raises(Exception, match="lost"):
        lost.result()
    # The key is free for new work.
    assert client.submit(double, 77).result(timeout=20) == 154


def test_a_large_value_is_refused_with_advice(client):
    with pytest.raises(ValueError, match="scatter"):
        Variable("large").set(bytes(70 * 1024 * 1024))


CONSUMER = """
import sys, time
from taskloom import Client, Queue
client = Client(sys.argv[1])
print("ready", flush=True)
Queue("jobs").get()
"""


def test_a_consumer_that_dies_while_it_waits_swallows_nothing(client):
    queue = Queue("jobs")
    command = [sys.executable, "-c", CONSUMER, client.scheduler_address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        # It may be waiting or not: what it is given it never takes.
        queue.put("job")
        process.kill()
    assert queue.get(timeout=20) == "job"


def test_a_cancelled_get_swallows_nothing(cluster):
    async def program() -> None:
        async with Client(cluster, asynchronous=True):
            queue = await Queue("cancelled")
            waiting = asyncio.ensure_future(queue.get())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            for value in range(100):
                await queue.put(value)
            taken = []
            while len(taken) < 100:
                getting = asyncio.ensure_future(queue.get())
                done, _ = await asyncio.wait([getting], timeout=0.0003)
                if not done:
                    getting.cancel()
                try:
                    taken.append(await getting)
                except asyncio.CancelledError:
                    continue
            assert taken == list(range(100))

    asyncio.run(program())


def test_an_asynchronous_client_shares(cluster):
    async def program() -> None:
        async with Client(cluster, asynchronous=True) as client:
            queue = Queue("async", maxsize=1)
            await queue.put(client.submit(double, 3))
            assert await (await queue.get()) == 6
            waiting = asyncio.ensure_future(queue.get(timeout="20 s"))
            await queue.put("value")
            assert await waiting == "value"
            with pytest.raises(TimeoutError):
                await queue.get(timeout=0.01)
            variable = Variable("async")
            await variable.set([1, 2])
            assert await variable.get() == [1, 2]
            variable.delete()
            queue.close()
            await client.publish_dataset(numbers=client.submit(double, 4))
            assert "numbers" in await client.list_datasets()
            assert await (await client.get_dataset("numbers")) == 8
            assert await (await client.datasets["numbers"]) == 8
            assert "numbers" in [name async for name in client.datasets]
            with pytest.raises(TypeError, match="asynchronous"):
                client.datasets["x"] = 1
            await client.unpublish_dataset("numbers")
            await client.set_metadata("async", 1)
            assert await client.get_metadata("async") == 1

    asyncio.run(program())


def test_datasets_outlive_their_client(cluster):
    with Client(cluster) as client:
        client.publish_dataset(result=client.submit(double, 8), plain=[1, 2])
        client.publish_dataset(client.submit(double, 9), name=("tuple", 1))
        with pytest.raises(KeyError, match="already exists"):
            client.publish_dataset(plain=3)
    with Client(cluster) as client:
        assert client.list_datasets() == [("tuple", 1), "plain", "result"]
        assert client.get_dataset("result").result() == 16
        assert client.get_dataset(["plain", "never"], default=None) == [[1, 2], None]
        with pytest.raises(KeyError, match="never"):
            client.get_dataset("never")
        client.publish_dataset({"plain": 3}, override=True)
        assert client.datasets["plain"] == 3
        client.datasets["more"] = 4
        assert len(client.datasets) == 4
        assert "more" in client.datasets
        del client.datasets["more"]
        client.unpublish_dataset(["plain", "result", ("tuple", 1)])
        assert list(client.datasets) == []


def test_a_persisted_collection_is_published_and_computed_by_another_client(cluster):
    import dask

    with Client(cluster) as client:
        parts = [dask.delayed(double)(i) for i in range(3)]
        total = dask.delayed(sum)(parts)
        client.publish_dataset(total=client.persist(total))
        key = total.key
    with Client(cluster) as client:
        assert client.get_dataset("total").compute() == 6
        client.unpublish_dataset("total")
        wait_until(lambda: key not in client.who_has(), "the result is gone")


def test_a_dataset_is_published_by_a_name_and_data(client):
    with pytest.raises(ValueError, match="what to publish"):
        client.publish_dataset(name="x")
    with pytest.raises(ValueError, match="one dict"):
        client.publish_dataset(1)
    client.publish_dataset(1, 2, name="both")
    assert client.get_dataset("both") == (1, 2)
    client.unpublish_dataset("both")


def test_metadata_are_kept_by_path(client):
    client.set_metadata(["a", "b"], {"c": [1, 2, {"d": None}]})
    assert client.get_metadata("a") == {"b": {"c": [1, 2, {"d": None}]}}
    assert client.get_metadata(["a", "b", "c", 2]) == {"d": None}
    assert client.get_metadata(["a", "x"], default=7) == 7
    with pytest.raises(KeyError):
        client.get_metadata("never")
    with pytest.raises(TypeError, match="plain data"):
        client.set_metadata("a", object())
    client.set_metadata("a", 1)
    assert client.get_metadata("a") == 1


def test_the_lost_result_of_a_shared_future_is_computed_again(start):
    client = start(n_workers=2)
    Variable("again").set(client.submit(bytes, 100_000, key="again"))
    assert len(Variable("again").get().result(timeout=20)) == 100_000
    (holder,) = client.who_has()["again"]
    kill_worker(client, holder)
    wait_until(
        lambda: client.who_has().get("again", (holder,)) != (holder,), "it was computed elsewhere"
    )
    assert len(Variable("again").get().result(timeout=20)) == 100_000
