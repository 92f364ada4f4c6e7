"""The native order holds about as few results alive as dask's own order."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pytest

da = pytest.importorskip("dask.array")
import dask  # noqa: E402
from dask._expr import FinalizeCompute  # noqa: E402
from dask._task_spec import convert_legacy_graph  # noqa: E402
from dask.base import collections_to_expr  # noqa: E402
from dask.order import order as dask_order  # noqa: E402

from taskloom import _graph  # noqa: E402

Graph = Mapping[Hashable, Any]


def live_results(graph: Graph, position: Mapping[Hashable, int]) -> tuple[int, float]:
    """The largest and the average number of results alive; unused ones live on."""
    inputs = {key: [k for k in node.dependencies if k in graph] for key, node in graph.items()}
    users = dict.fromkeys(graph, 0)
    for needed in inputs.values():
        for key in needed:
            users[key] += 1
    live = peak = total = 0
    for key in sorted(graph, key=position.__getitem__):
        live += 1
        peak = max(peak, live)
        total += live
        for needed_key in inputs[key]:
            users[needed_key] -= 1
            live -= users[needed_key] == 0
    return peak, total / len(graph)


def collection_graph(*collections: Any, optimize: bool = True) -> Graph:
    expr = FinalizeCompute(collections_to_expr(collections, optimize)).optimize()
    return convert_legacy_graph(dict(expr.__dask_graph__()))


def tree(leaves: int = 1024) -> Graph:
    graph: dict[Hashable, Any] = {("t", 0, i): (abs, i) for i in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        level, width = level + 1, width // 2
        for i in range(width):
            graph["t", level, i] = (
                operator.add,
                ("t", level - 1, 2 * i),
                ("t", level - 1, 2 * i + 1),
            )
    return convert_legacy_graph(graph)


def layered(width: int = 40, depth: int = 40) -> Graph:
    rng = random.Random(7)
    graph: dict[Hashable, Any] = {("x", 0, i): (abs, i) for i in range(width)}
    for level in range(1, depth):
        for i in range(width):
            inputs = [("x", level - 1, rng.randrange(width)) for _ in range(3)]
            graph["x", level, i] = (sum, inputs)
    return convert_legacy_graph(graph)


def stencil(width: int = 40, steps: int = 40) -> Graph:
    graph: dict[Hashable, Any] = {("s", 0, i): (abs, i) for i in range(width)}
    for step in range(1, steps):
        for i in range(width):
            near = [("s", step - 1, k) for k in (i - 1, i, i + 1) if 0 <= k < width]
            graph["s", step, i] = (sum, near)
    return convert_legacy_graph(graph)


def array(side: int = 1000, chunk: int = 100) -> Any:
    return da.random.random((side, side), chunks=(chunk, chunk))


def shuffled() -> Any:
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": range(1000), "b": range(1000)})
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        return dd.from_pandas(frame, npartitions=30).shuffle("a").optimize()


CASES: dict[str, Callable[[], Graph]] = {
    "tree reduction": tree,
    "random layers": layered,
    "stencil over time": stencil,
    "sum": lambda: collection_graph(array().sum()),
    "sum of two arrays": lambda: collection_graph((array() + array()).sum()),
    "sum of two arrays, not optimised": lambda: collection_graph(
        (array() + array()).sum(), optimize=False
    ),
    "two arrays": lambda: collection_graph(array() + array()),
    "standard score": lambda: collection_graph((lambda x: (x - x.mean(0)) / x.std(0))(array())),
    "several reductions": lambda: collection_graph(
        *(lambda x, y: ((x**2).mean(0), (y**2).mean(0), (x * y).mean(0)))(array(), array())
    ),
    "matrix product": lambda: collection_graph((lambda x: x.dot(x.T))(array())),
    "neighbours": lambda: collection_graph(array().map_overlap(lambda b: b, depth=1).sum()),
    "transposed": lambda: collection_graph((lambda x: x + x.T)(array())),
    "cumulative": lambda: collection_graph(array().cumsum(axis=0)),
    "svd": lambda: collection_graph(*da.linalg.svd(array(4000, 100).rechunk((100, 4000))[:, :20])),
    "rechunk": lambda: collection_graph(array().rechunk((1000, 10)).sum(axis=0)),
    "shuffle": lambda: collection_graph(shuffled()),
}


@pytest.mark.parametrize("name", CASES)
def test_an_order_holds_few_results_alive(name: str) -> None:
    graph = CASES[name]()
    ours = _graph.order(graph)
    assert sorted(ours.values()) == list(range(len(graph)))
    for key, node in graph.items():
        assert all(ours[needed] < ours[key] for needed in node.dependencies)
    peak, mean = live_results(graph, ours)
    dask_peak, dask_mean = live_results(graph, dask_order(graph))
    assert peak <= dask_peak * 1.2 + 4
    assert mean <= dask_mean * 1.3 + 4
