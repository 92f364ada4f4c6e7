"""client.imap: order, back pressure, errors, the end."""

import asyncio
import itertools
import threading

import pytest

from taskloom import Client
from tests import tasks
from tests.support import wait_until


class Counted:
    """An iterator without end that tells how far it was read."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.read += 1
        return self.read - 1


def wait_then_give(flag, number):
    """Waits if there is a flag to wait for."""
    return (tasks.wait_for_file(flag), number)[1] if flag else number


def test_results_come_in_the_order_of_the_items(client):
    results = client.imap(tasks.inc, itertools.count(), window=7)
    assert list(itertools.islice(results, 100)) == list(range(1, 101))
    results.close()


def test_no_more_is_read_than_the_window_allows(client):
    source = Counted()
    results = client.imap(tasks.inc, source, window=5)
    assert source.read == 0
    for number in range(30):
        assert next(results) == number + 1
        assert source.read == number + 5
    results.close()


def test_memory_stays_constant(client):
    results = client.imap(tasks.inc, itertools.count(), window=10)
    for _ in itertools.islice(results, 2000):
        assert len(client.futures) <= 11
    results.close()
    wait_until(lambda: not client.futures, "nothing is left")


def test_unordered_results_come_as_they_are_done(client, tmp_path):
    flag = tmp_path / "go"
    flags = [str(flag), None, None, None]
    results = client.imap(wait_then_give, flags, range(4), window=4, ordered=False)
    first = [next(results) for _ in range(3)]
    assert sorted(first) == [1, 2, 3]
    flag.touch()
    assert list(results) == [0]


def test_several_iterables_end_with_the_shortest(client):
    assert list(client.imap(tasks.add, itertools.count(), [10, 20, 30])) == [10, 21, 32]
    assert list(client.imap(tasks.add, [1, 2], itertools.count(5))) == [6, 8]
    assert list(client.imap(tasks.inc, [])) == []


def test_keywords_go_to_every_call(client):
    assert list(client.imap(tasks.slow_inc, [1, 2], delay=0)) == [2, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error_is_raised_in_its_place_and_the_iteration_can_go_on(client, ordered):
    results = client.imap(tasks.fail_for, range(5), bad=2, window=1, ordered=ordered)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="bad input 2"):
        next(results)
    assert list(results) == [3, 4]


def test_an_error_of_the_source_comes_after_the_results_before_it(client):
    def source():
        yield 1
        yield 2
        raise LookupError("the source broke")

    results = client.imap(tasks.inc, source(), window=10)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(LookupError, match="the source broke"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_runtime_error_of_the_source_is_not_swallowed(client):
    def source():
        yield 1
        raise RuntimeError("the source broke")

    results = client.imap(tasks.inc, source())
    assert next(results) == 2
    with pytest.raises(RuntimeError, match="the source broke"):
        next(results)


def test_closing_cancels_what_is_under_way(client, tmp_path):
    flag = tmp_path / "go"
    with client.imap(wait_then_give, itertools.repeat(str(flag)), itertools.count()) as results:
        thread = threading.Thread(target=lambda: next(results, None), daemon=True)
        thread.start()
        wait_until(lambda: len(client.futures) >= 128, "the window is full")
    wait_until(lambda: not client.futures or set(client.futures.values()) == {"cancelled"}, "gone")
    flag.touch()
    thread.join(20)
    assert not thread.is_alive()
    assert list(results) == []
    assert client.submit(tasks.inc, 1).result(timeout=20) == 2


def test_letting_the_iterator_go_cancels_what_is_under_way(client, tmp_path):
    flag = str(tmp_path / "never")
    results = client.imap(wait_then_give, [None, *[flag] * 20], itertools.count())
    assert next(results) == 0
    del results
    wait_until(lambda: not client.futures, "nothing is left")
    assert client.submit(tasks.inc, 1).result(timeout=20) == 2


def test_options_of_a_view_apply(client, tmp_path):
    paths = [str(tmp_path / name) for name in "abc"]
    results = client.with_options(retries=2).imap(tasks.fail_times, paths, [2, 1, 0])
    assert list(results) == [3, 2, 1]


@pytest.mark.parametrize("ordered", [True, False])
def test_async_iteration(cluster, ordered):
    async def main():
        async with Client(cluster, asynchronous=True, set_as_default=False) as client:
            source = Counted()
            seen = []
            async with client.imap(tasks.inc, source, window=5, ordered=ordered) as results:
                async for result in results:
                    seen.append(result)
                    if len(seen) == 50:
                        break
            assert source.read <= 55
            if ordered:
                assert seen == list(range(1, 51))
            else:
                # Any one call may be the last of the window for as long as it likes.
                assert len(set(seen)) == 50
                assert set(seen) <= set(range(1, source.read + 1))
            results = client.imap(tasks.fail_for, range(2), bad=0, window=1, ordered=ordered)
            with pytest.raises(ValueError, match="bad input 0"):
                await results.__anext__()
            assert [result async for result in results] == [1]

    asyncio.run(main())


def test_async_sources(cluster):
    async def numbers():
        for number in itertools.count():
            await asyncio.sleep(0)
            yield number

    async def main():
        async with Client(cluster, asynchronous=True, set_as_default=False) as client:
            results = client.imap(tasks.add, numbers(), [10, 20, 30], window=2)
            assert [result async for result in results] == [10, 21, 32]
            with pytest.raises(TypeError, match="needs `async for`"):
                next(client.imap(tasks.inc, numbers()))

    asyncio.run(main())


def test_arguments_that_make_no_sense_are_refused(client):
    with pytest.raises(TypeError, match="first input to imap must be a callable"):
        client.imap(3, [1])
    with pytest.raises(TypeError, match="at least one iterable"):
        client.imap(tasks.inc)
    with pytest.raises(TypeError, match="not iterable"):
        client.imap(tasks.inc, 3)
    with pytest.raises(ValueError, match="window= must be at least 1"):
        client.imap(tasks.inc, [1], window=0)
    with pytest.raises(TypeError, match="window= must be an int"):
        client.imap(tasks.inc, [1], window=2.5)
