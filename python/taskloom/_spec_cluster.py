"""A cluster whose workers are described one by one, of any kind: ``SpecCluster``."""

from __future__ import annotations

import os
import threading

from taskloom._memory import MemorySettings
from taskloom._memory import local_directory as directory_of_workers
from taskloom.cluster import LocalCluster, python_path, worker_command, worker_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Generator
    from typing import Any

    Spec = dict[str, Any]

__all__ = ["Nanny", "ProcessInterface", "Scheduler", "SpecCluster"]

#: Options of distributed's workers that change nothing here.
_NEEDLESS = frozenset(
    ("dashboard", "dashboard_address", "death_timeout", "loop", "protocol", "silence_logs")
)
_SCHEDULER_NEEDLESS = frozenset(
    ("dashboard", "dashboard_address", "loop", "protocol", "http_prefix", "host", "port")
)
_CLOSE_S = 1.0


class Scheduler:
    """Stands for the scheduler in ``SpecCluster(scheduler={'cls': Scheduler, …})``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError(
            "no Python runs in taskloom's scheduler: use LocalCluster, or start "
            "`python -m taskloom scheduler`; as 'cls' in a SpecCluster this class is fine"
        )


class Nanny:
    """Stands for a worker in a process of its own in the specs of a :class:`SpecCluster`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError(
            "worker processes are watched by a supervisor that is not Python: use LocalCluster, or "
            "start `python -m taskloom worker`; as 'cls' in a SpecCluster this class is fine"
        )


class ProcessInterface:
    """Base of own kinds of workers for :class:`SpecCluster`: a job, a container, a remote process.

    The cluster makes one with ``cls(scheduler_address, name=…, **options)`` on an event loop of its
    own, awaits it, and awaits :meth:`close` when the worker is no more wanted. What it starts has
    to run ``python -m taskloom worker SCHEDULER_ADDRESS --name NAME``.

    Parameters
    ----------
    scheduler : str
        The scheduler's address.
    name : str or int

    Attributes
    ----------
    status : str, ``created``, ``running`` or ``closed``
    """

    def __init__(self, scheduler: Any = None, name: Any = None) -> None:
        import asyncio

        self.scheduler = scheduler
        self.name = name
        self.address: Any = getattr(self, "address", None)
        self.external_address: Any = None
        self.status: Any = "created"
        self.lock = asyncio.Lock()
        self._event_finished = asyncio.Event()

    async def start(self) -> None:
        """Start it, or ask for it; the worker may join later. Override this."""
        self.status = "running"

    async def close(self) -> None:
        """End it. Override this, and call it."""
        self.status = "closed"
        self._event_finished.set()

    async def finished(self) -> None:
        """Wait until it is closed."""
        await self._event_finished.wait()

    async def _started(self) -> Any:
        async with self.lock:
            if self.status == "created":
                await self.start()
                self.status = "running"
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        return self._started().__await__()

    async def __aenter__(self) -> Any:
        return await self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.status}>"


class _Member:
    """What one spec became.

    Attributes
    ----------
    names : names of the workers that it stands for
    joins_at_once : whether starting the cluster waits for it
    """

    names: list[Any]
    joins_at_once = True


class _Own(_Member):
    """A worker of the user's class, on the cluster's event loop."""

    #: Nobody knows when its worker joins.
    joins_at_once = False

    def __init__(self, cluster: SpecCluster, name: Any, cls: Any, options: Spec) -> None:
        self._cluster = cluster
        self.shown: Any = cluster._on_loop(self._start(cls, name, options))

    async def _start(self, cls: Any, name: Any, options: Spec) -> Any:
        made = cls(self._cluster.scheduler_address, **{"name": name, **options})
        return await made

    def close(self) -> None:
        self._cluster._on_loop(self.shown.close())


class _Thread(_Member):
    """A worker in threads of this process."""

    def __init__(self, cluster: SpecCluster, name: Any, options: Spec) -> None:
        from taskloom._taskloom import CoreWorker
        from taskloom.worker import Worker

        shape = _shape(options)
        core = CoreWorker(
            str(name),
            nthreads=shape["threads"],
            memory_limit=shape["memory"].limit,
            memory_target=shape["memory"].target,
            max_spill=shape["memory"].max_spill or None,
            resources=shape["resources"] or None,
            local_directory=shape["local_directory"],
            listen=f"tcp://{cluster._host}:0",
            allow_insecure_network=cluster._allow_insecure_network,
        )
        self.shown: Any = Worker(core)
        self.shown.start(cluster._core_scheduler)

    def close(self) -> None:
        self.shown.close("the cluster was scaled down or closed")


