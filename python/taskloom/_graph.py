"""Dask graphs on a taskloom cluster: ``Client.get``, ``Client.compute``, ``Client.persist``.

dask optimises and materialises a collection here, in the client; the nodes are then ordered and
converted one by one in Rust and sent while the rest is still being converted. The scheduler
sees integers and opaque bytes, and needs no Python.

This module is imported by the first call that has a graph: only then is dask needed.
"""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Container, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dask._expr import HLGExpr, _HLGExprSequence
from dask._task_spec import DataNode, GraphNode, convert_legacy_graph, convert_legacy_task
from dask.base import collections_to_expr, get_annotations, is_dask_collection
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict, format_bytes, parse_timedelta

from taskloom import _taskloom
from taskloom._options import worker_names
from taskloom._policy import LIMITS, Policy, make_policy
from taskloom._shuffle.graphs import graph_of
from taskloom._shuffle.roles import ROLE
from taskloom._shuffle.translation import translated

if TYPE_CHECKING:
    from taskloom._policy import Retry
    from taskloom.client import Client
    from taskloom.future import Future

__all__ = ["compute", "get", "order", "persist"]

# Annotations that the scheduler understands; others are dask's own or another scheduler's.
_OPTION_NAMES = (
    "workers",
    "allow_other_workers",
    "resources",
    "retries",
    "priority",
    *LIMITS,
    ROLE,
)

# More large objects in the tasks of a graph get a warning.
_LARGE_GRAPH_BYTES = 10_000_000


class _Graph(NamedTuple):
    """A materialised graph: tasks by key, and annotations by name and key."""

    tasks: dict[Hashable, Any]
    annotations: dict[str, dict[Hashable, Any]]


def get(
    client: Client,
    dsk: Any,
    keys: Any,
    *,
    workers: Any = None,
    allow_other_workers: bool | None = None,
    resources: dict[str, float] | None = None,
    sync: bool = True,
    asynchronous: bool | None = None,
    direct: bool | None = None,
    retries: int | Retry | None = None,
    priority: int = 0,
    fifo_timeout: Any = "60s",
    actors: Any = None,
    **_: Any,
) -> Any:
    """Runs a graph and gives the values of `keys`, in their nesting.

    Parameters
    ----------
    dsk : dict, HighLevelGraph or Expr
        Nodes are ``dask._task_spec`` tasks or tuples as in older graphs.
    keys : key, or lists of keys nested freely
    sync : bool
        False gives futures in place of values.

    Raises
    ------
    ValueError
        When a task depends on a key that is neither in the graph nor a live future.
    RuntimeError
        When tasks of the graph depend on each other in a circle.
    """
    options = _Options(client, workers, allow_other_workers, resources, retries, priority, actors)
    futures = _submit(client, _materialize(dsk), flatten([keys]), options, fifo_timeout)
    packed = _pack(keys, futures)
    if not sync:
        return packed
    values = None
    try:
        values = client.gather(packed, asynchronous=asynchronous, direct=direct)
    finally:
        # The traceback of an exception would keep them, and with them their results.
        if not inspect.isawaitable(values):
            _release(futures.values())
    return _then_release(values, futures) if inspect.isawaitable(values) else values


def _release(futures: Iterable[Future]) -> None:
    """Lets go of futures that nobody else has."""
    for future in futures:
        future.release()


async def _then_release(values: Awaitable[Any], futures: Mapping[Hashable, Future]) -> Any:
    """The values of an asynchronous client, whose futures are then let go."""
    try:
        return await values
    finally:
        _release(futures.values())


