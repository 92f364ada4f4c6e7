"""The client: what programs give work to."""

from __future__ import annotations

import os
import sys

from taskloom import _default, _registry
from taskloom._collections import Collections
from taskloom._connecting import SchedulerFile, refuse_unoffered
from taskloom._drive import run, run_async, running_loop
from taskloom._events import Events, forget_client, start_listening
from taskloom._information import Information
from taskloom._operations import Operations
from taskloom._options import make_options
from taskloom._registry import fire_and_forget, futures_of
from taskloom._replay import Replay
from taskloom._setups import Setups
from taskloom._sharing import Sharing
from taskloom._streams import Streams
from taskloom._task_stream import TaskStream
from taskloom._taskloom import CoreClient
from taskloom._transfers import Transfers
from taskloom.future import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Collection, Generator, Iterable
    from contextlib import AbstractContextManager
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._loop import LoopShim
    from taskloom._policy import Retry
    from taskloom._scheduler_rpc import SchedulerQuestions

__all__ = ["Client", "fire_and_forget", "futures_of"]

_FIFO_TIMEOUT = "100 ms"
_FIFO_US = 100_000


def _fifo_us(fifo_timeout: Any) -> int:
    if fifo_timeout is _FIFO_TIMEOUT or fifo_timeout == _FIFO_TIMEOUT:
        return _FIFO_US
    from taskloom.utils import parse_seconds

    return int((parse_seconds(fifo_timeout) or 0.0) * 1e6)


