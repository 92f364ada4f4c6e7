"""Objects arrive as they were sent: arguments, results, functions and what they refer to."""

import collections
import datetime
import decimal
import enum
import functools
import math
import pickle
import threading

import numpy as np
import pytest

from tests import tasks

Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Text(str):
    """A subclass of a type that has an encoding of its own."""


VALUES = [
    None,
    True,
    0,
    -(2**63),
    2**63,
    -(10**5000),
    0.0,
    -0.0,
    float("inf"),
    "",
    "ünïcödé \N{SNOWMAN}",
    "lone surrogate \ud800",
    b"",
    b"\x00\xff",
    (),
    (1, ("a", (None,))),
    [],
    [[[]]],
    {},
    {"a": {1: [2.5, b"x"]}, (1, 2): None},
    set(),
    {1, "a", (2,)},
    frozenset({1, frozenset()}),
    Point(1, [2]),
    Text("abc"),
    Colour.RED,
    complex(1, -2),
    range(5),
    slice(1, None, 2),
    decimal.Decimal("1.10"),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    collections.OrderedDict(b=1, a=2),
    collections.deque([1, 2], maxlen=5),
    bytearray(b"abc"),
    b"x" * 3_000_000,
    "y" * 2_000_000,
    list(range(10_000)),
    {i: str(i) for i in range(1_000)},
    [None] * 100_000,
]


def same(left, right):
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(client, value):
    assert same(client.submit(tasks.identity, value, pure=False).result(timeout=20), value)
    scattered = client.scatter(value, hash=False) if type(value) not in CONTAINERS else None
    if scattered is not None:
        assert same(scattered.result(timeout=20), value)


CONTAINERS = (list, tuple, set, frozenset, dict, range, Point)


def test_nan_and_signed_zero_survive(client):
    assert math.isnan(client.submit(tasks.identity, float("nan")).result())
    assert math.copysign(1, client.submit(tasks.identity, -0.0).result()) == -1


def test_one_object_in_two_places_of_an_argument_stays_one(client):
    shared = [1, 2]
    assert client.submit(lambda pair: pair[0] is pair[1], [shared, shared]).result(timeout=20)


def test_a_container_that_holds_itself_arrives(client):
    loop = [1]
    loop.append(loop)
    assert client.submit(lambda value: value[1] is value, loop).result(timeout=20)


def test_deep_nesting_arrives(client):
    value = []
    for _ in range(200):
        value = [value]
    assert client.submit(tasks.identity, value).result(timeout=20) == value


def test_futures_are_found_in_every_container(client):
    f = client.submit(tasks.inc, 1)
    nested = {"list": [f], "tuple": (f, (f,)), "set": {f}, "point": Point(f, 3), f: "as a key"}
    found = client.submit(tasks.identity, nested, pure=False).result(timeout=20)
    expected = {"list": [2], "tuple": (2, (2,)), "set": {2}, "point": Point(2, 3), 2: "as a key"}
    assert found == expected
    assert type(found["point"]).__name__ == "Point"


@pytest.mark.parametrize("dtype", ["f8", "i4", "M8[ns]", "U5", "?"])
def test_arrays_come_back_equal(client, dtype):
    array = np.zeros((300, 40), dtype)
    result = client.submit(tasks.identity, array, pure=False).result(timeout=20)
    assert result.dtype == array.dtype
    assert np.array_equal(result, array)


def test_a_result_that_was_writable_is_writable(client):
    result = client.submit(np.arange, 1_000_000, pure=False).result(timeout=20)
    result[0] = 7
    assert result[:2].tolist() == [7, 1]


def test_two_gathers_of_one_result_do_not_share_memory(client):
    future = client.submit(np.arange, 1_000_000, pure=False)
    first = future.result(timeout=20)
    first[0] = 7
    assert future.result(timeout=20)[0] == 0


