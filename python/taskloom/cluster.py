"""A cluster on this machine: the scheduler a thread of this process, the workers processes."""

from __future__ import annotations

import os
import sys

from taskloom import _lifetime
from taskloom._cluster_settings import (
    check_settings,
    environment,
    scheduler_settings,
    worker_resources,
)
from taskloom._drive import running_loop
from taskloom._memory import MemorySettings
from taskloom._memory import local_directory as directory_of_workers
from taskloom._taskloom import CoreScheduler, CoreSupervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from taskloom._adaptive import Adaptive
    from taskloom.client import Client

__all__ = ["LocalCluster"]

#: How long worker processes may take to end when the cluster is closed, in seconds.
_CLOSE_S = 1.0
#: How long the first workers may take to start, in seconds.
_START_S = 60


def cpu_count() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):
            continue
    return total


def default_layout(
    n_workers: int | None, threads_per_worker: int | None, processes: bool
) -> tuple[int, int]:
    """Numbers of workers and of threads of each, as Dask chooses them."""
    cores = cpu_count()
    if n_workers is None and threads_per_worker is None:
        if not processes:
            return 1, cores
        if cores <= 4:
            return cores, 1
        workers = min(n for n in range(1, cores + 1) if cores % n == 0 and n * n >= cores)
        return workers, cores // workers
    if n_workers is None:
        return max(1, cores // (threads_per_worker or 1)), threads_per_worker or 1
    if threads_per_worker is None:
        return n_workers, max(1, cores // n_workers) if n_workers else 1
    return n_workers, threads_per_worker


def worker_memory(memory_limit: Any, n_threads: int) -> int:
    """A worker's limit in bytes; 0 means none. ``'auto'``: its share of the machine's."""
    from taskloom.utils import parse_bytes

    if memory_limit is None or memory_limit == 0:
        return 0
    if memory_limit == "auto":
        return int(total_memory() * min(1.0, n_threads / cpu_count()))
    if isinstance(memory_limit, float) and memory_limit <= 1.0:
        return int(total_memory() * memory_limit)
    return parse_bytes(memory_limit)


def python_path() -> str:
    """``PYTHONPATH`` for workers: they find the modules that this program finds."""
    standard = os.path.dirname(os.__file__)
    own = []
    for entry in sys.path:
        path = os.path.abspath(entry)
        is_standard = path.startswith(standard) or path.endswith((".zip", "-packages"))
        if not is_standard and path not in own:
            own.append(path)
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    own += [part for part in inherited if os.path.abspath(part) not in own]
    return os.pathsep.join(own)


def worker_command(
    address: str,
    *,
    threads: int,
    memory: MemorySettings,
    host: str,
    resources: dict[str, float],
    local_directory: str,
    allow_insecure_network: bool,
) -> list[str]:
    """What starts a worker process; ``{name}`` in it stands for the worker's name."""
    command = [sys.executable, "-m", "taskloom", "worker", address]
    command += ["--no-nanny", "--name", "{name}", "--nthreads", str(threads)]
    command += ["--host", host, *memory.options()]
    if resources:
        command += ["--resources", ",".join(f"{name}={n}" for name, n in resources.items())]
    if local_directory:
        command += ["--local-directory", local_directory]
    if allow_insecure_network:
        command += ["--allow-insecure-network"]
    return command


class LocalCluster:
    """A scheduler in this process, and workers in processes of their own.

    Parameters
    ----------
    name : str, optional
        For people.
    n_workers, threads_per_worker : int, optional
        Together as many threads as there are cores, when both are left out.
    processes : bool, default True
        ``False``: workers are threads of this process.
    loop : accepted for programs written for Dask
    host : str, default ``127.0.0.1``
        Where scheduler and workers listen.
    scheduler_port : int, default 0
        0 means any free port.
    silence_logs, dashboard_address, worker_dashboard_address, scheduler_sync_interval :
        Accepted for programs written for Dask. There is no dashboard yet.
    asynchronous : bool
        Starting and closing may be awaited.
    memory_limit : int, float, str or None, default ``'auto'``
        Per worker: bytes, a fraction of the machine's memory, or a text such as ``'4 GB'``.
        0 and ``None`` mean no limit.
    memory_target_fraction, memory_spill_fraction, memory_pause_fraction, \
    memory_terminate_fraction : float or False
        When results go to disk, when a worker starts nothing and when its process is replaced, as
        fractions of the limit; otherwise as ``distributed.worker.memory`` is configured.
    max_spill : int, str or False
        Most results of one worker on disk.
    resources : dict, optional
        Abstract resources of each worker, such as ``{'GPU': 1}``.
    local_directory : str, optional
        For files of the workers.
    env : dict, optional
        Environment variables of the worker processes.
    scheduler_kwargs : dict, optional
        ``allowed_failures``, ``no_workers_timeout``, ``worker_ttl``, ``work_stealing`` as in Dask;
        ``setup_timeout``: how long each plugin's ``setup`` may take on a new worker, by default
        300 s; ``hand_over_timeout``: how long the calls of an actor that have begun may go on when
        its worker retires, before it is restarted elsewhere from its last snapshot, by default
        30 s. By default, also ``resources`` and ``env``, the settings of ``dask.config`` that
        distributed has for them; a warning names those that are not honoured.
    allow_insecure_network : bool
        Whether ``host`` may be an address that other machines reach. Traffic is not encrypted.

    Examples
    --------
    >>> with LocalCluster(n_workers=2) as cluster, cluster.get_client() as client:
    ...     client.submit(max, 1, 2).result()
    2
    """

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: Any = None,
        start: Any = None,
        host: str | None = None,
        ip: Any = None,
        scheduler_port: int = 0,
        silence_logs: Any = None,
        dashboard_address: Any = ":8787",
        worker_dashboard_address: Any = None,
        diagnostics_port: Any = None,
        services: Any = None,
        worker_services: Any = None,
        service_kwargs: Any = None,
        asynchronous: bool = False,
        security: Any = None,
        protocol: str | None = None,
        blocked_handlers: Any = None,
        interface: str | None = None,
        worker_class: Any = None,
        scheduler_kwargs: dict[str, Any] | None = None,
        scheduler_sync_interval: Any = 1,
        *,
        memory_limit: Any = "auto",
        resources: dict[str, float] | None = None,
        local_directory: str | None = None,
        env: dict[str, str] | None = None,
        allow_insecure_network: bool = False,
        **worker_kwargs: Any,
    ) -> None:
        _refuse(
            security=security,
            interface=interface,
            worker_class=worker_class,
            services=services,
            worker_services=worker_services,
            blocked_handlers=blocked_handlers,
        )
        if protocol not in (None, "tcp", "tcp://", "inproc", "inproc://"):
            raise NotImplementedError(f"protocol={protocol!r} is not offered; tcp is")
        check_settings()
        self.name = name or f"LocalCluster-{os.getpid()}-{os.urandom(4).hex()}"
        self.status = "created"
        self.processes = processes is None or bool(processes)
        self._asynchronous = asynchronous
        workers, threads = default_layout(n_workers, threads_per_worker, self.processes)
        if workers < 0 or threads < 1:
            raise ValueError(f"n_workers={workers}, threads_per_worker={threads}")
        self._threads = threads
        self._memory = worker_memory(memory_limit, threads)
        self._memory_settings = MemorySettings(self._memory, worker_kwargs)
        if worker_kwargs:
            raise TypeError(f"unknown keywords for LocalCluster: {sorted(worker_kwargs)}")
        self._resources = worker_resources(resources)
        self._local_directory = directory_of_workers(local_directory)
        self._environment = {"PYTHONPATH": python_path(), **environment(), **(env or {})}
        self._allow_insecure_network = allow_insecure_network
        self._host = host or ip or "127.0.0.1"
        self._workers: dict[int, Any] = {}
        self._supervisor: CoreSupervisor | None = None
        self._adaptive: Adaptive | None = None
        self._core_scheduler = CoreScheduler(
            [f"tcp://{self._host}:{scheduler_port}"],
            allow_insecure_network=allow_insecure_network,
            **scheduler_settings(scheduler_kwargs),
        )
        try:
            if self.processes:
                self._start_supervisor()
            self._scale_now(workers)
        except BaseException:
            self._close_now()
            raise
        self.status = "running"
        _lifetime.register_cluster(self)
        self._awaited_workers = workers
        if not asynchronous:
            self._wait_for_start()

    def _start_supervisor(self) -> None:
        command = worker_command(
            self.scheduler_address,
            threads=self._threads,
            memory=self._memory_settings,
            host=self._host,
            resources=self._resources,
            local_directory=self._local_directory,
            allow_insecure_network=self._allow_insecure_network,
        )
        self._supervisor = CoreSupervisor(
            self._core_scheduler,
            command,
            name=self.name,
            env=[(key, str(value)) for key, value in self._environment.items()],
            terminate_bytes=self._memory_settings.terminate_bytes,
            local_directory=self._local_directory,
        )

    if not TYPE_CHECKING:  # a type checker shall find what is missing

        def __getattr__(self, name: str) -> Any:
            from taskloom._not_offered import CLUSTER, missing

            raise missing(self, type(self).__name__, name, CLUSTER)

    @property
    def scheduler_address(self) -> str:
        """Where clients and further workers connect."""
        return self._core_scheduler.address

    @property
    def asynchronous(self) -> bool:
        """Whether closing and scaling return awaitables."""
        return self._asynchronous

    @property
    def dashboard_link(self) -> None:
        """There is no dashboard yet."""
        return

    @property
    def workers(self) -> dict[Any, Any]:
        """The workers by name: processes as dicts, workers of this process as objects."""
        if self._supervisor is not None and self.status == "running":
            return {_number(p["name"]): p for p in self._supervisor.processes()}
        return dict(self._workers)

    @property
    def scheduler_info(self) -> Any:
        """What the scheduler says of itself and the workers."""
        with self._own_client() as client:
            return client.scheduler_info()

    def get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: bool | list[str] = True
    ) -> Any:
        """The last log lines: ``{'Cluster': text, 'Scheduler': text, address: text}``.

        Parameters
        ----------
        cluster : whether to include what :meth:`adapt` changed
        scheduler : whether to include the scheduler's
        workers : whether to include those of all workers, or of which, by address or name
        """
        self._check_running()
        return self._maybe_async(lambda: self._get_logs(cluster, scheduler, workers))

    def _get_logs(self, cluster: bool, scheduler: bool, workers: Any) -> dict[str, str]:
        logs = {}
        if cluster:
            changes = self._adaptive.log if self._adaptive is not None else ()
            logs["Cluster"] = "\n".join(f"{when:.3f} - {change}" for when, change in changes)
        with self._own_client() as client:
            if scheduler:
                logs["Scheduler"] = _lines(client.get_scheduler_logs())
            if workers:
                chosen = None if workers is True else workers
                found = client.get_worker_logs(workers=chosen)
                logs.update({address: _lines(lines) for address, lines in found.items()})
        return logs

    def _own_client(self) -> Client:
        from taskloom.client import Client

        return Client(self, set_as_default=False, name="LocalCluster")

    def get_client(self) -> Client:
        """A new client of this cluster."""
        from taskloom.client import Client

        return Client(self, asynchronous=self._asynchronous)

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Block until so many workers run."""

        def wait() -> None:
            with self._own_client() as client:
                client.wait_for_workers(n_workers, timeout)

        return self._maybe_async(wait)

    def _wait_for_start(self) -> None:
        """Block until the workers that the cluster was made with run, as in distributed."""
        number, self._awaited_workers = self._awaited_workers, 0
        if number == 0:
            return
        try:
            with self._own_client() as client:
                client.wait_for_workers(number, _START_S)
        except BaseException as error:
            self._close_now()
            if isinstance(error, TimeoutError):
                what = f"the {number} workers did not all start within {_START_S} s"
                raise RuntimeError(f"{what}; see their output above") from error
            raise

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Make ``n`` workers run: start new ones, or end the newest. Ends :meth:`adapt`.

        Parameters
        ----------
        memory : size in bytes, or a text such as ``'8 GB'``
            As many workers as have so much memory together, if that is more than ``n``.
        cores : as many workers as have so many threads together, if that is more than ``n``
        """
        self._check_running()
        n = max(n, self._workers_for(memory, cores))
        return self._maybe_async(lambda: self._scale_by_hand(n))

    def _workers_for(self, memory: Any, cores: int | None) -> int:
        from taskloom.utils import parse_bytes

        wanted = -(-cores // self._threads) if cores is not None else 0
        if memory is None:
            return wanted
        if not self._memory:
            raise ValueError("scale(memory=…) needs workers with a memory_limit")
        return max(wanted, -(-parse_bytes(memory) // self._memory))

    def _scale_by_hand(self, n: int) -> None:
        if n < 0:
            raise ValueError(f"a cluster cannot have {n} workers")
        self._stop_adapting()
        self._scale_now(n)

    def _scale_now(self, n: int) -> None:
        if n < 0:
            raise ValueError(f"a cluster cannot have {n} workers")
        if self._supervisor is not None:
            self._supervisor.scale(n)
            return
        for number in sorted(self._workers)[n:]:
            self._workers.pop(number).close("the cluster was scaled down")
        for number in range(n):
            if number not in self._workers:
                self._workers[number] = self._start_worker(number)

    def _start_worker(self, number: int) -> Any:
        from taskloom._taskloom import CoreWorker
        from taskloom.worker import Worker

        core = CoreWorker(
            str(number),
            nthreads=self._threads,
            memory_limit=self._memory,
            memory_target=self._memory_settings.target,
            max_spill=self._memory_settings.max_spill or None,
            resources=self._resources or None,
            local_directory=self._local_directory,
            listen=f"tcp://{self._host}:0",
            allow_insecure_network=self._allow_insecure_network,
        )
        worker = Worker(core)
        worker.start(self._core_scheduler)
        return worker

    def adapt(
        self,
        Adaptive: type[Adaptive] | None = None,
        minimum: int = 0,
        maximum: float = float("inf"),
        minimum_cores: int | None = None,
        maximum_cores: int | None = None,
        minimum_memory: Any = None,
        maximum_memory: Any = None,
        **options: Any,
    ) -> Adaptive:
        """Scale by the work at hand from now on, until :meth:`scale` or :meth:`close`.

        Parameters
        ----------
        Adaptive : a subclass of :class:`taskloom.Adaptive`
        minimum, maximum : how many workers there are at least and at most
        minimum_cores, maximum_cores, minimum_memory, maximum_memory :
            The same, as threads or memory of all workers together.
        **options : ``interval``, ``wait_count``, ``target_duration``; see
            :class:`taskloom.Adaptive`

        Raises
        ------
        ValueError
            Bounds that no number of workers can keep.
        """
        from taskloom._adaptive import Adaptive as Default

        self._check_running()
        at_least = minimum
        if minimum_memory is not None or minimum_cores is not None:
            at_least = max(at_least, self._workers_for(minimum_memory, minimum_cores))
        at_most = maximum
        if maximum_cores is not None:
            at_most = min(at_most, maximum_cores // self._threads)
        if maximum_memory is not None:
            at_most = min(at_most, self._workers_for(maximum_memory, None))
        self._stop_adapting()
        self._adaptive = (Adaptive or Default)(self, at_least, at_most, **options)
        return self._adaptive

    def _stop_adapting(self) -> None:
        adaptive, self._adaptive = self._adaptive, None
        if adaptive is not None:
            adaptive.stop()

    def _present(self) -> list[str]:
        """Names of the workers that run or are being started."""
        if self._supervisor is None:
            return [str(number) for number in self._workers]
        going = ("stopping", "ended", "failed")
        return [p["name"] for p in self._supervisor.processes() if p["status"] not in going]

    def _add_workers(self, count: int) -> None:
        taken = {str(name) for name in self.workers}
        for number in self._free_numbers(taken, count):
            if self._supervisor is not None:
                self._supervisor.add(str(number))
            else:
                self._workers[number] = self._start_worker(number)

    @staticmethod
    def _free_numbers(taken: set[str], count: int) -> list[int]:
        free = (number for number in range(len(taken) + count) if str(number) not in taken)
        return [number for number, _ in zip(free, range(count), strict=False)]

    def _forget_retired(self, names: list[str]) -> None:
        """Close workers of this process that the scheduler uses no more."""
        for name in names:
            worker = self._workers.pop(int(name), None) if name.isdecimal() else None
            if worker is not None:
                worker.close("the cluster was scaled down")

    def _check_running(self) -> None:
        if self.status != "running":
            raise RuntimeError(f"the cluster is {self.status}")

    def _maybe_async(self, function: Any) -> Any:
        if not (self._asynchronous and running_loop() is not None):
            return function()
        import asyncio

        return asyncio.get_running_loop().run_in_executor(None, function)

    def close(self, timeout: Any = None) -> Any:
        """End workers and scheduler; running tasks are not waited for."""
        return self._maybe_async(self._close_now)

    def _close_now(self) -> None:
        if self.status == "closed":
            return
        self.status = "closed"
        self._stop_adapting()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.stop(_CLOSE_S)
        while self._workers:
            self._workers.popitem()[1].close("the cluster was closed")
        self._core_scheduler.stop()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._close_now()

    async def _self(self) -> LocalCluster:
        if self._awaited_workers:
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self._wait_for_start)
        return self

    def __await__(self) -> Generator[Any, None, LocalCluster]:
        return self._self().__await__()

    async def __aenter__(self) -> LocalCluster:
        return await self._self()

    async def __aexit__(self, *exc_info: Any) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self._close_now)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {self.scheduler_address!r}, {self.status}, "
            f"workers={len(self.workers)}, threads={len(self.workers) * self._threads})"
        )

    def _repr_html_(self) -> str:
        from taskloom._html import cluster_rows, table

        rows = [("name", self.name), ("scheduler", self.scheduler_address)]
        if self.status == "running":
            with self._own_client() as client:
                rows += cluster_rows(client)
        return table(type(self).__name__, self.status, rows)


def _lines(newest_first: Any) -> str:
    return "\n".join(text for _level, text in reversed(newest_first))


def _refuse(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise NotImplementedError(f"{name}= is not offered by taskloom's LocalCluster")


def _number(name: str) -> Any:
    return int(name) if name.isdecimal() else name