class Client(
    Transfers,
    Collections,
    Information,
    Replay,
    Events,
    Setups,
    Operations,
    Sharing,
    Streams,
    TaskStream,
):
    """Connection to a cluster: submits functions and graphs, gets results.

    Parameters
    ----------
    address : str, cluster or None
        Address of a scheduler such as ``tcp://127.0.0.1:8786``, or an object with a
        ``scheduler_address``. ``None``: the address in ``TASKLOOM_SCHEDULER_ADDRESS`` or
        ``DASK_SCHEDULER_ADDRESS``, else a :class:`~taskloom.LocalCluster` is made from the
        other keywords and closed with the client.
    loop : tornado IOLoop or None
        Accepted for programs written for Dask; the loop that runs is used.
    timeout : float, str or timedelta
        How long connecting may take; by default the setting
        ``distributed.comm.timeouts.connect`` of dask, else 30 s.
    set_as_default : bool, default True
        Make this client the default one, of dask too, until it is closed.
    scheduler_file : str, optional
        File in which a scheduler wrote its address.
    security : not offered yet
        Connections prove a shared token (``TASKLOOM_TOKEN``).
    asynchronous : bool, default False
        Methods that need an answer return awaitables.
    name : str, optional
        Shown in ``scheduler_info`` and in logs.
    direct_to_workers : bool, optional
        ``False``: values always travel by way of the scheduler. Otherwise those of workers that
        this process cannot reach do (see ``scheduler_info()["relay"]``), all others directly.
    heartbeat_interval, connection_limit : accepted and not needed
        Liveness is the connection's own, and a peer has one connection.
    serializers, deserializers, extensions : not offered
    strict_keys : bool, default False
        Reusing a live key for other work is a ``KeyCollisionError`` in place of a warning.
    **kwargs : for :class:`~taskloom.LocalCluster`

    Raises
    ------
    UnreachableError
        No scheduler answers, or it refuses this client.
    ValueError
        Keywords for a cluster beside an address.
    NotImplementedError
        A keyword that is not offered, with what to do instead.

    Examples
    --------
    >>> with Client(n_workers=2, threads_per_worker=1) as client:
    ...     futures = client.map(abs, [-1, -2])
    ...     client.gather(futures)
    [1, 2]
    """

    def __init__(
        self,
        address: Any = None,
        loop: Any = None,
        timeout: Any = None,
        set_as_default: bool = True,
        scheduler_file: str | None = None,
        security: Any = None,
        asynchronous: bool = False,
        name: str | None = None,
        heartbeat_interval: Any = None,
        serializers: Any = None,
        deserializers: Any = None,
        extensions: Any = None,
        direct_to_workers: bool | None = None,
        connection_limit: int = 512,
        *,
        strict_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_unoffered(security, serializers, deserializers, extensions)
        self.status = "connecting"
        self.name = name
        self.cluster: Any = None
        self.direct_to_workers = direct_to_workers
        self._given_loop = loop
        self._loop_shim: LoopShim | None = None
        #: The asyncio loop behind :attr:`loop`, once somebody has asked for it.
        self._own_loop: Any = None
        self._strict_keys = strict_keys
        self._set_as_default = set_as_default
        self._asynchronous = bool(asynchronous)
        self._owns_cluster = False
        # A worker's own client does not print what tasks print.
        self._shows_events = not getattr(address, "is_of_worker", False)
        self._core: CoreClient = None  # type: ignore[assignment]
        self._scope: Any = None
        self.id = f"{name or 'Client'}-{os.getpid()}-{os.urandom(6).hex()}"
        self._timeout = self._parse_timeout(timeout)
        target = self._find_target(address, scheduler_file, kwargs)
        if target is None:
            self._connect_to_own_cluster(kwargs)
        elif self._waits_for_await(target):
            # Connecting takes time that belongs to the event loop: done by `await`.
            self._target: str | SchedulerFile | None = target
            return
        else:
            self._connect(target)
        self._target = None

    if not TYPE_CHECKING:  # a type checker shall find what is missing

        def __getattr__(self, name: str) -> Any:
            from taskloom._not_offered import CLIENT, missing

            raise missing(self, type(self).__name__, name, CLIENT)

    @staticmethod
    def _parse_timeout(timeout: Any) -> float:
        from taskloom.utils import parse_seconds

        if timeout is None:
            from taskloom._config import setting

            timeout = setting("distributed.comm.timeouts.connect")
        seconds = parse_seconds(timeout)
        return 30.0 if seconds is None else seconds

    def _find_target(self, address: Any, scheduler_file: str | None, kwargs: Any) -> Any:
        if address is not None and kwargs:
            raise ValueError(f"unexpected keyword arguments beside an address: {sorted(kwargs)}")
        if scheduler_file is not None:
            if address is not None:
                raise ValueError("give an address or a scheduler_file, not both")
            return SchedulerFile(scheduler_file)
        if address is None and not kwargs:
            address = os.environ.get("TASKLOOM_SCHEDULER_ADDRESS")
        if address is None and not kwargs:
            from taskloom._config import setting

            address = setting("scheduler-address")
        if address is None or isinstance(address, str):
            return address
        if isinstance(getattr(address, "scheduler_address", None), str):
            self.cluster = address
            return address
        raise TypeError(
            f"address must be a str or a cluster with a scheduler_address, not {address!r}"
        )

    def _waits_for_await(self, target: Any) -> bool:
        is_elsewhere = isinstance(target, (str, SchedulerFile))
        return is_elsewhere and self._asynchronous and running_loop() is not None

    # Connecting ---------------------------------------------------------------------------

    def _connect_to_own_cluster(self, kwargs: Any) -> None:
        from taskloom.cluster import LocalCluster

        self.cluster = LocalCluster(asynchronous=self._asynchronous, **kwargs)
        self._owns_cluster = True
        try:
            self._connect(self.cluster)
        except BaseException:
            self.cluster._close_now()
            raise

    def _connect(self, target: Any) -> None:
        if isinstance(target, SchedulerFile):
            target = target.read(self._timeout)
        scheduler = getattr(target, "_core_scheduler", None)
        if scheduler is not None:
            core = scheduler.connect(
                self.id, Future, strict=self._strict_keys, worker=_worker_of(target)
            )
        else:
            address = target if isinstance(target, str) else target.scheduler_address
            core = CoreClient.connect(
                address,
                self.id,
                Future,
                timeout=self._timeout,
                strict=self._strict_keys,
                worker=_worker_of(target),
                relayed=self.direct_to_workers is False,
            )
        self._scheduler_address = target if isinstance(target, str) else target.scheduler_address
        self._core = core
        self._opened()

    def _opened(self) -> None:
        from taskloom import _lifetime

        self.status = "running"
        _registry.add(self)
        _lifetime.register_client(self)
        start_listening(self, shows=self._shows_events)
        if self._set_as_default:
            _default.push(self)

    async def _start(self) -> Client:
        if self._target is not None:
            import asyncio

            target, self._target = self._target, None
            loop = asyncio.get_running_loop()
            address, self._core = await loop.run_in_executor(None, self._connect_apart, target)
            self._scheduler_address = address
            self._opened()
        if self._owns_cluster:
            await self.cluster
        return self

    def _connect_apart(self, target: str | SchedulerFile) -> tuple[str, CoreClient]:
        """On a thread of its own, for an asynchronous client."""
        address = target if isinstance(target, str) else target.read(self._timeout)
        core = CoreClient.connect(
            address,
            self.id,
            Future,
            timeout=self._timeout,
            strict=self._strict_keys,
            relayed=self.direct_to_workers is False,
        )
        return address, core

    def start(self, **kwargs: Any) -> Any:
        """Connect an asynchronous client, as ``await client`` does; nothing for others."""
        if self._asynchronous and running_loop() is not None:
            return self._start()
        return None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._start().__await__()

    def __enter__(self) -> Client:
        if self._asynchronous:
            raise TypeError("use 'async with' with an asynchronous client")
        self._enter_scope()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._leave_scope()
        self._close_now()

    async def __aenter__(self) -> Client:
        await self._start()
        self._enter_scope()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._leave_scope()
        await self._close_async()

    def _enter_scope(self) -> None:
        """A default client is the current one in its ``with`` block, whatever comes later."""
        if self._set_as_default:
            from taskloom._scoped import scoped_client

            self._scope = scoped_client.set(self)

    def _leave_scope(self) -> None:
        if self._scope is not None:
            from taskloom._scoped import leave

            scope, self._scope = self._scope, None
            leave(scope)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Client:
        # dask's configuration holds the default client, and programs copy the configuration.
        return self

    def _self(self) -> Client:
        return self

    @property
    def asynchronous(self) -> bool:
        """Whether methods that need an answer return awaitables.

        So they do in any client on the thread of its own :attr:`loop`, where blocking would wait
        for itself.
        """
        return self._asynchronous or self._is_on_own_loop()

    def _is_on_own_loop(self) -> bool:
        loop = self._own_loop
        return loop is not None and loop is running_loop()

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler listens."""
        return self._scheduler_address

    @property
    def scheduler(self) -> SchedulerQuestions:
        """The scheduler, for libraries that talk to it past the client's methods."""
        from taskloom._scheduler_rpc import SchedulerQuestions

        return SchedulerQuestions(self)

    @property
    def loop(self) -> Any:
        """An event loop with ``add_callback``, ``call_later`` and ``asyncio_loop``.

        With an asynchronous client it is the loop on which the client was made.
        """
        given = getattr(self._given_loop, "asyncio_loop", None)
        if given is not None and given.is_running():
            self._own_loop = given
            return self._given_loop
        if self._loop_shim is None:
            from taskloom._loop import LoopShim

            self._loop_shim = LoopShim(running_loop() if self._asynchronous else None)
        self._own_loop = self._loop_shim.asyncio_loop
        return self._loop_shim

    @property
    def futures(self) -> dict[Any, str]:
        """Keys that futures of this client hold, with their status."""
        return dict(self._core.held())

    def sync(
        self,
        func: Callable[..., Any],
        *args: Any,
        asynchronous: Any = None,
        callback_timeout: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run a coroutine function: awaitable with an asynchronous client, else by blocking.

        Parameters
        ----------
        callback_timeout : seconds, or a text such as ``'1 s'``

        Raises
        ------
        TimeoutError
            The coroutine is not done in time; it is cancelled.
        """
        from taskloom._loop import limited, sync
        from taskloom.utils import parse_seconds

        if self.asynchronous if asynchronous is None else asynchronous:
            return limited(func(*args, **kwargs), parse_seconds(callback_timeout))
        return sync(self.loop, func, *args, callback_timeout=callback_timeout, **kwargs)

    def write_scheduler_file(self, scheduler_file: str) -> None:
        """Write the scheduler's address to a file, for ``Client(scheduler_file=…)``.

        Raises
        ------
        ValueError
            The scheduler can be reached from this process only.
        """
        import json

        info = self.scheduler_info(n_workers=0)
        with open(scheduler_file, "w", encoding="utf-8") as file:
            json.dump({"type": info["type"], "id": info["id"], "address": info["address"]}, file)

    # Work ---------------------------------------------------------------------------------

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: dict[str, float] | None = None,
        retries: int | Retry | None = None,
        priority: int = 0,
        fifo_timeout: Any = _FIFO_TIMEOUT,
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: Any,
    ) -> Future:
        """Run ``func(*args, **kwargs)`` on a worker; return a future at once.

        Futures among the arguments, also inside lists, tuples, sets and dicts, are replaced by
        their results where the task runs.

        Parameters
        ----------
        key : str or tuple, optional
            Name of the task; equal keys mean the same task. Made from function and arguments
            when ``pure``.
        workers : address, name, host name, or a list of them, optional
            Where the task may run.
        resources : dict, optional
            Abstract resources that it occupies, such as ``{'GPU': 1}``.
        retries : int or Retry, default 0
            Further attempts after it raised. A lost worker does not count. A
            :class:`~taskloom.Retry` says also when, and after which exceptions.
        priority : int, default 0
            Larger runs earlier.
        fifo_timeout : str or float in seconds
            Calls this close together share one place in the order.
        allow_other_workers : bool
            Whether others may run it when none of ``workers`` is there.
        actor, actors : bool
            Whether the result is to live on its worker as an actor: the future's result is then a
            proxy, :class:`~taskloom.Actor`. See :func:`taskloom.actor` for restarts.
        pure : bool, default True
            Whether equal calls may share one run.
        **kwargs : for ``func``

        Raises
        ------
        ClosedClientError
            The client was closed: create a new one.
        TypeError
            ``func`` is not callable; ``key`` is no key; something cannot be pickled.
        """
        if not callable(func):
            raise TypeError(f"first input to submit must be a callable function, got {func!r}")
        options = None
        is_actor = actor or actors
        if is_actor:
            # Two actors are never one, however equal their calls.
            pure = False
        if (
            is_actor
            or workers is not None
            or resources
            or retries
            or priority
            or allow_other_workers
            or self._given_options
            or "dask.base" in sys.modules
        ):
            options = make_options(
                workers,
                allow_other_workers,
                resources,
                retries,
                priority,
                self._given_options,
                is_actor,
            )
        try:
            submit = self._core.submit
        except AttributeError:
            raise self._not_connected() from None
        return submit(
            func,
            args,
            kwargs or None,
            key=key,
            pure=pure,
            options=options,
            fifo_us=_fifo_us(fifo_timeout),
        )

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Collection[Any],
        key: Any = None,
        workers: Any = None,
        retries: int | Retry | None = None,
        resources: dict[str, float] | None = None,
        priority: int = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = _FIFO_TIMEOUT,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future]:
        """Run ``func`` once per item; several iterables are zipped, the shortest ends it.

        Parameters
        ----------
        key : str, list or tuple of keys, optional
            A prefix for all keys, or one key per call.
        batch_size : int, optional
            Accepted; calls are always sent in batches.
        **kwargs : for every call of ``func``

        Other parameters are those of :meth:`submit`.

        Raises
        ------
        TypeError
            An iterator in place of a collection: it might never end.
        """
        if not callable(func):
            raise TypeError(f"first input to map must be a callable function, got {func!r}")
        for iterable in iterables:
            if hasattr(iterable, "__next__") or hasattr(iterable, "get_nowait"):
                raise TypeError("map takes collections, not iterators or queues: use list(…)")
        keys, prefix = _map_keys(key, iterables)
        is_actor = actor or actors
        pure = pure and not is_actor
        options = make_options(
            workers,
            allow_other_workers,
            resources,
            retries,
            priority,
            self._given_options,
            is_actor,
        )
        if self._core is None:
            raise self._not_connected()
        return self._core.map(
            func,
            iterables,
            kwargs or None,
            keys=keys,
            prefix=prefix,
            pure=pure,
            options=options,
            fifo_us=_fifo_us(fifo_timeout),
        )

    def _not_connected(self) -> Exception:
        from taskloom.errors import ClosedClientError

        if self.status == "connecting":
            return RuntimeError("the asynchronous client is not connected yet: await it first")
        return ClosedClientError("the client is closed")

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        """Run a call: by blocking, or as a coroutine."""
        self._show_notices()
        is_async = self.asynchronous if asynchronous is None else asynchronous
        return (run_async if is_async else run)(steps, timeout)

    def _show_notices(self) -> None:
        if self._core is None:
            raise self._not_connected()
        for key, kept, refused in self._core.take_notices():
            import warnings

            from taskloom.errors import KeyCollisionWarning

            if key is None:
                warnings.warn(kept, UserWarning, stacklevel=4)
            else:
                text = f"key {key!r} is in use for {kept}, which is kept, not for {refused}"
                warnings.warn(text, KeyCollisionWarning, stacklevel=4)

    def cancel(
        self,
        futures: Any,
        asynchronous: bool | None = None,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
    ) -> Any:
        """Cancel tasks, and those that depend on them; their futures raise ``CancelledError``.

        A task that runs is interrupted: :class:`~taskloom.TaskCancelled` is raised in it, at its
        next Python instruction; a coroutine is cancelled. One that runs on, in C code for
        instance, keeps nobody waiting.

        Parameters
        ----------
        futures : future, collection, or nested containers of them
        force : bool
            Also when other clients want the results; and the worker process of a task that does
            not end within its ``cancel_grace`` (default 5 s) is replaced.
        reason, msg : shown in the exception
        """
        return self._drive(self._cancel_steps(futures, force, reason, msg), asynchronous)

    def _cancel_steps(
        self, futures: Any, force: bool, reason: str | None, msg: str | None
    ) -> Steps[None]:
        self._core.cancel(futures_of(futures), force, reason or "unknown", msg or "")
        yield self._core.ask("barrier")

    def retry(self, futures: Any, asynchronous: bool | None = None) -> Any:
        """Run failed tasks again, and the failed ones that they depend on."""
        return self._drive(self._retry_steps(futures), asynchronous)

    def _retry_steps(self, futures: Any) -> Steps[None]:
        self._core.retry(futures_of(futures))
        yield self._core.ask("barrier")

    # Executor -----------------------------------------------------------------------------

    def get_executor(self, **kwargs: Any) -> concurrent.futures.Executor:
        """A ``concurrent.futures.Executor`` that runs its calls on this cluster.

        Parameters
        ----------
        **kwargs : ``pure``, ``workers``, ``retries``, ``resources``, ``priority``,
            ``allow_other_workers``, ``fifo_timeout``, for all its calls

        Raises
        ------
        TypeError
            Another keyword.
        """
        from taskloom._executor import ClientExecutor

        return ClientExecutor(self, **kwargs)

    # The default client -------------------------------------------------------------------

    @classmethod
    def current(cls, allow_global: bool = True) -> Client:
        """The client of this context (:meth:`as_current`), else the default one.

        Raises
        ------
        ValueError
            There is none.
        """
        from taskloom._scoped import scoped_client

        client = scoped_client.get(None)
        if client is None and allow_global:
            client = _default.current()
        if client is None:
            raise ValueError("no clients found; start one with taskloom.Client()")
        return client

    def as_current(self) -> AbstractContextManager[Client]:
        """Make this client the current one within a ``with`` block, for this thread or task."""
        return _as_current(self)

    # Closing ------------------------------------------------------------------------------

    def close(self, timeout: Any = None) -> Any:
        """Leave the cluster; futures of this client are cancelled, own clusters closed."""
        if self._asynchronous and running_loop() is not None:
            return self._close_async()
        self._close_now()
        return None

    def _close_now(self, reason: str = "closed by the program") -> None:
        if self.status == "closed":
            return
        self.status = "closed"
        _default.remove(self)
        if self._scheduler_plugins is not None:
            self._scheduler_plugins.close()
        forget_client(self)
        if self._core is not None:
            self._core.close(reason)
        if self._owns_cluster:
            self.cluster._close_now()
        if self._loop_shim is not None:
            self._loop_shim.close()

    async def _close_async(self) -> None:
        if self.status == "closed":
            return
        import asyncio

        # Processes take a moment to end: the loop goes on meanwhile.
        await asyncio.get_running_loop().run_in_executor(None, self._close_now)

    def shutdown(self) -> Any:
        """End the scheduler and the workers, and close this client."""
        if self._asynchronous and running_loop() is not None:
            return self._shutdown_async()
        self._shutdown_now()
        return None

    def _shutdown_now(self) -> None:
        from contextlib import suppress

        from taskloom.errors import ClosedClientError, SchedulerError

        if self.cluster is None and self.status == "running":
            # It may end before it has answered.
            with suppress(ClosedClientError, SchedulerError, TimeoutError):
                self._core.ask("shutdown").block(10.0)
        self._close_now("the cluster was shut down")
        if self.cluster is not None:
            self.cluster._close_now()

    async def _shutdown_async(self) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self._shutdown_now)

    def __repr__(self) -> str:
        if self.status != "running":
            return f"<{type(self).__name__}: {self.status}>"
        return f"<{type(self).__name__}: {self._scheduler_address!r} id: {self.id}>"

    def _repr_html_(self) -> str:
        from taskloom._html import client_html

        return client_html(self)


class _as_current:
    """Context manager of :meth:`Client.as_current`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __enter__(self) -> Client:
        from taskloom._scoped import scoped_client

        self._token = scoped_client.set(self._client)
        return self._client

    def __exit__(self, *exc_info: Any) -> None:
        from taskloom._scoped import scoped_client

        scoped_client.reset(self._token)


def _worker_of(target: Any) -> str:
    """The address of the worker whose tasks use a client of this target, or nothing."""
    worker: str = getattr(target, "_worker_address", "")
    return worker


def _map_keys(key: Any, iterables: Iterable[Any]) -> tuple[list[Any] | None, str | None]:
    """The keys of a ``map``: a list of keys, or a prefix."""
    if key is None or isinstance(key, str):
        return None, key
    keys = list(key)
    calls = min((len(iterable) for iterable in iterables), default=0)
    if len(keys) != calls:
        raise ValueError(f"key= must have one key per call: {calls} calls, {len(keys)} keys")
    return keys, None
