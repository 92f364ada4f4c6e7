"""submit, map, gather, and what a Future can do."""

import collections
import concurrent.futures
import operator
import threading
from uuid import uuid4

import pytest

from taskloom import CancelledError, Client, Future, as_completed, wait
from tests import tasks
from tests.support import wait_until

Point = collections.namedtuple("Point", "x y")


def test_a_submitted_call_gives_its_result(client):
    future = client.submit(tasks.add, 1, y=2)
    assert isinstance(future, Future)
    assert future.result() == 3
    assert future.status == "finished"
    assert future.done()


def test_lambdas_closures_and_builtins_are_functions_too(client):
    offset = 10
    assert client.submit(lambda x: x + offset, 1).result() == 11
    assert client.submit(sum, [1, 2]).result() == 3
    assert client.submit(operator.mul, 3, 4).result() == 12
    assert client.submit("a-b".split, "-").result() == ["a", "b"]


def test_all_builtin_kinds_of_values_come_back_as_they_were(client):
    values = [
        None, True, False, 0, -1, 2**62, 2**200, -(2**100), 1.5, float("inf"), 3 + 4j, "", "ä€😀",
        b"", b"\0\xff", bytearray(b"x"), (), (1, (2, [3])), [], [[]], {}, {"a": {1: (2,)}},
        {1, 2}, frozenset({3}), range(3), slice(1, 2), Ellipsis, "x" * 5000, Point(1, 2), int, len,
    ]  # fmt: skip
    found = client.gather([client.submit(tasks.identity, value) for value in values])
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_exact_types_survive_and_subclasses_are_not_flattened(client):
    value = collections.OrderedDict(b=collections.Counter("aab"), a=Point([1], (2,)))
    found = client.submit(tasks.identity, value).result()
    assert found == value
    assert type(found) is collections.OrderedDict
    assert type(found["b"]) is collections.Counter
    assert type(found["a"]) is Point


def test_futures_inside_nested_arguments_are_inputs(client):
    one, two = client.submit(tasks.inc, 0), client.submit(tasks.inc, 1)
    call = client.submit(
        tasks.keywords, [one, (two, {"k": one})], named=Point(one, [two]), plain={"a": 1}
    )
    args, kwargs = call.result()
    assert args == ([1, (2, {"k": 1})],)
    assert kwargs == {"named": Point(1, [2]), "plain": {"a": 1}}
    assert type(kwargs["named"]) is Point


def test_strings_that_look_like_keys_stay_strings(client):
    future = client.submit(tasks.inc, 1, key="a-key")
    assert client.submit(tasks.identity, "a-key").result() == "a-key"
    assert future.result() == 2


def test_a_chain_and_a_fan_give_the_right_numbers(client):
    layer = client.map(tasks.inc, range(50))
    doubled = client.map(tasks.double, layer)
    assert client.submit(tasks.total, doubled).result() == sum(2 * (x + 1) for x in range(50))


def test_map_zips_and_shares_keywords(client):
    futures = client.map(tasks.add, range(5), range(10, 20))
    assert client.gather(futures) == [10, 12, 14, 16, 18]
    futures = client.map(tasks.keywords, [1, 2], named=client.submit(tasks.inc, 6))
    assert client.gather(futures) == [((1,), {"named": 7}), ((2,), {"named": 7})]
    assert client.map(tasks.inc, []) == []


def test_map_takes_prefixes_and_lists_of_keys(client):
    futures = client.map(tasks.inc, range(3), key="my-prefix")
    assert all(future.key.startswith("my-prefix") for future in futures)
    futures = client.map(tasks.inc, range(3), key=["k1", "k2", "k3"])
    assert [future.key for future in futures] == ["k1", "k2", "k3"]
    with pytest.raises(ValueError):
        client.map(tasks.inc, range(3), key=["k1", "k2"])


def test_map_in_batches_gives_single_results(client):
    futures = client.map(tasks.inc, range(100), batch_size=10)
    assert client.gather(futures) == list(range(1, 101))


def test_map_refuses_iterators_without_an_end_to_look_at(client):
    with pytest.raises(TypeError):
        client.map(tasks.inc, iter(range(3)))


def test_gather_keeps_the_nesting(client):
    a, b = client.submit(tasks.inc, 1), client.submit(tasks.inc, 2)
    assert client.gather({"a": a, "rest": [b, (a, b)], "plain": 5}) == {
        "a": 2, "rest": [3, (2, 3)], "plain": 5,
    }  # fmt: skip
    assert client.gather({a, b}) == {2, 3}
    assert client.gather(a) == 2
    assert client.gather([]) == []
    assert client.gather([a] * 1000) == [2] * 1000