class _Process(_Member):
    """A worker in a process of its own, which is started anew if it dies."""

    def __init__(self, cluster: SpecCluster, name: Any, options: Spec) -> None:
        from taskloom._taskloom import CoreSupervisor

        environment = {"PYTHONPATH": python_path(), **(options.pop("env", None) or {})}
        shape = _shape(options)
        self._supervisor = CoreSupervisor(
            cluster._core_scheduler,
            worker_command(
                cluster.scheduler_address,
                host=cluster._host,
                allow_insecure_network=cluster._allow_insecure_network,
                **shape,
            ),
            name=f"{cluster.name}-{name}",
            env=[(str(key), str(value)) for key, value in environment.items()],
            terminate_bytes=shape["memory"].terminate_bytes,
            local_directory=shape["local_directory"],
        )
        self._supervisor.add(str(name))

    @property
    def shown(self) -> Any:
        """Name, pid, status, restarts and last exit of the process."""
        return next(iter(self._supervisor.processes()), None)

    def close(self) -> None:
        self._supervisor.stop(_CLOSE_S)


def _shape(options: Spec) -> Spec:
    """What a worker of ours is like.

    Raises
    ------
    TypeError
        An option that workers do not have.
    """
    options = {name: value for name, value in options.items() if name not in _NEEDLESS}
    threads = int(options.pop("nthreads", None) or options.pop("ncores", None) or 1)
    shape = {
        "threads": threads,
        "memory": MemorySettings(
            worker_memory(options.pop("memory_limit", "auto"), threads), options
        ),
        "resources": {k: float(v) for k, v in (options.pop("resources", None) or {}).items()},
        "local_directory": directory_of_workers(options.pop("local_directory", None)),
    }
    if options:
        raise TypeError(
            f"unknown options of a worker: {sorted(options)}; known are env (of processes), "
            "local_directory, max_spill, memory_limit, memory_target_fraction and its like, "
            "nthreads and resources"
        )
    return shape


def _kind_of(cls: Any) -> str | None:
    """``Worker``, ``Nanny`` or ``Scheduler`` if it stands for one of ours."""
    if isinstance(cls, str):
        root, name = cls.partition(".")[0], cls.rpartition(".")[2]
        is_known = root in ("dask", "distributed", "taskloom", name)
    else:
        name = getattr(cls, "__name__", "")
        is_known = getattr(cls, "__module__", "").partition(".")[0] in ("distributed", "taskloom")
    return name if is_known and name in ("Worker", "Nanny", "Scheduler") else None


def _checked_spec(name: Any, spec: Any) -> Spec:
    if not isinstance(spec, dict) or "cls" not in spec:
        raise TypeError(
            f"the spec of worker {name!r} must be {{'cls': …, 'options': {{…}}}}, not {spec!r}"
        )
    return spec