def compute(
    client: Client,
    collections: Any,
    *,
    sync: bool = False,
    optimize_graph: bool = True,
    workers: Any = None,
    allow_other_workers: bool | None = False,
    resources: dict[str, float] | None = None,
    retries: int | Retry | None = 0,
    priority: int = 0,
    fifo_timeout: Any = "60s",
    actors: Any = None,
    traverse: bool = True,
    **_: Any,
) -> Any:
    """Starts the computation of whole collections; gives a future of each one's final value.

    What is no dask collection is given back as it is. A single collection gives a single
    future; ``sync=True`` waits and gives the values.
    """
    from dask._expr import FinalizeCompute
    from dask.delayed import delayed

    single = not isinstance(collections, (list, tuple, set, frozenset))
    items = [collections] if single else list(collections)
    if traverse:
        containers = (list, set, tuple, dict, Iterator)
        items = [delayed(item) if isinstance(item, containers) else item for item in items]
    variables = [item for item in items if is_dask_collection(item)]
    if variables:
        options = _Options(
            client, workers, allow_other_workers, resources, retries, priority, actors
        )
        expr = FinalizeCompute(collections_to_expr(variables, optimize_graph)).optimize()
        names = list(flatten(expr.__dask_keys__()))
        futures = _submit(client, _materialize(expr), names, options, fifo_timeout)
        of_variable = iter([futures[name] for name in names])
        items = [next(of_variable) if is_dask_collection(item) else item for item in items]
    result = client.gather(items) if sync else items
    if not single:
        return result
    return result[0] if isinstance(result, list) else _first(result)


async def _first(results: Any) -> Any:
    """The only one of the results that an asynchronous client gathers."""
    return (await results)[0]


def persist(
    client: Client,
    collections: Any,
    *,
    optimize_graph: bool = True,
    workers: Any = None,
    allow_other_workers: bool | None = None,
    resources: dict[str, float] | None = None,
    retries: int | Retry | None = None,
    priority: int = 0,
    fifo_timeout: Any = "60s",
    actors: Any = None,
    **_: Any,
) -> Any:
    """Starts the computation of collections; gives the same collections, backed by futures."""
    single = not isinstance(collections, (list, tuple, set, frozenset))
    items = [collections] if single else list(collections)
    for item in items:
        if not is_dask_collection(item):
            raise TypeError(f"persist needs dask collections, not {type(item).__name__}")
    if not items:
        return items
    options = _Options(client, workers, allow_other_workers, resources, retries, priority, actors)
    expr = collections_to_expr(items, optimize_graph)
    before = list(expr.operands)
    expr = expr.optimize()
    keys = expr.__dask_keys__()
    futures = _submit(client, _materialize(expr), flatten(keys), options, fifo_timeout)
    results = [
        _rebuild(item, old, new, item_keys, futures)
        for item, old, new, item_keys in zip(
            items, before, _sequence(expr, len(items)), keys, strict=True
        )
    ]
    return results[0] if single else results


def normalize(client: Client, collection: Any) -> Any:
    """The collection with futures of the client in place of tasks under the same keys."""
    if not is_dask_collection(collection):
        raise TypeError(f"a dask collection is needed, not {type(collection).__name__}")
    tasks = _dict_of(collection.__dask_graph__())
    held = {key: client._core.find(key) for key in tasks}
    known = {key: future for key, future in held.items() if future is not None}
    if not known:
        return collection
    rebuild, state = collection.__dask_postpersist__()
    return rebuild({**tasks, **known}, *state)


def _sequence(expr: Any, length: int) -> list[Any]:
    """The expressions of a sequence of `length` collections, where optimising kept it one."""
    operands = list(expr.operands)
    return operands if len(operands) == length else [None] * length


def _rebuild(
    collection: Any, old: Any, new: Any, keys: Any, futures: Mapping[Hashable, Future]
) -> Any:
    """The collection again, made of futures."""
    from dask._expr import CompositeExpr

    if isinstance(old, CompositeExpr) and isinstance(new, CompositeExpr):
        children = [_persisted_child(child, futures) for child in new.exprs]
        return collection.__dask_rebuild_from_exprs__(children)
    rebuild, state = collection.__dask_postpersist__()
    return rebuild({key: futures[key] for key in flatten(keys)}, *state)


def _persisted_child(expr: Any, futures: Mapping[Hashable, Future]) -> Any:
    """One expression of a collection that consists of several, made of futures."""
    from dask._collections import new_collection

    rebuild, state = new_collection(expr).__dask_postpersist__()
    keys = flatten(expr.__dask_keys__())
    return rebuild({key: futures[key] for key in keys}, *state).expr