def test_arrays_that_are_not_contiguous_arrive(client):
    array = np.arange(1_000_000).reshape(1000, 1000)[::2, ::3]
    assert np.array_equal(client.submit(tasks.identity, array).result(timeout=20), array)


# Functions -----------------------------------------------------------------------------------


def test_a_closure_is_sent_as_it_is_now(client):
    seen = [1]

    def read():
        return list(seen)

    assert client.submit(read, pure=False).result(timeout=20) == [1]
    seen.append(2)
    assert client.submit(read, pure=False).result(timeout=20) == [1, 2]


def test_a_rebound_variable_of_a_closure_is_noticed(client):
    number = 1

    def read():
        return number

    assert client.submit(read, pure=False).result(timeout=20) == 1
    number = 2
    assert client.submit(read, pure=False).result(timeout=20) == 2


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(tasks.add, 1),
        lambda y: 1 + y,
        (1).__add__,
        np.array(1).__add__,
        functools.partial(np.add, 1),
    ],
    ids=["partial", "lambda", "bound", "array", "ufunc"],
)
def test_all_kinds_of_callables_are_functions(client, function):
    assert client.submit(function, 2, pure=False).result(timeout=20) == 3


def test_classes_and_methods_are_functions(client):
    assert client.submit(Point, 1, y=2).result(timeout=20) == Point(1, 2)
    assert client.submit("abc".upper).result(timeout=20) == "ABC"
    assert client.submit(str.upper, "abc").result(timeout=20) == "ABC"


def test_equal_calls_have_equal_keys_and_other_calls_others(client):
    def key(function, *args, **kwargs):
        return client.submit(function, *args, **kwargs).key

    assert key(tasks.add, 1, 2) == key(tasks.add, 1, 2)
    assert key(tasks.add, 1, 2) != key(tasks.add, 2, 1)
    assert key(tasks.add, 1, 2) != key(tasks.add, 1, y=2)
    assert key(tasks.add, 1, 2.0) != key(tasks.add, 1, 2)
    assert key(tasks.identity, [1]) != key(tasks.identity, (1,))
    assert key(tasks.inc, 1) != key(tasks.dec, 1)
    array = np.arange(10)
    assert key(tasks.identity, array) == key(tasks.identity, array.copy())
    assert key(tasks.inc, 1, pure=False) != key(tasks.inc, 1, pure=False)


# Exceptions ----------------------------------------------------------------------------------


class NeedsTwo(Exception):
    """Its class does not take its own ``args``."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.second = second


def raise_needs_two():
    raise NeedsTwo("one", 2)


def test_an_exception_whose_constructor_is_odd_keeps_type_and_attributes(client):
    with pytest.raises(NeedsTwo, match="one and 2") as info:
        client.submit(raise_needs_two, pure=False).result(timeout=20)
    assert info.value.second == 2


def test_the_remote_frames_are_in_the_traceback(client):
    with pytest.raises(NeedsTwo) as info:
        client.submit(raise_needs_two, pure=False).result(timeout=20)
    assert "raise_needs_two" in [entry.name for entry in info.traceback]


def test_a_future_is_pickled_by_its_key(client):
    future = client.submit(tasks.inc, 41)
    copy = pickle.loads(pickle.dumps(future))
    assert copy.key == future.key
    del future
    assert copy.result(timeout=20) == 42


# Workers of this process ---------------------------------------------------------------------


def test_workers_of_this_process_hand_results_over_as_they_are(start):
    client = start(processes=False, n_workers=1, threads_per_worker=2)
    future = client.submit(threading.Lock, pure=False)
    assert future.result(timeout=20) is future.result(timeout=20)
    array = client.submit(np.arange, 1_000_000, pure=False)
    assert client.gather([array, array])[0] is array.result(timeout=20)


def test_an_unpicklable_result_of_another_process_is_an_error(client):
    with pytest.raises(TypeError, match="lock"):
        client.submit(threading.Lock, pure=False).result(timeout=20)
