"""A client's program: a random graph; how every one of its futures ended, as one line of JSON.

``python -m tests.netlab.workload ADDRESS SEED``; with ``eat WORKER`` in place of the seed, one
task that needs more memory than its worker has; with ``hoard WORKER``, results of which that worker
has to write some to disk; with ``move FROM FROM TO``, one large result of two workers that goes to
a third; with ``use FROM TO``, one of a worker, or of any if need be, that another uses; with
``use-only FROM TO``, one of that worker.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import sys
import time
from collections import Counter

from taskloom import Client
from taskloom.errors import CancelledError, KilledWorker, TaskloomError
from tests.netlab.work import eat, heap, plan_steps, right_values, run_step, weigh

#: No fault lasts as long: a future that is pending then stays so.
PATIENCE_S = 60
#: What `move` moves, and how long that may take: until the kernel gives a silent connection up.
MOVED_BYTES, MOVE_S = 64_000_000, 90
#: How long `use` may take: twelve tries to connect where nobody answers, and more.
USE_S = 300


def outcome(future: object, right: int, until: float) -> str:
    """``right``, ``wrong``, ``pending`` or the type of the error."""
    timeout_s = max(0.1, until - time.monotonic())
    try:
        value, _ = future.result(timeout=timeout_s)  # type: ignore[attr-defined]
    except (TaskloomError, CancelledError, concurrent.futures.CancelledError) as error:
        return type(error).__name__
    except TimeoutError:
        return "pending"
    return "right" if value == right else "wrong"


def run_graph(client: Client, seed: int) -> Counter[str]:
    steps = plan_steps(seed)
    futures: list[object] = []
    for step in steps:
        inputs = [futures[i] for i in step.inputs]
        arguments = (step.number, step.pause_s, step.ballast, *inputs)
        futures.append(client.submit(run_step, *arguments, pure=False))
    until = time.monotonic() + PATIENCE_S
    pairs = zip(futures, right_values(steps), strict=True)
    return Counter(outcome(future, right, until) for future, right in pairs)


def run_eater(client: Client, worker: str) -> Counter[str]:
    future = client.submit(eat, 1000, workers=[worker], pure=False)
    try:
        future.result(timeout=PATIENCE_S)
    except TimeoutError:
        return Counter(["pending"])
    except TaskloomError as error:
        is_named = "memory" in str(error)
        is_killed = is_named and isinstance(error, KilledWorker)
        return Counter(["eaten" if is_killed else f"unexplained: {error}"])
    return Counter(["right"])


def run_hoarder(client: Client, worker: str) -> Counter[str]:
    futures = [client.submit(heap, number, workers=[worker], pure=False) for number in range(14)]
    until = time.monotonic() + PATIENCE_S
    values = [client.submit(weigh, future, pure=False) for future in futures]
    # All are held until the last is known.
    pairs = zip(values, range(len(futures)), strict=True)
    return Counter(outcome(value, number, until) for value, number in pairs)


def run_mover(client: Client, source: str, other: str, target: str) -> Counter[str]:
    # What does not shrink: it is to take its time.
    large = client.submit(os.urandom, MOVED_BYTES, workers=[source])
    client.replicate(large, workers=[source, other])
    size = client.submit(len, large, workers=[target])
    try:
        return Counter(["right" if size.result(timeout=MOVE_S) == MOVED_BYTES else "wrong"])
    except TimeoutError:
        return Counter(["pending"])


def run_user(client: Client, source: str, target: str, only_there: bool) -> Counter[str]:
    large = client.submit(
        os.urandom, MOVED_BYTES, workers=[source], allow_other_workers=not only_there
    )
    size = client.submit(len, large, workers=[target])
    try:
        return Counter(["right" if size.result(timeout=USE_S) == MOVED_BYTES else "wrong"])
    except TimeoutError:
        return Counter(["pending"])


def main() -> None:
    address, *what = sys.argv[1:]
    try:
        with Client(address, timeout=20) as client:
            if what[0] == "eat":
                ends = run_eater(client, what[1])
            elif what[0] == "hoard":
                ends = run_hoarder(client, what[1])
            elif what[0] == "move":
                ends = run_mover(client, *what[1:])
            elif what[0] in ("use", "use-only"):
                ends = run_user(client, *what[1:], only_there=what[0] == "use-only")
            else:
                ends = run_graph(client, int(what[0]))
    except TaskloomError as error:
        ends = Counter([type(error).__name__])
    print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    main()