def test_gather_skips_what_failed_when_asked(client):
    good, bad = client.submit(tasks.inc, 1), client.submit(tasks.fail)
    assert client.gather([good, bad, good], errors="skip") == [2, 2]
    with pytest.raises(ValueError, match="boom"):
        client.gather([good, bad])
    with pytest.raises(ValueError, match="errors"):
        client.gather([good], errors="neither")


def test_gather_direct_fetches_large_results(client):
    futures = [client.submit(bytes, 2_000_000 + i) for i in range(4)]
    assert [len(v) for v in client.gather(futures, direct=True)] == [
        2_000_000 + i for i in range(4)
    ]


def test_errors_keep_type_text_and_remote_traceback(client):
    future = client.submit(tasks.fail, "exactly this")
    with pytest.raises(ValueError, match="exactly this"):
        future.result()
    assert future.status == "error"
    assert isinstance(future.exception(), ValueError)
    assert future.traceback() is not None
    import traceback

    try:
        future.result()
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    assert "in fail" in text
    assert "tasks.py" in text


def test_dependents_of_a_failed_task_have_its_error(client):
    bad = client.submit(tasks.fail, "first cause")
    chain = client.submit(tasks.inc, client.submit(tasks.add, bad, 1))
    with pytest.raises(ValueError, match="first cause"):
        chain.result()
    later = client.submit(tasks.inc, chain)
    with pytest.raises(ValueError, match="first cause"):
        later.result()


def test_exception_of_a_good_task_is_none(client):
    future = client.submit(tasks.inc, 1)
    assert future.exception() is None
    assert future.traceback() is None


def test_result_raises_timeout_and_the_task_goes_on(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout="50 ms")
    assert future.status == "pending"
    flag.touch()
    assert future.result(timeout=20) == str(flag)


def test_callbacks_run_once_for_every_end(client, tmp_path):
    seen = []
    flag = tmp_path / "go"
    futures = [
        client.submit(tasks.wait_for_file, str(flag)),
        client.submit(tasks.fail),
        client.submit(tasks.inc, 5),
    ]
    for future in futures:
        future.add_done_callback(lambda f: seen.append(f.status))
    flag.touch()
    wait_until(lambda: len(seen) == 3, "three callbacks")
    assert sorted(seen) == ["error", "finished", "finished"]
    futures[2].add_done_callback(lambda f: seen.append("late"))
    wait_until(lambda: "late" in seen, "a callback of a finished future")


def test_the_type_of_a_result_is_known(client):
    future = client.submit(tasks.inc, 1)
    future.result()
    assert future.type is int


def test_futures_are_equal_to_themselves_only_and_weakly_referenceable(client):
    import weakref

    future = client.submit(tasks.inc, 1)
    other = client.submit(tasks.inc, 1)
    assert future.key == other.key
    assert {future, other, future} == {other, future}
    assert weakref.ref(future)() is future
    future.note = "attributes can be set"
    assert future.client is client
    assert future.key in repr(future)


def test_wait_tells_done_from_not_done(client, tmp_path):
    flag = tmp_path / "go"
    fast, blocked = client.submit(tasks.inc, 1), client.submit(tasks.wait_for_file, str(flag))
    result = wait([fast, blocked], return_when="FIRST_COMPLETED", timeout=20)
    assert result.done == {fast}
    assert result.not_done == {blocked}
    with pytest.raises(TimeoutError):
        wait([blocked], timeout=0.05)
    flag.touch()
    done, not_done = wait([fast, blocked], timeout=20)
    assert (done, not_done) == ({fast, blocked}, set())


def test_as_completed_gives_each_future_when_it_ends(client, tmp_path):
    flag = tmp_path / "go"
    blocked = client.submit(tasks.wait_for_file, str(flag))
    fast = client.submit(tasks.inc, 1)
    iterator = as_completed([blocked, fast])
    assert next(iterator) is fast
    assert iterator.count() == 1
    assert not iterator.has_ready()
    flag.touch()
    assert next(iterator) is blocked
    assert iterator.is_empty()
    with pytest.raises(StopIteration):
        next(iterator)


