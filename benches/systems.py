"""The systems that are compared, each opened in the same shape.

A *family* is how a system is driven: every case has one function per family that it can run on.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Worker processes times threads. `1x2` is one process in all: workers live in the client's."""

    name: str
    processes: int
    threads: int

    @property
    def in_process(self) -> bool:
        return self.processes == 1


SHAPES = {"2x1": Shape("2x1", 2, 1), "1x2": Shape("1x2", 1, 2)}


@dataclass(frozen=True)
class System:
    """One column of the table."""

    name: str
    family: str
    needs: str
    open: Callable[[Shape], AbstractContextManager[Any]]

    def installed(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None


def _client(module_name: str, **config: object) -> Callable[[Shape], AbstractContextManager[Any]]:
    @contextmanager
    def opened(shape: Shape) -> Iterator[Any]:
        if config:
            import dask

            dask.config.set(config)
        module = importlib.import_module(module_name)
        options: dict[str, Any] = {"dashboard_address": None}
        if module_name == "distributed":
            options["silence_logs"] = 50
        with (
            module.LocalCluster(
                n_workers=shape.processes,
                threads_per_worker=shape.threads,
                processes=not shape.in_process,
                **options,
            ) as cluster,
            module.Client(cluster) as client,
        ):
            client.wait_for_workers(shape.processes)
            yield client

    return opened


@contextmanager
def _process_pool(shape: Shape) -> Iterator[Any]:
    from concurrent.futures import ProcessPoolExecutor

    from benches.work import noop

    with ProcessPoolExecutor(shape.processes * shape.threads) as pool:
        # Processes start with the first tasks: two, so that both are there.
        for future in [pool.submit(noop) for _ in range(shape.processes * shape.threads)]:
            future.result()
        yield pool


@contextmanager
def _dask_threads(shape: Shape) -> Iterator[Any]:
    import dask
    import dask.threaded

    with dask.config.set(scheduler="threads", num_workers=shape.processes * shape.threads):
        yield dask.threaded.get


@contextmanager
def _ray(shape: Shape) -> Iterator[Any]:
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    ray.init(
        num_cpus=shape.processes * shape.threads,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
    )
    try:
        yield ray
    finally:
        ray.shutdown()


SYSTEMS = {
    system.name: system
    for system in (
        System("taskloom", "client", "taskloom", _client("taskloom")),
        System("distributed", "client", "distributed", _client("distributed")),
        System(
            "distributed-inf",
            "client",
            "distributed",
            _client("distributed", **{"distributed.scheduler.worker-saturation": float("inf")}),
        ),
        System("process-pool", "process_pool", "concurrent.futures", _process_pool),
        System("dask-threads", "dask_threads", "dask", _dask_threads),
        System("ray", "ray", "ray", _ray),
    )
}


def module_of(client: Any) -> Any:
    """The module that a client's class comes from: `taskloom` or `distributed`."""
    return sys.modules[type(client).__module__.split(".")[0]]
