"""Graphs are converted to what workers run, and mean the same as when dask runs them."""

from __future__ import annotations

import operator
import random
from collections import namedtuple
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("dask")
import dask
from dask._task_spec import Alias, DataNode, Dict, List, Set, Task, TaskRef, Tuple
from dask.core import flatten
from dask.local import get_sync

from taskloom import _graph, _taskloom

#: A client without options of its own.
NO_VIEW: Any = SimpleNamespace(_given_options={})

Point = namedtuple("Point", ["x", "y"])


def run(graph: Any, keys: Any) -> Any:
    """Runs a graph here, converted as for workers; gives the values in the nesting of `keys`."""
    materialized = _graph._materialize(graph)
    names = list(dict.fromkeys(flatten([keys])))
    values = dict(zip(names, _taskloom.run_graph_locally(materialized.tasks, names), strict=True))
    return _graph._pack(keys, values)


def inc(x: Any) -> Any:
    return x + 1


def collect(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


class Box:
    """Something that has to be pickled."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and other.content == self.content

    def __hash__(self) -> int:
        return hash(self.content)


BASE = {"one": DataNode("one", 1), "two": Task("two", inc, TaskRef("one"))}
NODES = {
    "keywords": Task("z", collect, TaskRef("one"), 5, named=TaskRef("two"), other="two"),
    "list": Task("z", collect, List(TaskRef("one"), 2, List(TaskRef("two")))),
    "tuple": Task("z", collect, Tuple(TaskRef("one"), "one")),
    "set": Task("z", collect, Set(TaskRef("one"), TaskRef("two"), 7)),
    "dict": Task("z", collect, Dict({"a": TaskRef("one"), "b": [1, 2]})),
    "nested task": Task("z", inc, Task(None, inc, Task(None, inc, TaskRef("two")))),
    "alias argument": Task("z", collect, Alias("one")),
    "data argument": Task("z", collect, DataNode(None, ["one", "two"])),
    "raw containers": Task("z", collect, ["one", {"two": (1, 2.5, None, True, b"x")}], {1, 2}),
    "pickled argument": Task("z", collect, Box("one"), Box(3)),
    "function argument": Task("z", map, inc, List(TaskRef("one"), TaskRef("two"))),
    "container as task": List(TaskRef("one"), TaskRef("two")),
    "fused": Task.fuse(
        Task("a", inc, TaskRef("two")), Task("b", inc, TaskRef("a")), Task("z", inc, TaskRef("b"))
    ),
    "fused with a shared step": Task.fuse(
        Task("a", inc, TaskRef("one")),
        Task("b", operator.mul, TaskRef("a"), TaskRef("two")),
        Task("c", operator.add, TaskRef("a"), TaskRef("b")),
        Task("z", operator.sub, TaskRef("c"), TaskRef("a")),
    ),
    "fused of fused": Task.fuse(
        Task.fuse(Task("a", inc, TaskRef("one")), Task("b", inc, TaskRef("a"))),
        Task.fuse(
            Task("c", operator.add, TaskRef("b"), TaskRef("two")), Task("z", inc, TaskRef("c"))
        ),
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_a_node_gives_what_dask_gives(name: str) -> None:
    graph = {**BASE, "z": NODES[name]}
    expected, value = get_sync(graph, "z"), run(graph, "z")
    if name == "function argument":
        expected, value = list(expected), list(value)
    assert value == expected


def test_a_node_nested_deeper_than_the_native_form_runs_too() -> None:
    node: Any = TaskRef("one")
    for _ in range(100):
        node = Task(None, inc, node)
    assert run({**BASE, "z": Task("z", inc, node)}, "z") == 102


def test_a_long_fused_chain_runs() -> None:
    tasks = [Task("c0", inc, 0)]
    tasks += [Task(f"c{i}", inc, TaskRef(f"c{i - 1}")) for i in range(1, 3000)]
    assert run({"z": Task.fuse(*tasks, key="z")}, "z") == 3000


def test_aliases_that_are_wanted_keep_their_values() -> None:
    graph = {**BASE, "a": Alias("a", "two"), "b": Alias("b", "a"), "c": Alias("c", "b")}
    assert run(graph, ["a", "c", "two"]) == [2, 2, 2]
    assert run(graph, "b") == 2


def test_keys_keep_their_types_and_nesting() -> None:
    graph = {1: DataNode(1, "int"), "1": DataNode("1", "str"), ("1", 1): DataNode(("1", 1), "t")}
    assert run(graph, [[1, ["1"]], ("1", 1)]) == [["int", ["str"]], "t"]


TUPLES: dict[str, Any] = {
    "call": (inc, "one"),
    "nested calls": (operator.add, (inc, "one"), (inc, (inc, "two"))),
    "list of keys": (sum, ["one", "two", 5]),
    "lists in lists": (collect, [["one"], ["two", ["one"]]]),
    "plain tuple": (collect, ("one", "two", 3)),
    "tuple key": (collect, ("t", 0), ("t", 9)),
    "integer key": (collect, 17, 18, 17.0),
    "key as literal elsewhere": (collect, b"one", None, True),
    "dict argument": (collect, {"a": "one", "b": 2}),
    "set argument": (collect, {"one", "x"}),
    "frozen set": (collect, frozenset(["two"])),
    "named tuple": (collect, Point("one", "x")),
    "unhashable in a tuple": (collect, ([1], {"a": 2})),
    "node in a tuple": (collect, TaskRef("one"), [Task(None, inc, 4)]),
    "alias": "two",
    "alias in a list": ["one", ["two"]],
    "literal": 5,
    "literal text": "no key",
    "object": Box(1),
}


@pytest.mark.parametrize("name", TUPLES)
def test_a_task_of_tuples_gives_what_dask_gives(name: str) -> None:
    graph = {"one": 1, "two": (inc, "one"), ("t", 0): 10, 17: "seventeen", "z": TUPLES[name]}
    assert run(graph, "z") == get_sync(graph, "z")


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_give_what_dask_gives(seed: int) -> None:
    rng = random.Random(seed)
    keys: list[Hashable] = [f"k{i}" if rng.random() < 0.5 else ("k", i) for i in range(40)]
    graph: dict[Hashable, Any] = {}

    def argument(known: list[Hashable], depth: int = 0) -> Any:
        kind = rng.randrange(6 if depth < 3 else 2)
        if kind == 0 or not known:
            return rng.choice([1, "text", 2.5, None, ("k", 99), b"k1"])
        if kind <= 2:
            return rng.choice(known)
        if kind == 3:
            return [argument(known, depth + 1) for _ in range(3)]
        if kind == 4:
            return ("plain", argument(known, depth + 1))
        return (collect, argument(known, depth + 1), argument(known, depth + 1))

    for number, key in enumerate(keys):
        known = keys[max(0, number - 6) : number]
        graph[key] = (
            rng.choice(known)
            if known and rng.random() < 0.15
            else (collect, argument(known), argument(known))
        )
    wanted = rng.sample(keys, 5)
    shuffled = dict(rng.sample(list(graph.items()), len(graph)))
    assert run(shuffled, wanted) == list(get_sync(graph, wanted))


@pytest.mark.parametrize(
    ("graph", "path"),
    [
        ({"a": (inc, "a")}, "'a' -> 'a'"),
        ({"a": (inc, "b"), "b": (sum, ["a"])}, "'a' -> 'b' -> 'a'"),
        ({"a": (inc, "b"), "b": "c", "c": "b"}, "'b' -> 'c' -> 'b'"),
    ],
)
def test_a_cycle_is_an_error_that_names_its_path(graph: Any, path: str) -> None:
    with pytest.raises(RuntimeError, match=path):
        run(graph, "a")


def test_a_missing_dependency_is_an_error_that_names_both_keys() -> None:
    with pytest.raises(ValueError, match="'a' depends on 'gone'"):
        run({"a": Task("a", inc, TaskRef("gone"))}, "a")
    with pytest.raises(ValueError, match="'gone' is not in the graph"):
        run({"a": 1}, "gone")
    with pytest.raises(ValueError, match="'a' depends on 'a'"):
        run({"a": Alias("a")}, "a")


def test_what_is_not_needed_is_not_looked_at() -> None:
    graph = {"a": 1, "broken": Task("broken", inc, TaskRef("gone"))}
    assert run(graph, "a") == 1


def test_annotations_of_keys_count_more_than_keywords_and_those_more_than_the_context() -> None:
    with dask.annotate(retries=1, priority=3, unknown="ignored"):
        options = _graph._Options(NO_VIEW, None, None, None, 2, 0, None)
    annotations = {"retries": {"a": 5}, "workers": {"a": "w1", "b": ["w1", "w2"]}}
    table, of_key = options.table(annotations, [])
    assert (table[0].retries, table[0].priority, table[0].workers) == (2, 3, ())
    assert (table[of_key["a"]].retries, table[of_key["a"]].workers) == (5, ("w1",))
    assert (table[of_key["b"]].retries, table[of_key["b"]].workers) == (2, ("w1", "w2"))


def test_actors_are_the_wanted_keys_or_those_that_are_named() -> None:
    for actors, expected in [(True, {"a", "b"}), (["b"], {"b"}), (None, set()), (False, set())]:
        options = _graph._Options(NO_VIEW, None, None, None, 0, 0, actors)
        table, of_key = options.table({}, ["a", "b"])
        assert {key for key, position in of_key.items() if table[position].is_actor} == expected


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(TypeError, match="allow_other_workers"):
        _graph._Options(NO_VIEW, None, "yes", None, 0, 0, None)  # type: ignore[arg-type]


def test_an_array_that_repeats_one_block_travels_as_that_block() -> None:
    np = pytest.importorskip("numpy")
    huge = np.broadcast_to(np.arange(3.0), (2**28, 3))
    value = run({"a": Task("a", collect, DataNode(None, huge))}, "a")[0][0]
    assert (value.shape, value.strides) == (huge.shape, huge.strides)
    assert (value[-1] == huge[-1]).all()


def test_too_much_data_in_a_task_is_an_error_that_says_what_to_do() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(ValueError, match="scatter"):
        run({"a": (len, np.zeros(2**28, dtype="u1"))}, "a")
