"""A pytest plugin that runs dask's own test suites on a cluster.

Load it with ``-p taskloom.testing.dask_plugin``. It starts one cluster for the session and
makes every scheduler name that the tests use (``"sync"``, ``"threads"``, ...) mean that
cluster, since dask's helpers name a local scheduler explicitly.

``--engine distributed`` runs the same on ``dask.distributed``: the baseline that taskloom is
compared with. ``--engine-results FILE`` appends one JSON line per test, at once, so that a
hang or a crash of the session loses nothing.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

# What dask's tests call a scheduler; all of it is made to mean the cluster.
_LOCAL_NAMES = (
    "sync",
    "synchronous",
    "single-threaded",
    "threads",
    "threading",
    "processes",
    "multiprocessing",
)
_CONFIG = {"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of this plugin."""
    group = parser.getgroup("engine", "run dask's tests on a cluster")
    group.addoption(
        "--engine",
        choices=["taskloom", "distributed"],
        default=os.environ.get("TASKLOOM_TEST_ENGINE", "taskloom"),
        help="whose cluster runs the tests",
    )
    group.addoption(
        "--engine-workers",
        type=int,
        default=2,
        help="worker processes with one thread each; 0: one worker in this process, 4 threads",
    )
    group.addoption("--engine-results", default=None, help="append one JSON line per test here")
    group.addoption(
        "--engine-leaks", action="store_true", help="record keys that outlive their test"
    )
    group.addoption("--engine-slow", action="store_true", help="also run tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    """Starts the cluster and makes it dask's scheduler."""
    for name in ("slow", "network", "gpu", "array_expr", "normal_and_array_expr"):
        config.addinivalue_line("markers", f"{name}: a mark of dask's own tests")
    config.pluginmanager.register(_Session(config), "taskloom-dask-session")


def _start(engine: str, workers: int) -> tuple[Any, Any]:
    """A cluster of `engine` and its client."""
    module: Any = importlib.import_module(engine)
    if workers == 0:
        shape: dict[str, Any] = {"processes": False, "n_workers": 1, "threads_per_worker": 4}
    else:
        shape = {"n_workers": workers, "threads_per_worker": 1}
    cluster = module.LocalCluster(dashboard_address=None, **shape)
    return cluster, module.Client(cluster)


def stable_id(nodeid: str) -> str:
    """A test's name without what differs between machines and runs."""
    name = nodeid.replace("\\", "/")
    start = name.find("dask/")
    return re.sub(r"0x[0-9a-f]+", "0x", name[start:] if start >= 0 else name)


class _Session:
    """The cluster of one pytest session and the record of its tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.engine: str = config.getoption("--engine")
        self.leaks: bool = config.getoption("--engine-leaks")
        self.slow: bool = config.getoption("--engine-slow")
        self.workers: int = config.getoption("--engine-workers")
        path = config.getoption("--engine-results")
        self.results = Path(path) if path else None
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.cluster: Any = None
        self.client: Any = None
        self.is_stuck = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        # Before the collections are imported: they remember their default at import.
        self._start()

    def pytest_sessionfinish(self) -> None:
        self._stop()

    def _start(self) -> None:
        import dask
        import dask.base
        import dask.threaded

        self.cluster, self.client = _start(self.engine, self.workers)
        get = self.client.get
        dask.config.set(_CONFIG)
        for name in _LOCAL_NAMES:
            dask.base.named_schedulers[name] = get
        dask.get = get
        dask.threaded.get = get

    def _stop(self) -> None:
        if self.client is not None:
            self.client.close()
            self.cluster.close()
        self.client = self.cluster = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if not self.slow and "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow"))
            if "network" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs the network"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        import dask

        if self.is_stuck:
            # A test that ran out of time may leave the cluster unusable for the next ones.
            self.is_stuck = False
            self._stop()
            self._start()
        # Tests that close a client of their own leave dask without a default scheduler.
        dask.config.set(scheduler=self.client)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Any:
        result = yield
        # The traceback of a failed test keeps what the test had.
        passed = self.outcomes.get(item.nodeid, {}).get("outcome") == "passed"
        if self.leaks and passed and self.engine == "taskloom":
            left = self._keys_left()
            if left:
                self.outcomes.setdefault(item.nodeid, {})["leaks"] = left
        return result

    def _keys_left(self) -> list[str]:
        """Keys that the scheduler still knows although nothing should hold them."""
        left: Any = ()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            gc.collect()
            left = self.client.who_has()
            if not left:
                return []
        return sorted(map(str, left))[:5]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        record = self.outcomes.setdefault(report.nodeid, {})
        if report.when == "call" or report.outcome != "passed":
            record["outcome"] = _outcome(report)
            if report.outcome == "failed":
                record["why"] = _reason(report)
                self.is_stuck |= "pytest-timeout" in record["why"]
        record["seconds"] = round(record.get("seconds", 0.0) + report.duration, 3)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        record = self.outcomes.pop(nodeid, {})
        if self.results is not None:
            line = json.dumps({"test": stable_id(nodeid), **record})
            with self.results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _outcome(report: pytest.TestReport) -> str:
    """``passed``, ``failed``, ``skipped``, ``xfailed`` or ``xpassed``."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.outcome == "skipped" else "xpassed"
    return report.outcome


def _reason(report: pytest.TestReport) -> str:
    """The last line that says why a test failed, cut to a bound."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return lines[0][:300]
