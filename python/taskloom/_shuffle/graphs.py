"""From dask's expressions to tasks of the shuffle.

dask's own layers for ``p2p`` consist of tasks that work inside a worker of ``distributed`` only.
Here an expression's graph is collected as dask does it, but with own layers in place of those.
Nothing of ``distributed`` is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dask._expr import Expr, _ExprSequence
from dask._task_spec import Task, TaskRef

from taskloom._shuffle import tasks
from taskloom._shuffle.roles import BARRIER, SHARDS, Graph, Roles

__all__ = ["graph_of"]


def graph_of(expr: Any) -> tuple[Any, Roles]:
    """The graph of an expression, and the roles of those of its tasks that have one."""
    layers = _own_layers()
    if not layers or not isinstance(expr, Expr) or not _needs_own_layers(expr, tuple(layers)):
        return expr.__dask_graph__(), {}
    graph: Graph = {}
    roles: Roles = {}
    stack, seen = [expr], set()
    while stack:
        node = stack.pop()
        if node._name in seen:
            continue
        seen.add(node._name)
        stack.extend(node.dependencies())
        own = layers.get(type(node))
        if own is not None:
            own(node, graph, roles)
        elif not isinstance(node, _ExprSequence):
            # A sequence's graph is that of its members, which are visited themselves.
            graph.update(node._layer())
    return graph, roles


def _needs_own_layers(expr: Expr, kinds: tuple[type, ...]) -> bool:
    # An expression that collects its graph in a way of its own is left alone.
    is_usual = type(expr).__dask_graph__ is Expr.__dask_graph__
    return is_usual and any(isinstance(node, kinds) for node in expr.walk())


def _own_layers() -> dict[type, Callable[[Any, Graph, Roles], None]]:
    """Layers by kind of expression; none as long as the program has no frames of dask."""
    shuffles = sys.modules.get("dask.dataframe.dask_expr._shuffle")
    merges = sys.modules.get("dask.dataframe.dask_expr._merge")
    if shuffles is None or merges is None:
        return {}
    return {shuffles.P2PShuffle: _shuffle_layer, merges.HashJoinP2P: _merge_layer}


def _shuffle_layer(expr: Any, graph: Graph, roles: Roles) -> None:
    wanted = _wanted(expr)
    args = (expr.partitioning_index, _n_outputs(expr), wanted)
    token = expr._name.rpartition("-")[2]
    manifest = _add_inputs(graph, roles, expr.frame, token, tasks.transfer, args)
    for number, output in enumerate(expr._partitions):
        key = (expr._name, number)
        graph[key] = Task(key, tasks.unpack, manifest, output)


def _merge_layer(expr: Any, graph: Graph, roles: Roles) -> None:
    wanted, n_outputs = _wanted(expr), _n_outputs(expr)
    token = expr._name.rpartition("-")[2]
    sides = (
        ("left", expr.left, expr.shuffle_left_on, expr.left_index),
        ("right", expr.right, expr.shuffle_right_on, expr.right_index),
    )
    manifests = []
    for side, frame, on, by_index in sides:
        args = (on, n_outputs, wanted, bool(by_index))
        manifests.append(
            _add_inputs(graph, roles, frame, f"{side}-{token}", tasks.merge_transfer, args)
        )
    options = {name: getattr(expr, name) for name in tasks.MERGE_OPTIONS}
    for number, output in enumerate(expr._partitions):
        key = (expr._name, number)
        graph[key] = Task(key, tasks.merge_unpack, *manifests, output, expr._meta, options)


def _n_outputs(expr: Any) -> int:
    """Of the whole shuffle, also where only some of them are wanted."""
    name = "npartitions_out" if "npartitions_out" in expr._parameters else "_npartitions"
    return int(expr.operand(name))


def _wanted(expr: Any) -> Sequence[int] | None:
    return tuple(expr._partitions) if expr._filtered else None


def _add_inputs(
    graph: Graph,
    roles: Roles,
    frame: Any,
    token: str,
    function: Callable[..., Any],
    args: Iterable[Any],
) -> TaskRef:
    """The tasks that write the shards of all partitions of a frame, and the barrier."""
    inputs = []
    for number in range(frame.npartitions):
        key = (f"shuffle-transfer-{token}", number)
        graph[key] = Task(key, function, TaskRef((frame._name, number)), *args)
        roles[key] = SHARDS
        inputs.append(TaskRef(key))
    barrier = f"shuffle-barrier-{token}"
    graph[barrier] = Task(barrier, tasks.barrier, *inputs)
    roles[barrier] = BARRIER
    return TaskRef(barrier)
