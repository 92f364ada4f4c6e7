"""Low-level graphs of the shapes that schedulers are compared with, and how each system runs one.

Keys carry a name of the run, so that no system can answer from memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from benches.cases._timing import seconds
from benches.work import first, merge, noop

Graph = dict[str, tuple]


def merge_graph(run: str, n: int) -> tuple[Graph, str]:
    """`n` independent tasks into one."""
    graph: Graph = {f"{run}-in-{i}": (noop, i) for i in range(n)}
    graph[f"{run}-merge"] = (merge, list(graph))
    return graph, f"{run}-merge"


def tree_graph(run: str, leaves: int) -> tuple[Graph, str]:
    """A binary reduction of `leaves` tasks."""
    graph: Graph = {}
    layer = [f"{run}-0-{i}" for i in range(leaves)]
    graph |= {key: (noop, i) for i, key in enumerate(layer)}
    level = 0
    while len(layer) > 1:
        level += 1
        pairs = list(zip(layer[::2], layer[1::2], strict=True))
        layer = [f"{run}-{level}-{i}" for i in range(len(pairs))]
        graph |= {key: (first, *pair) for key, pair in zip(layer, pairs, strict=True)}
    return graph, layer[0]


def random_layers_graph(run: str, width: int, depth: int) -> tuple[Graph, str]:
    """Layers whose tasks need two random tasks each of the layer before; nothing is unused."""
    chance = random.Random(1)
    graph: Graph = {f"{run}-0-{i}": (noop, i) for i in range(width)}
    for level in range(1, depth):
        sources = list(range(width))
        chance.shuffle(sources)
        for i in range(width):
            others = (sources[i], chance.randrange(width))
            graph[f"{run}-{level}-{i}"] = (first, *(f"{run}-{level - 1}-{j}" for j in others))
    last = [f"{run}-{depth - 1}-{i}" for i in range(width)]
    graph[f"{run}-end"] = (merge, last)
    return graph, f"{run}-end"


def chain_graph(run: str, length: int) -> tuple[Graph, str]:
    graph: Graph = {f"{run}-0": (noop, 0)}
    graph |= {f"{run}-{i}": (first, f"{run}-{i - 1}") for i in range(1, length)}
    return graph, f"{run}-{length - 1}"


def per_task(get: Callable[[Any, str], object], make: Callable[[str], tuple[Graph, str]]) -> dict:
    """us per task of one graph. A small graph before it pays for imports on all sides."""
    get(*merge_graph("warm-up", 20))
    graph, key = make("measured")
    duration = seconds(lambda: get(graph, key))
    return {"us_per_task": duration / len(graph) * 1e6, "tasks": len(graph)}


def ray_get(ray: Any) -> Callable[[Graph, str], object]:
    """Runs a graph on Ray: one remote call per task, references as inputs."""
    remote = {function: ray.remote(function) for function in (noop, first)}
    remote[merge] = ray.remote(first)

    def get(graph: Graph, key: str) -> object:
        references: dict[str, Any] = {}
        for name, (function, *arguments) in graph.items():
            if function is merge:
                (arguments,) = arguments
            inputs = [references.get(a, a) if isinstance(a, str) else a for a in arguments]
            references[name] = remote[function].remote(*inputs)
        return ray.get(references[key])

    return get
