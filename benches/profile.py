"""Where the microseconds go: processor time per task, by thread.

``python -m benches.profile`` runs the hot paths on taskloom and reads the kernel's account of
every thread (nanoseconds) before and after.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benches.cases import _graphs
from benches.cases._timing import seconds
from benches.processes import tree
from benches.systems import SHAPES, SYSTEMS
from benches.work import noop

Account = dict[str, float]


def account() -> Account:
    """Nanoseconds of processor time so far, by process and thread name."""
    used: Account = defaultdict(float)
    for pid in tree(os.getpid()):
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                name = (task / "comm").read_text().strip()
                spent = int((task / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                continue
            process = "client" if pid == os.getpid() else "workers"
            used[f"{process}: {name}"] += spent
    return used


def profile(title: str, count: int, work: Callable[[], object]) -> None:
    """Print wall time and each thread's processor time, in us per task."""
    before = account()
    wall_s = seconds(work)
    after = account()
    spent = {name: (after[name] - before.get(name, 0.0)) / 1e3 / count for name in after}
    print(f"\n{title}: {wall_s / count * 1e6:.2f} us wall, {sum(spent.values()):.2f} us processor")
    for name, us in sorted(spent.items(), key=lambda item: -item[1]):
        if us >= 0.01:
            print(f"  {us:8.2f}  {name}")


def main() -> None:
    with SYSTEMS["taskloom"].open(SHAPES["2x1"]) as client:
        client.gather(client.map(noop, range(-2000, 0)))
        client.get(*_graphs.merge_graph("warm-up", 100))

        def round_trips() -> None:
            for i in range(5000):
                client.submit(noop, ("round", i)).result()

        profile("submit().result()", 5000, round_trips)
        futures = []
        profile("map(100,000)", 100_000, lambda: futures.extend(client.map(noop, range(100_000))))
        profile("… and gather", 100_000, lambda: client.gather(futures))
        profile("… and release", 100_000, futures.clear)
        for name, (graph, key) in {
            "merge of 20,000": _graphs.merge_graph("m", 20_000),
            "tree of 2^14 leaves": _graphs.tree_graph("t", 2**14),
            "random layers 100 x 100": _graphs.random_layers_graph("r", 100, 100),
            "chain of 5,000": _graphs.chain_graph("c", 5000),
        }.items():
            profile(name, len(graph), lambda graph=graph, key=key: client.get(graph, key))


if __name__ == "__main__":
    main()