class SpecCluster(LocalCluster):
    """A cluster whose workers are described one by one.

    The scheduler is in this process. A worker's ``cls`` is ``taskloom.Worker`` (threads of this
    process), ``Nanny`` (a process of its own), or a class of your own, see
    :class:`taskloom.distributed.deploy.spec.ProcessInterface`; names as texts do too.

    Parameters
    ----------
    workers : dict, optional
        ``{name: {'cls': …, 'options': {…}}}``. A spec that stands for several workers has the
        endings of their names under ``'group'``.
    scheduler : dict, optional
        ``{'cls': Scheduler, 'options': {…}}`` with ``host``, ``port``, and what ``LocalCluster``
        takes as ``scheduler_kwargs``.
    worker : dict, optional
        The spec of further workers: for :meth:`scale` and :meth:`adapt`.
    asynchronous : bool
        Starting and closing may be awaited.
    name : str, optional
    loop, silence_logs, shutdown_on_close, scheduler_sync_interval, shutdown_scheduler :
        Accepted for programs written for Dask: the cluster has a loop of its own and ends with its
        process.

    Examples
    --------
    >>> spec = {"cls": "Nanny", "options": {"nthreads": 1}}
    >>> with SpecCluster(workers={"small": spec}, worker=spec) as cluster:
    ...     cluster.scale(2)
    """

    def __init__(
        self,
        workers: dict[Any, Spec] | None = None,
        scheduler: Spec | None = None,
        worker: Spec | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        security: Any = None,
        silence_logs: Any = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: Any = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        self.worker_spec = {k: _checked_spec(k, v) for k, v in (workers or {}).items()}
        self.new_spec = None if worker is None else _checked_spec("of worker=", worker)
        self.scheduler_spec = scheduler or {"cls": Scheduler, "options": {}}
        self._members: dict[Any, Any] = {}
        self._changing = threading.RLock()
        self._is_started = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_number = 0
        options = self._scheduler_options()
        super().__init__(
            name=name or f"{type(self).__name__}-{os.getpid()}-{os.urandom(4).hex()}",
            n_workers=0,
            threads_per_worker=int(((worker or {}).get("options") or {}).get("nthreads") or 1),
            processes=False,
            host=options.get("host"),
            scheduler_port=options.get("port") or 0,
            asynchronous=asynchronous,
            security=security,
            scheduler_kwargs={k: v for k, v in options.items() if k not in _SCHEDULER_NEEDLESS},
        )

    def _scheduler_options(self) -> Spec:
        cls = self.scheduler_spec.get("cls", Scheduler)
        if _kind_of(cls) != "Scheduler":
            raise NotImplementedError(
                f"a scheduler of class {cls!r} is not offered: SpecCluster's scheduler is in this "
                "process; start one elsewhere with `python -m taskloom scheduler` and connect with "
                "Client(address)"
            )
        return dict(self.scheduler_spec.get("options") or {})

    # Members ------------------------------------------------------------------------------

    @property
    def workers(self) -> dict[Any, Any]:
        """What stands behind each name of :attr:`worker_spec`."""
        return {name: member.shown for name, member in self._members.items()}

    @property
    def plan(self) -> set[Any]:
        """Names of the workers that shall run."""
        return {one for name in self.worker_spec for one in self._names_of(name)}

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were started."""
        return {one for member in self._members.values() for one in member.names}

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that have joined."""
        return {worker["name"] for worker in self.scheduler_info["workers"].values()}

    def _names_of(self, name: Any) -> list[Any]:
        group = self.worker_spec.get(name, {}).get("group")
        return [name] if group is None else [f"{name}{ending}" for ending in group]

    def new_worker_spec(self) -> dict[Any, Spec]:
        """Name and spec of one more worker. Subclasses may override it.

        Raises
        ------
        ValueError
            The cluster was made without ``worker=``.
        """
        if self.new_spec is None:
            raise ValueError("scaling up needs worker=: the spec of further workers")
        while self._next_number in self.worker_spec:
            self._next_number += 1
        return {self._next_number: self.new_spec}

    def _correct_state(self) -> None:
        """Start and end workers until they are those of :attr:`worker_spec`."""
        with self._changing:
            surplus = [name for name in self._members if name not in self.worker_spec]
            if surplus:
                names = [str(one) for name in surplus for one in self._members[name].names]
                with self._own_client() as client:
                    client.retire_workers(names)
                for name in surplus:
                    self._members.pop(name).close()
            for name, spec in self.worker_spec.items():
                if name not in self._members:
                    member = self._start_member(name, spec)
                    member.names = self._names_of(name)
                    self._members[name] = member

    def _start_member(self, name: Any, spec: Spec) -> Any:
        cls, options = spec["cls"], dict(spec.get("options") or {})
        kind = _kind_of(cls)
        if kind == "Worker":
            return _Thread(self, options.pop("name", name), options)
        if kind == "Nanny":
            return _Process(self, options.pop("name", name), options)
        if kind == "Scheduler":
            raise TypeError(f"the spec of worker {name!r} names a scheduler")
        if isinstance(cls, str):
            from taskloom.distributed._support import import_term

            cls = import_term(cls)
        return _Own(self, name, cls, options)

    def _on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the cluster's event loop, and wait for its result."""
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(
                target=self._loop.run_forever, name="taskloom-spec", daemon=True
            ).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # What LocalCluster does with its workers ----------------------------------------------

    def _wait_for_start(self) -> None:
        self._is_started = True
        try:
            self._correct_state()
        except BaseException:
            self._close_now()
            raise
        self._awaited_workers = sum(member.joins_at_once for member in self._members.values())
        super()._wait_for_start()

    async def _self(self) -> SpecCluster:
        if not self._is_started:
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self._wait_for_start)
        return self

    def _scale_now(self, n: int) -> None:
        if n < 0:
            raise ValueError(f"a cluster cannot have {n} workers")
        if self.status == "created":
            return
        with self._changing:
            while len(self.worker_spec) > n:
                self.worker_spec.popitem()
            self._add_workers(n - len(self.worker_spec))

    def _add_workers(self, count: int) -> None:
        with self._changing:
            for _ in range(count):
                self.worker_spec.update(self.new_worker_spec())
            self._correct_state()

    def _present(self) -> list[str]:
        return [str(name) for name in self.requested]

    def _forget_retired(self, names: list[str]) -> None:
        with self._changing:
            for name, member in list(self._members.items()):
                if all(str(one) in names for one in member.names):
                    self.worker_spec.pop(name, None)
                    self._members.pop(name).close()

    def _close_now(self) -> None:
        if self.status == "closed":
            return
        self._stop_adapting()
        with self._changing:
            while self._members:
                self._close_member(self._members.popitem()[1])
        super()._close_now()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _close_member(self, member: Any) -> None:
        try:
            member.close()
        except Exception:
            import logging

            logging.getLogger("taskloom").exception("a worker of %s did not close", self.name)
