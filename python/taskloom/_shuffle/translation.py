"""The tasks of ``distributed``'s shuffle, where they stand in a graph already, as own ones.

Arrays are rechunked, and frames beside other collections are lowered, by dask itself. Those
graphs have a barrier with a description of the whole shuffle in it, tasks before and tasks behind
it. Fused tasks have them inside. Only programs that have imported ``distributed.shuffle`` can
have such graphs: others do not pay for looking.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from typing import Any

from dask._task_spec import GraphNode, Task, _execute_subgraph

from taskloom._shuffle import tasks
from taskloom._shuffle.roles import BARRIER, SHARDS, Graph, Roles

__all__ = ["translated"]


def translated(graph: Graph) -> tuple[Graph, Roles]:
    """The graph without tasks of ``distributed``'s shuffle, and the roles of the own ones."""
    module = sys.modules.get("distributed.shuffle._core")
    kind = getattr(module, "P2PBarrierTask", None)
    if kind is None:
        return graph, {}
    barriers = [node for node in graph.values() if isinstance(node, kind)]
    if not barriers:
        return graph, {}
    specs = {str(node.spec.id): node.spec for node in barriers}
    roles: Roles = {}
    result: Graph = {}
    for key, node in graph.items():
        if isinstance(node, kind):
            roles[key] = BARRIER
            result[key] = Task(key, tasks.barrier, *node.args[1:])
        elif isinstance(node, Task):
            result[key] = _translated(node, specs, roles, key)
        else:
            result[key] = node
    return result, roles


def _translated(node: Task, specs: dict[str, Any], roles: Roles, key: Hashable) -> GraphNode:
    """A task of a shuffle as an own one; others as they are. `key` is that of the whole task."""
    if node.func is _execute_subgraph:
        return _subgraph(node, specs, roles, key)
    if not getattr(node.func, "__module__", "").startswith(_HOMES):
        return node
    make = _TASKS.get(getattr(node.func, "__name__", ""))
    if make is None:
        return node
    own, is_input = make(node, specs)
    if is_input:
        roles[key] = SHARDS
    return own


def _subgraph(node: Task, specs: dict[str, Any], roles: Roles, key: Hashable) -> Task:
    inner = node.args[0]
    changed = {
        name: _translated(part, specs, roles, key) if isinstance(part, Task) else part
        for name, part in inner.items()
    }
    if all(changed[name] is part for name, part in inner.items()):
        return node
    return Task(node.key, node.func, changed, *node.args[1:], **node.kwargs)


def _parts_out(spec: Any) -> tuple[int, ...] | None:
    return None if isinstance(spec.parts_out, int) else tuple(spec.parts_out)


def _frame_transfer(node: Task, specs: dict[str, Any]) -> tuple[Task, bool]:
    frame, token, _ = node.args
    spec = specs[token]
    args = (spec.column, spec.npartitions, _parts_out(spec))
    return Task(node.key, tasks.transfer, frame, *args), True


def _merge_transfer(node: Task, specs: dict[str, Any]) -> tuple[Task, bool]:
    frame, on, _, n_outputs, token, _, by_index = node.args
    args = (on, n_outputs, _parts_out(specs[token]), bool(by_index))
    return Task(node.key, tasks.merge_transfer, frame, *args), True


def _frame_unpack(node: Task, _: dict[str, Any]) -> tuple[Task, bool]:
    _, output, barrier = node.args
    return Task(node.key, tasks.unpack, barrier, output), False


def _merge_unpack(node: Task, _: dict[str, Any]) -> tuple[Task, bool]:
    _, _, output, left, right, how, left_on, right_on, meta, *others = node.args
    values = (how, left_on, right_on, *others)
    options = dict(zip(tasks.MERGE_OPTIONS, values, strict=False))
    return Task(node.key, tasks.merge_unpack, left, right, output, meta, options), False


def _chunk_transfer(node: Task, specs: dict[str, Any]) -> tuple[Task, bool]:
    from taskloom._shuffle.arrays import axes_of_input

    array, token, chunk = node.args
    spec = specs[token]
    axes = axes_of_input(chunk, spec.old, spec.new)
    return Task(node.key, tasks.chunk_transfer, array, axes, _counts(spec.new)), True


def _chunk_unpack(node: Task, specs: dict[str, Any]) -> tuple[Task, bool]:
    from taskloom._shuffle.arrays import axes_of_output

    token, chunk, barrier = node.args
    spec = specs[token]
    axes = axes_of_output(chunk, spec.old, spec.new)
    args = (tuple(chunk), axes, _counts(spec.old), _counts(spec.new))
    return Task(node.key, tasks.chunk_unpack, barrier, *args), False


def _counts(chunks: Any) -> tuple[int, ...]:
    return tuple(map(len, chunks))


_HOMES = ("distributed.shuffle.", "dask.dataframe.dask_expr.")

_TASKS: dict[str, Callable[[Task, dict[str, Any]], tuple[Task, bool]]] = {
    "_shuffle_transfer": _frame_transfer,
    "assign_index_merge_transfer": _merge_transfer,
    "shuffle_unpack": _frame_unpack,
    "merge_unpack": _merge_unpack,
    "rechunk_transfer": _chunk_transfer,
    "rechunk_unpack": _chunk_unpack,
}