def order(dsk: Mapping[Hashable, Any]) -> dict[Hashable, int]:
    """The position of each key in the order in which taskloom would run a graph.

    Examples
    --------
    >>> order({"sum": (sum, ["a", "b"]), "a": 1, "b": 2})
    {'sum': 2, 'a': 0, 'b': 1}
    """
    tasks = convert_legacy_graph(_dict_of(dsk))
    numbers = {key: number for number, key in enumerate(tasks)}
    inputs = [
        [numbers[key] for key in node.dependencies if key in numbers] for node in tasks.values()
    ]
    return dict(zip(tasks, _taskloom.order(inputs), strict=True))


class _TaskOptions(NamedTuple):
    """Options of a task, as a value that can be compared."""

    workers: tuple[str, ...]
    allow_other_workers: bool
    resources: tuple[tuple[str, float], ...]
    retries: int
    priority: int
    policy: Policy | None
    is_actor: bool
    role: str

    def core(self) -> _taskloom.CoreOptions:
        """As the extension module takes them."""
        return _taskloom.CoreOptions(
            list(self.workers),
            self.allow_other_workers,
            list(self.resources),
            self.retries,
            self.priority,
            None if self.policy is None else self.policy.core(),
            self.is_actor,
            self.role,
        )


class _Options:
    """What a submission asks for beyond the graph: for all of its tasks, and for single keys.

    An annotation of a key counts more than a keyword of the call, that more than what
    ``with_options`` gave, and that more than an annotation of the context.
    """

    def __init__(
        self,
        client: Client,
        workers: Any,
        allow_other_workers: bool | None,
        resources: dict[str, float] | None,
        retries: int | Retry | None,
        priority: int,
        actors: Any,
    ) -> None:
        self._actors = actors
        if allow_other_workers not in (True, False, None):
            raise TypeError("allow_other_workers= must be True, False, or None")
        given = {
            "workers": workers,
            "allow_other_workers": allow_other_workers,
            "resources": resources,
            "retries": retries,
            "priority": priority,
        }
        self._common = {**get_annotations(), **client._given_options}
        self._common.update({name: value for name, value in given.items() if value})

    def _actor_keys(self, wanted: Iterable[Hashable]) -> set[Hashable]:
        """Keys whose results are actors: the wanted ones, or those of the given collections."""
        actors = [self._actors] if is_dask_collection(self._actors) else self._actors
        if not isinstance(actors, (list, set, tuple)):
            return set(wanted) if actors else set()
        keys: set[Hashable] = set()
        for item in actors:
            keys.update(flatten(item.__dask_keys__()) if is_dask_collection(item) else [item])
        return keys

    def table(
        self,
        annotations: Mapping[str, Mapping[Hashable, Any]],
        wanted: Iterable[Hashable],
    ) -> tuple[list[_TaskOptions], dict[Hashable, int]]:
        """All different options, those of most tasks first; and the others' positions by key."""
        by_key: dict[Hashable, dict[str, Any]] = defaultdict(dict)
        for name in _OPTION_NAMES:
            for key, value in annotations.get(name, {}).items():
                by_key[key][name] = value
        for key in self._actor_keys(wanted):
            by_key[key]["is_actor"] = True
        positions = {_normalized(self._common): 0}
        of_key = {
            key: positions.setdefault(_normalized({**self._common, **own}), len(positions))
            for key, own in by_key.items()
        }
        return list(positions), of_key


def _normalized(options: Mapping[str, Any]) -> _TaskOptions:
    """Options in one form, from annotations in any."""
    resources = options.get("resources") or {}
    retries, policy = make_policy(options.get("retries"), options)
    return _TaskOptions(
        tuple(worker_names(options.get("workers"))),
        bool(options.get("allow_other_workers")),
        tuple(sorted((str(name), float(amount)) for name, amount in resources.items())),
        retries,
        int(options.get("priority") or 0),
        policy,
        bool(options.get("is_actor")),
        options.get(ROLE, ""),
    )


