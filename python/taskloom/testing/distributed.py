"""What test suites of other libraries import from ``distributed.utils_test``.

Also a pytest plugin, ``-p taskloom.testing.distributed``, that lets such suites run on taskloom:
it calls :func:`taskloom.compat.install` before any test module is imported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskloom import compat
from taskloom._loop import LoopShim
from taskloom.cluster import LocalCluster


def pytest_configure(config: pytest.Config) -> None:
    """Before test modules import ``distributed``."""
    compat.install()


def pytest_unconfigure(config: pytest.Config) -> None:
    compat.uninstall()


@contextmanager
def cluster(
    nworkers: int = 2, nanny: bool = False, worker_kwargs: Any = None, **ignored: Any
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A cluster of worker processes, as ``({'address': …}, [{'address': …}, …])``."""
    options = dict(worker_kwargs or {})
    threads = options.pop("nthreads", 1)
    with LocalCluster(n_workers=nworkers, threads_per_worker=threads, **options) as local:
        local.wait_for_workers(nworkers, timeout=60)
        with local._own_client() as client:
            addresses = list(client.nthreads())
        yield {"address": local.scheduler_address}, [{"address": a} for a in addresses]


@pytest.fixture
def loop() -> None:
    """No loop is needed: a client uses its own."""
    return


@pytest.fixture
def loop_in_thread() -> Iterator[LoopShim]:
    """An event loop that runs on a thread of its own."""
    shim = LoopShim()
    yield shim
    shim.close()


@pytest.fixture
def cleanup() -> None:
    """Clusters clean up after themselves."""
    return


def inc(x: Any) -> Any:
    return x + 1


def dec(x: Any) -> Any:
    return x - 1


def div(x: Any, y: Any) -> Any:
    return x / y


def slowinc(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x + 1
