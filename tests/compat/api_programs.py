"""Programs about the details of the client, as `programs.py`: equal results on both engines."""

from __future__ import annotations

import functools
import operator
import time
from collections import OrderedDict, namedtuple
from typing import Any


def name_of(error: BaseException | None) -> str:
    return "none" if error is None else type(error).__name__


def raised(call: Any) -> str:
    """The name of the exception that a call raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - which it is, is the question
        return name_of(error)
    return "none"


def raised_kinds(call: Any) -> list[str]:
    """The names of the well-known classes of the exception that a call raises."""
    known = (ValueError, TypeError, KeyError, TimeoutError, RuntimeError, NotImplementedError)
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - which it is, is the question
        return [kind.__name__ for kind in known if isinstance(error, kind)]
    return []


class Doubler:
    def __call__(self, x):
        return 2 * x

    def method(self, x):
        return 3 * x


def prefixes_of_keys(api, client):
    class Local:
        def __call__(self, x):
            return x

    def prefix(function, *args):
        return api.utils.key_split(client.submit(function, *args).key)

    return [
        prefix(operator.add, 1, 2),
        prefix(lambda x: x, 1),
        prefix(functools.partial(operator.add, 1), 2),
        prefix(functools.partial(functools.partial(max, 1), 2), 2),
        prefix(Doubler().method, 1),
        prefix(str, 1),
        prefix([1, 2].count, 1),
    ]


def key_forms(api, client):
    keys = ["text", ("tuple", 1), ("nested", ("a", 2))]
    return [client.submit(operator.neg, 1, key=key).key for key in keys]


def keys_of_map(api, client):
    named = [f.key for f in client.map(operator.neg, [1, 2], key=["a", "b"])]
    prefixed = {f.key.rsplit("-", 1)[0].split("-")[0] for f in client.map(abs, [1, 2], key="pre")}
    equal = [f.key for f in client.map(abs, [5, 5])]
    impure = [f.key for f in client.map(abs, [5, 5], pure=False)]
    return named, prefixed, len(set(equal)), len(set(impure))


def keyword_futures(api, client):
    a, b = client.map(operator.neg, [1, 2])

    def show(*args, **kwargs):
        return args, sorted(kwargs.items())

    return client.submit(
        show, [a, (b, {"deep": a})], {a.key and "k": b}, plain=3, other=[b]
    ).result()


def map_of_futures(api, client):
    numbers = client.map(operator.neg, range(4))
    constant = client.submit(operator.add, 10, 20)
    futures = client.map(lambda x, y, z=0: x + y + z, numbers, [constant] * 4, z=constant)
    return client.gather(futures)


def map_of_unequal_lengths(api, client):
    return client.gather(client.map(operator.add, [1, 2, 3], [10, 20])), client.map(abs, [])


def gathered_containers(api, client):
    a, b = client.map(operator.neg, [1, 2])
    return (
        client.gather(a),
        client.gather([a, [b]]),
        client.gather((a, b)),
        client.gather({"x": a, "y": [b]}),
        client.gather([]),
        sorted(client.gather({a, b})),
    )


def gathered_iterators(api, client):
    results = client.gather(iter(client.map(operator.neg, range(3))))
    return hasattr(results, "__next__"), list(results)


def skipped_errors(api, client):
    good, bad = client.map(operator.truediv, [1, 1], [1, 0])
    return (
        client.gather([good, bad, good], errors="skip"),
        client.gather([bad], errors="skip"),
        client.gather([good], errors="skip", direct=True),
        client.gather([good, good], direct=False),
    )


def scattered_options(api, client):
    listed = client.scatter([1, 2, 2])
    unhashed = client.scatter(5, hash=False)
    hashed = client.scatter([6, 6], hash=True)
    everywhere = client.scatter([7], broadcast=True)
    direct = client.scatter({"named": 8}, direct=True)
    api.wait(everywhere)
    copies = len(client.who_has(everywhere)[everywhere[0].key])
    address = sorted(client.scheduler_info()["workers"])[0]
    here = client.scatter([9], workers=[address])
    return (
        client.gather(listed),
        unhashed.result(),
        hashed[0].key == hashed[1].key,
        copies,
        list(direct),
        direct["named"].result(),
        list(client.who_has(here).values()) == [(address,)],
        unhashed.status,
    )


def scattered_kinds(api, client):
    return (
        client.gather(client.scatter(range(3))),
        client.gather(client.scatter({"a": [1, 2]})),
        raised(lambda: client.scatter(iter([1]))),
    )


def states_of_futures(api, client):
    good = client.submit(operator.add, 1, 2)
    bad = client.submit(operator.truediv, 1, 0)
    api.wait([good, bad])
    return (
        good.type.__name__,
        good.exception(),
        good.traceback(),
        name_of(bad.exception()),
        type(bad.traceback()).__name__,
        raised(bad.result),
        good.client is client,
        bad.done(),
        good.cancelled(),
    )


def timeouts(api, client):
    import os
    import tempfile

    def wait_for(gate):
        while not os.path.exists(gate):
            time.sleep(0.01)

    directory = tempfile.TemporaryDirectory()
    gate = os.path.join(directory.name, "gate")
    slow = client.submit(wait_for, gate, pure=False)
    kinds = [
        raised_kinds(lambda: slow.result(timeout=0.01)),
        raised_kinds(lambda: slow.result(timeout="10 ms")),
        raised_kinds(lambda: slow.exception(timeout=0.01)),
        raised_kinds(lambda: api.wait([slow], timeout=0.01)),
        raised_kinds(lambda: list(api.as_completed([slow], timeout=0.01))),
    ]
    open(gate, "w").close()
    slow.result()
    directory.cleanup()
    return kinds


def cancelled_futures(api, client):
    def end(future):
        try:
            future.result(timeout=60)
        except api.CancelledError:
            return "CancelledError"
        return "none"

    future = client.submit(time.sleep, 5, pure=False)
    dependent = client.submit(operator.is_, future, None)
    client.cancel(future)
    return (
        future.cancelled(),
        future.status,
        raised_kinds(future.result) or "cancelled",
        end(dependent),
        dependent.status,
    )


def errors_of_dependents(api, client):
    bad = client.submit(operator.truediv, 1, 0)
    later = client.submit(operator.add, bad, 1)
    return name_of(later.exception()), later.status, raised(lambda: client.gather([later]))


def bad_arguments(api, client):
    return [
        raised(lambda: client.submit(5)),
        raised(lambda: client.map(5, [1])),
        raised(lambda: client.map(abs, iter([1]))),
        raised(lambda: client.submit(abs, 1, allow_other_workers=True)),
        raised(lambda: api.wait(5)),
        raised(lambda: api.as_completed([5])),
        raised(lambda: client.get_executor(colour=1)),
        raised(lambda: client.wait_for_workers(-1)),
    ]


def as_completed_forms(api, client):
    futures = client.map(operator.neg, range(5))
    counted = api.as_completed(futures)
    count, empty = counted.count(), counted.is_empty()
    batches = sum(len(batch) for batch in counted.batches())
    results = sorted(r for _, r in api.as_completed(futures, with_results=True))
    twice = len(list(api.as_completed([futures[0], futures[0]])))
    bad = client.submit(operator.truediv, 1, 0)
    shown = list(api.as_completed([bad], with_results=True, raise_errors=False))
    late = api.as_completed()
    late.add(futures[0])
    late.update(futures[1:3])
    taken = [late.next().key for _ in range(3)]
    return (
        count,
        empty,
        batches,
        counted.is_empty(),
        results,
        twice,
        name_of(shown[0][1][1]),
        sorted(taken) == sorted(f.key for f in futures[:3]),
        raised(lambda: next(late)),
        late.has_ready(),
    )


def computed_containers(api, client):
    import dask

    @dask.delayed
    def one():
        return 1

    two = one() + 1
    nested = client.compute({"a": two, "b": [one(), 5]})
    several = client.compute([two, one(), 7])
    single = client.compute(two)
    return (
        nested.result() if hasattr(nested, "result") else client.gather(nested),
        [f.result() if hasattr(f, "result") else f for f in several],
        single.result(),
        client.compute([two, one()], sync=True),
        client.compute(5),
        client.compute([]),
        client.compute((two, [one()]), sync=True),
        [type(x).__name__ for x in client.compute([[one()]], traverse=False)],
    )


def persisted_containers(api, client):
    import dask

    @dask.delayed
    def one():
        return 1

    pair = client.persist([one(), one() + 1])
    single = client.persist(one() + 5)
    futures = api.futures_of(pair)
    values = [x.compute() for x in pair]
    return (
        type(pair).__name__,
        len(futures),
        values,
        single.compute(),
        len(client.futures_of(single)),
    )


def normalized_collections(api, client):
    import dask.array as da

    x = da.arange(6, chunks=3) + 1
    client.compute(x)
    held = client.persist(x)
    normal = client.normalize_collection(x)
    return type(normal).__name__, normal.compute().tolist(), held.compute().tolist()


def annotated_work(api, client):
    import dask

    address = sorted(client.scheduler_info()["workers"])[0]
    with dask.annotate(workers=[address], priority=3, retries=1):
        future = client.submit(operator.add, 1, 5, key="annotated")
        many = client.map(operator.neg, range(3))
    api.wait([future, *many])
    where = set(client.who_has([future, *many]).values())
    return future.result(), where == {(address,)}


def restricted_work(api, client):
    addresses = sorted(client.scheduler_info()["workers"])
    futures = [client.submit(operator.add, 7, i, workers=[addresses[i % 2]]) for i in range(4)]
    api.wait(futures)
    where = client.who_has(futures)
    placed = [where[f.key] == (addresses[i % 2],) for i, f in enumerate(futures)]
    other = client.submit(operator.add, 9, 9, workers="nowhere", allow_other_workers=True)
    text = client.submit(operator.add, 9, 10, workers=addresses[1])
    return placed, other.result(), text.result()


def futures_in_futures(api, client):
    a = client.submit(operator.add, 1, 1)
    found = api.futures_of([a, {"x": (a, [a])}, 5])
    return [f is a for f in found], api.futures_of([]), api.futures_of({"k": a})[0] is a


def executors(api, client):
    import concurrent.futures as cf

    executor = client.get_executor(pure=False, retries=1)
    futures = [executor.submit(operator.neg, i) for i in range(3)]
    done, not_done = cf.wait(futures, timeout=20)
    completed = sorted(f.result() for f in cf.as_completed(futures, timeout=20))
    mapped = list(executor.map(operator.add, [1, 2, 3], [1, 1]))
    failing = executor.map(operator.truediv, [1, 1], [1, 0])
    first = next(failing)
    failure = raised(lambda: next(failing))
    executor.shutdown()
    return (
        len(done), len(not_done), completed, mapped, first, failure,
        raised(lambda: executor.submit(abs, 1)),
        isinstance(executor, cf.Executor),
    )  # fmt: skip


def default_clients(api, client):
    same = api.default_client() is client, api.Client.current() is client
    with client.as_current():
        current = api.Client.current(allow_global=False) is client
    return same, current, raised(lambda: api.Client.current(allow_global=False))


def special_containers(api, client):
    Point = namedtuple("Point", "x y")
    a = client.submit(operator.neg, 1)
    ordered = OrderedDict(x=5)

    def kinds(*args):
        return [type(x).__name__ for x in args], args[0][0]

    return client.submit(kinds, [a], (1,), {2}, frozenset([3]), ordered).result(), Point(1, 2).x


def exceptions_with_state(api, client):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a, b)
            self.b = b

    def fail():
        raise Odd(1, b=2)

    error = client.submit(fail).exception()
    return error.args, error.b


def released_futures(api, client):
    future = client.submit(operator.add, 3, 9)
    future.result()
    future.release()
    return raised_kinds(future.result), raised(future.result).endswith("CancelledError")


def retried_futures(api, client):
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "flag")
        future = client.submit(os.stat, path)
        before = name_of(future.exception())
        open(path, "w").close()
        future.retry()
        return before, future.result().st_size


def recreated_tasks(api, client):
    def div(x, y=1):
        return x / y

    zero = client.submit(operator.sub, 1, 1)
    good = client.submit(div, 1, y=2)
    bad = client.submit(div, 1, y=zero)
    api.wait([good, bad])
    return (
        client.recreate_task_locally(good),
        raised(lambda: client.recreate_error_locally(bad)),
        raised(lambda: client.recreate_error_locally(good)),
    )


def is_program(value: object) -> bool:
    code = getattr(value, "__code__", None)
    return code is not None and code.co_varnames[:2] == ("api", "client")


PROGRAMS = [value for value in list(globals().values()) if is_program(value)]
