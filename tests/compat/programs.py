"""Programs that know only the API: each takes the module that offers it, and a client.

What a program returns must be equal under dask.distributed and under taskloom.
"""

from __future__ import annotations

import operator
import random
import threading


def word_count(api, client):
    lines = ["the quick brown fox", "jumps over the lazy dog", "the end"] * 5
    counts = client.map(lambda line: {w: line.split().count(w) for w in line.split()}, lines)

    def merge(a, b):
        return {w: a.get(w, 0) + b.get(w, 0) for w in {*a, *b}}

    while len(counts) > 1:
        pairs = zip(counts[::2], counts[1::2], strict=False)
        rest = counts[len(counts) // 2 * 2 :]
        counts = [client.submit(merge, a, b) for a, b in pairs] + rest
    return sorted(counts[0].result().items())


def adaptive_search(api, client):
    """as_completed that adds work by what came back."""

    def badness(x):
        return (x - 3.25) ** 2

    best = None
    iterator = api.as_completed(client.map(badness, [0.0, 10.0]), with_results=True)
    points = {0.0, 10.0}
    for _future, value in iterator:
        best = value if best is None else min(best, value)
        if len(points) < 20:
            x = float(len(points)) / 2
            points.add(x + 0.25)
            iterator.add(client.submit(badness, x + 0.25))
    return round(best, 6)


def status_words(api, client):
    good, bad = client.submit(operator.add, 1, 2), client.submit(operator.truediv, 1, 0)
    cancelled = client.submit(operator.add, 3, 4)
    api.wait([good, bad, cancelled])
    cancelled.cancel()
    return good.status, bad.status, cancelled.status, good.done(), bad.done(), cancelled.cancelled()


def exception_types(api, client):
    def raiser(kind):
        raise kind("text")

    kinds = [ValueError, KeyError, OSError, ZeroDivisionError, StopIteration, AssertionError]
    futures = [client.submit(raiser, kind) for kind in kinds]
    return [(type(f.exception()).__name__, str(f.exception())) for f in futures]


def nested_gather(api, client):
    a, b = client.map(operator.neg, [1, 2])
    return client.gather([a, [b, (a,)], {"k": b}, 5, "text"])


def scatter_shapes(api, client):
    shapes = [[1, 2], (3,), {"a": 4}, {5}, "text", 6]
    found = []
    for data in shapes:
        scattered = client.scatter(data)
        found.append((type(scattered).__name__, client.gather(scattered)))
    return found


def keys_of_pure_calls(api, client):
    same = client.submit(operator.add, 1, 2).key == client.submit(operator.add, 1, 2).key
    other = client.submit(operator.add, 1, 2).key == client.submit(operator.add, 2, 1).key
    impure = client.submit(random.random, pure=False).key
    prefix = client.submit(operator.add, 1, 2).key.split("-")[0]
    named = client.submit(operator.add, 1, 2, key=("my", 1)).key
    return same, other, impure.split("-")[0], prefix, named


def callbacks(api, client):
    seen, event = [], threading.Event()

    def note(future):
        seen.append(future.status)
        if len(seen) == 2:
            event.set()

    futures = [client.submit(operator.add, 1, 2), client.submit(operator.truediv, 1, 0)]
    for future in futures:
        future.add_done_callback(note)
    assert event.wait(20)
    return sorted(seen)


def wait_for_first(api, client):
    import os
    import tempfile

    def slow(gate):
        import time

        while not os.path.exists(gate):
            time.sleep(0.01)
        return "slow"

    with tempfile.TemporaryDirectory() as directory:
        gate = os.path.join(directory, "gate")
        quick, slow_one = client.submit(operator.add, 1, 2), client.submit(slow, gate, pure=False)
        result = api.wait([quick, slow_one], return_when="FIRST_COMPLETED")
        open(gate, "w").close()
        return [f is quick for f in result.done], slow_one.result()


def tasks_of_tasks(api, client):
    def parent(n):
        import importlib

        module = importlib.import_module(name)
        with module.worker_client() as inner:
            return sum(inner.gather(inner.map(abs, range(-n, 0))))

    name = api.__name__
    return client.submit(parent, 5).result()


def executor_program(api, client):
    with client.get_executor() as executor:
        return list(executor.map(operator.add, [1, 2], [3, 4])), executor.submit(max, 1, 5).result()


def delayed_program(api, client):
    import dask

    @dask.delayed
    def square(x):
        return x * x

    return dask.compute(sum(square(i) for i in range(10)), {"a": [square(3)]})


def array_program(api, client):
    import dask.array as da

    x = da.arange(10_000, chunks=1000).reshape(100, 100)
    return float((x + x.T).std().compute()), (x.dot(x.T)[3, 4]).compute().item()


def frame_program(api, client):
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame({"k": [i % 7 for i in range(500)], "v": range(500)})
    result = dd.from_pandas(frame, npartitions=6).groupby("k").v.agg(["sum", "max"]).compute()
    return result.sort_index().to_dict()


def bag_program(api, client):
    import dask.bag as db

    bag = db.from_sequence(range(100), npartitions=7).filter(lambda x: x % 3 == 0)
    return bag.map(lambda x: x + 1).fold(operator.add).compute(), bag.topk(3).compute()


def low_level_graphs(api, client):
    graph = {"x": 1, "y": (operator.add, "x", 10), "z": (sum, ["x", "y", "y"]), "w": (list, ["z"])}
    return client.get(graph, ["z", ["w", "x"]])


def persisted_collections(api, client):
    import dask.bag as db

    bag = client.persist(db.from_sequence(range(10), npartitions=3).map(operator.neg))
    futures = api.futures_of(bag)
    return len(futures), sorted(client.gather(client.compute(bag)))


def errors_skipped(api, client):
    futures = client.map(operator.truediv, [1] * 4, [1, 0, 2, 0])
    return client.gather(futures, errors="skip")


def scheduler_answers(api, client):
    info = client.scheduler_info()
    future = client.submit(operator.add, 5, 6)
    future.result()
    who_has = client.who_has([future])
    return (
        len(info["workers"]),
        sorted(client.nthreads().values()),
        [len(addresses) for addresses in who_has.values()],
        list(who_has) == [future.key],
        sum(future.key in keys for keys in client.has_what().values()) == 1,
    )


def run_everywhere(api, client):
    return sorted(client.run(operator.add, 1, 2).values())


def retries_until_it_works(api, client):
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as directory:

        def flaky():
            open(os.path.join(directory, str(len(os.listdir(directory)))), "w").close()
            if len(os.listdir(directory)) < 3:
                raise OSError("not yet")
            return len(os.listdir(directory))

        return client.submit(flaky, retries=5).result()


PROGRAMS = [
    word_count, adaptive_search, status_words, exception_types, nested_gather, scatter_shapes,
    keys_of_pure_calls, callbacks, wait_for_first, tasks_of_tasks, executor_program,
    delayed_program, array_program, frame_program, bag_program, low_level_graphs,
    persisted_collections, errors_skipped, scheduler_answers, run_everywhere,
    retries_until_it_works,
]  # fmt: skip