def _submit(
    client: Client, graph: _Graph, keys: Iterable[Hashable], options: _Options, fifo_timeout: Any
) -> dict[Hashable, Future]:
    """Sends what the keys need; gives their futures."""
    names = list(dict.fromkeys(keys))
    table, of_key = options.table(graph.annotations, names)
    fifo_timeout_us = int(parse_timedelta(fifo_timeout, default="s") * 1e6)
    cores = [entry.core() for entry in table]
    futures, large_bytes = _taskloom.submit_graph(
        client._core, graph.tasks, names, cores, of_key, fifo_timeout_us
    )
    if large_bytes > _LARGE_GRAPH_BYTES:
        warnings.warn(
            f"the graph's tasks carry {format_bytes(large_bytes)} of large objects. "
            "Load data inside tasks, or scatter it and pass futures, to send it once.",
            stacklevel=4,
        )
    return dict(zip(names, futures, strict=True))


def _materialize(dsk: Any) -> _Graph:
    """Nodes and annotations of whatever dask calls a graph."""
    graph = _collect(dsk)
    tasks, roles = translated(graph.tasks)
    if not roles:
        return graph
    known = graph.annotations.get(ROLE, {})
    return _Graph(tasks, {**graph.annotations, ROLE: {**known, **roles}})


def _collect(dsk: Any) -> _Graph:
    if isinstance(dsk, HighLevelGraph):
        return _Graph(_dict_of(dsk), _layer_annotations(dsk))
    if isinstance(dsk, Mapping):
        return _Graph(_dict_of(dsk), {})
    plain = _plain_graphs(dsk)
    if plain is not None:
        tasks = {}
        annotations: dict[str, dict[Hashable, Any]] = defaultdict(dict)
        for graph in plain:
            tasks.update(_dict_of(graph))
            for name, by_key in _layer_annotations(graph).items():
                annotations[name].update(by_key)
        return _Graph(tasks, annotations)
    annotations = defaultdict(dict)
    # The graph first: making it may fuse tasks, and only then do annotations have their keys.
    graph, roles = graph_of(dsk)
    tasks = _dict_of(graph)
    if roles:
        annotations[ROLE].update(roles)
    for name, by_key in dsk.__dask_annotations__().items():
        annotations[name].update(by_key)
    return _Graph(tasks, annotations)


def _dict_of(graph: Any) -> dict[Any, Any]:
    """One dict of all layers."""
    return ensure_dict(graph)


def _plain_graphs(expr: Any) -> list[HighLevelGraph] | None:
    """The graphs of delayed objects, as they are; ``None`` for other collections.

    All that dask does to optimise them is to leave out what nobody needs. That happens anyway
    when the graph is converted, in a small part of the time.
    """
    from dask import config
    from dask.delayed import optimize

    parts = expr.operands if isinstance(expr, _HLGExprSequence) else [expr]
    are_plain = all(
        isinstance(part, HLGExpr) and part.low_level_optimizer is optimize for part in parts
    )
    if not are_plain or config.get("optimization.fuse.delayed", False):
        return None
    return [part.hlg for part in parts]


def _layer_annotations(graph: HighLevelGraph) -> dict[str, dict[Hashable, Any]]:
    """Annotations of the layers, by name and key. An annotation may be a function of the key."""
    annotations: dict[str, dict[Hashable, Any]] = defaultdict(dict)
    for layer in graph.layers.values():
        for name, value in (layer.annotations or {}).items():
            annotations[name].update(
                {key: value(key) if callable(value) else value for key in layer}
            )
    return annotations


def _pack(keys: Any, futures: Mapping[Hashable, Future]) -> Any:
    """Futures in the nesting of `keys`."""
    if isinstance(keys, list):
        return [_pack(key, futures) for key in keys]
    return futures[keys]


def convert_task(key: Any, task: Any, graph: Container[Hashable]) -> GraphNode:
    """A task of tuples as a node, where `graph` has all keys."""
    node = convert_legacy_task(key, task, graph)
    return node if isinstance(node, GraphNode) else DataNode(key, node)


def run_node(node: GraphNode, keys: tuple[Hashable, ...], *values: Any) -> Any:
    """Runs a node as dask does. Workers call it for nodes that have no native form."""
    return node(dict(zip(keys, values, strict=True)))
