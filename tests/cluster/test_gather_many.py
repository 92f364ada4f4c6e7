"""Many results at once: short ones come in pieces, and are read while others are on their way."""

import asyncio
import os
import threading

import numpy as np
import pytest

from taskloom import Client, Event, wait
from tests import tasks


def content(i, size=10_000):
    return bytes([i % 256]) * size + i.to_bytes(4, "little")


def numbers(i, length):
    return np.full(length, i)


def wait_for(event, i):
    Event(event).wait()
    return content(i)


class Unreadable:
    """Pickles, and raises where it is read."""

    def __reduce__(self):
        return int, ("not a number",)


def unreadable():
    return Unreadable()


def test_many_short_results_come_in_the_order_of_their_futures(client):
    count = 1_000
    futures = client.map(content, range(count), pure=False)
    assert client.gather(futures) == [content(i) for i in range(count)]
    # Each of them again, and some twice.
    assert client.gather(futures[::-1] + futures[:3]) == [
        content(i) for i in [*range(count)[::-1], 0, 1, 2]
    ]


def test_results_of_all_sizes_come_together(client):
    lengths = [0, 1, 100, 1_300, 2_100, 40_000] * 40
    futures = client.map(numbers, range(len(lengths)), lengths, pure=False)
    for i, (array, length) in enumerate(zip(client.gather(futures), lengths, strict=True)):
        assert array.shape == (length,)
        assert (array == i).all()
        array += 1  # It is the reader's own.
    assert [array[0] for array in client.gather(futures[5::6])] == [*range(5, len(lengths), 6)]


async def test_an_event_loop_gathers_many_short_results(cluster):
    async with Client(cluster, asynchronous=True) as client:
        futures = client.map(content, range(500), pure=False)
        assert await client.gather(futures) == [content(i) for i in range(500)]


def test_a_gather_waits_for_the_last_of_many(client):
    done = client.map(content, range(300), pure=False)
    name = "gather-many-go"
    late = client.submit(wait_for, name, 300)
    gathered = []
    thread = threading.Thread(target=lambda: gathered.extend(client.gather([late, *done])))
    thread.start()
    wait(done)
    Event(name, client=client).set()
    thread.join(60)
    assert gathered == [content(300), *(content(i) for i in range(300))]


async def test_a_gather_that_is_given_up_leaves_the_results_to_the_next(cluster):
    async with Client(cluster, asynchronous=True) as client:
        done = client.map(content, range(300), pure=False)
        name = "gather-many-later"
        late = client.submit(wait_for, name, 300)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.gather([*done, late]), 0.1)
        await Event(name, client=client).set()
        assert await client.gather([*done, late]) == [content(i) for i in range(301)]


def test_a_failure_among_many_results_is_raised_or_left_out(client):
    good = client.map(content, range(400), pure=False)
    bad = client.submit(tasks.fail, "no luck", pure=False)
    with pytest.raises(ValueError, match="no luck"):
        client.gather([*good[:200], bad, *good[200:]])
    assert client.gather([*good[:200], bad, *good[200:]], errors="skip") == [
        content(i) for i in range(400)
    ]


def test_a_value_that_cannot_be_read_is_an_error_and_the_next_gather_works(client):
    good = client.map(content, range(200), pure=False)
    odd = client.submit(unreadable, pure=False)
    with pytest.raises(ValueError, match="not a number"):
        client.gather([*good, odd])
    assert client.gather(good) == [content(i) for i in range(200)]


def test_results_of_a_worker_that_ends_are_made_again(start):
    client = start()
    futures = client.map(content, range(600), pure=False)
    pids = client.run(os.getpid)
    gathered = []
    thread = threading.Thread(target=lambda: gathered.extend(client.gather(futures)))
    thread.start()
    os.kill(next(iter(pids.values())), 9)
    thread.join(100)
    assert gathered == [content(i) for i in range(600)]