def test_as_completed_takes_more_futures_on_the_way(client):
    iterator = as_completed(client.map(tasks.inc, range(3)), with_results=True)
    seen = []
    for _future, result in iterator:
        seen.append(result)
        if result < 10:
            iterator.add(client.submit(tasks.add, result, 10))
    assert sorted(seen) == [1, 2, 3, 11, 12, 13]
    iterator.update(client.map(tasks.inc, range(2)))
    assert sorted(result for batch in iterator.batches() for _f, result in batch) == [1, 2]


def test_as_completed_counts_duplicates_and_clears(client):
    future = client.submit(tasks.inc, 1)
    assert len(list(as_completed([future, future]))) == 2
    iterator = as_completed([future])
    iterator.clear()
    assert list(iterator) == []


def test_as_completed_raises_errors_or_gives_the_future(client):
    bad = client.submit(tasks.fail)
    with pytest.raises(ValueError, match="boom"):
        list(as_completed([bad], with_results=True))
    ((future, value),) = list(as_completed([bad], with_results=True, raise_errors=False))
    assert future is bad
    assert isinstance(value, (tuple, ValueError))


def test_as_completed_gives_up_after_its_timeout(client, tmp_path):
    flag = tmp_path / "go"
    blocked = client.submit(tasks.wait_for_file, str(flag))
    with pytest.raises(TimeoutError):
        list(as_completed([blocked], timeout=0.05))
    flag.touch()
    blocked.result(timeout=20)


def test_priorities_order_what_waits(client, tmp_path):
    """What waits behind a blocker for the one thread of a worker runs by priority, but for one
    that may lie there already. With two workers the slower one's part would come at any time."""
    flag, log = tmp_path / "go", str(tmp_path / "log")
    address = min(client.nthreads())
    blocker = client.submit(tasks.wait_for_file, str(flag), workers=address)
    # Keys of a kind that was never timed: of those a worker gets one ahead.
    kind = f"line{uuid4().hex}".translate(str.maketrans("0123456789", "ghijklmnop"))

    def append(name, priority):
        key = f"{kind}-{name}"
        options = {"key": key, "priority": priority, "workers": address}
        return client.submit(tasks.append_line, log, name, **options)

    waiting = [append(f"low-{i}", -5) for i in range(20)]
    waiting += [append(f"high-{i}", 5) for i in range(20)]
    # Their order counts where all lie: behind them on the way to scheduler and workers comes this.
    client.run(int)
    flag.touch()
    client.gather([blocker, *waiting])
    kinds = [line.split("-")[0] for line in (tmp_path / "log").read_text().split()]
    assert kinds.count("high") == kinds.count("low") == 20
    assert kinds[:20].count("high") >= 19


def test_many_threads_may_submit_at_once(client):
    def work(start):
        return sum(client.gather([client.submit(tasks.inc, start + i) for i in range(50)]))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        totals = list(pool.map(work, range(0, 800, 100)))
    assert totals == [sum(s + i + 1 for i in range(50)) for s in range(0, 800, 100)]


def test_waiting_threads_are_all_woken(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(future.result(timeout=20)))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    flag.touch()
    for thread in threads:
        thread.join()
    assert results == [str(flag)] * 10


def test_unknown_keywords_belong_to_the_function(client):
    assert client.submit(tasks.keywords, 1, whatever=2).result() == ((1,), {"whatever": 2})


def test_submit_of_what_is_not_callable_is_a_type_error(client):
    with pytest.raises(TypeError):
        client.submit(1, 2)
    with pytest.raises(TypeError):
        client.map(1, [2])


def test_keys_may_be_strings_and_tuples_and_nothing_else(client):
    assert client.submit(tasks.inc, 1, key=("part", 0, "x")).key == ("part", 0, "x")
    assert client.submit(tasks.inc, 1, key="Schlüssel").result() == 2
    with pytest.raises((TypeError, ValueError)):
        client.submit(tasks.inc, 1, key=object())
    with pytest.raises((TypeError, ValueError)):
        client.submit(tasks.inc, 1, key="x" * 1_000_000)


def test_a_future_travels_between_clients_by_pickle(client, cluster):
    import pickle

    future = client.submit(tasks.inc, 41)
    with Client(cluster, set_as_default=False) as other:
        with other.as_current():
            copy = pickle.loads(pickle.dumps(future))
            assert copy.key == future.key
            assert copy.result(timeout=20) == 42


def test_a_released_future_is_refused(client):
    future = client.submit(tasks.inc, 1)
    future.result()
    future.release()
    with pytest.raises((CancelledError, RuntimeError, ValueError)):
        future.result(timeout=20)
