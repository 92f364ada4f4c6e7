"""A backend of joblib: ``Parallel`` calls run on the cluster.

Importing this module registers it:

>>> import joblib, taskloom.joblib
>>> with taskloom.Client(n_workers=2), joblib.parallel_config(backend="taskloom"):
...     joblib.Parallel()(joblib.delayed(abs)(i) for i in (-1, -2))
[1, 2]
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from traceback import format_exception
from typing import Any
from uuid import uuid4

from joblib import parallel_config, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from taskloom import _taskloom
from taskloom._inside import get_client
from taskloom._sizes import size_of
from taskloom._taskloom import CompletionQueue
from taskloom.client import Client
from taskloom.errors import ClosedClientError, SchedulerError
from taskloom.future import Future

__all__ = ["TaskloomBackend"]

#: Arguments from this size on, in bytes, are put on the workers once and not sent with each call.
_SCATTER_FROM = 8192

_SUBMIT_OPTIONS = frozenset(
    ("workers", "resources", "retries", "priority", "fifo_timeout", "allow_other_workers")
)

#: A call as joblib describes it: function, positional and keyword arguments.
_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class TaskloomBackend(AutoBatchingMixin, ParallelBackendBase):
    """What ``joblib.parallel_config(backend='taskloom', **options)`` makes.

    Parameters
    ----------
    scheduler_host : str, optional
        Address of a scheduler to connect to; by default the client of the task that runs here,
        or the program's default client.
    scatter : list or tuple, optional
        Objects that many calls use as arguments: put on every worker once. They are recognised
        by identity.
    client : Client, optional
        The client to use.
    loop : accepted for programs written for Dask
    wait_for_workers_timeout : float in seconds, default 10
        How long a ``Parallel`` call waits for a first worker; 0 does not wait.
    nesting_level : given by joblib
    **submit_options : ``workers``, ``resources``, ``retries``, ``priority``, ``fifo_timeout``,
        ``allow_other_workers``, for all tasks; see :meth:`taskloom.Client.submit`

    Raises
    ------
    ValueError
        There is no client: create one.
    TypeError
        ``scatter`` is no list or tuple, or an option is unknown.

    Notes
    -----
    As with Dask's backend, ``n_jobs`` is how many threads the cluster has, whatever is asked
    for, and tasks are never shared between equal calls. ``Parallel`` inside a call runs on the
    same cluster; meanwhile the outer call leaves its slot.
    """

    # joblib's batches hide the overhead of a pool, some 100 ms; ours is below a millisecond.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.5
    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        scheduler_host: str | None = None,
        scatter: Any = None,
        client: Client | None = None,
        loop: Any = None,
        wait_for_workers_timeout: float = 10,
        nesting_level: int | None = None,
        **submit_options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        _check_options(scatter, submit_options)
        self.wait_for_workers_timeout = wait_for_workers_timeout
        self.submit_options = submit_options
        found = client or _find_client(scheduler_host)
        self._client: Client | None = found
        self._context = copy_context()
        self._call: _ParallelCall | None = None
        #: The objects are kept: their identities must not pass to others.
        self._scattered: dict[int, tuple[Any, Future]] = {}
        if scheduler_host and client is None:
            # joblib does not say when a backend is done.
            weakref.finalize(self, found._close_now)
        if scatter:
            values = list(scatter)
            futures = found.scatter(values, broadcast=True, hash=False, asynchronous=False)
            pairs = zip(values, futures, strict=True)
            self._scattered = {id(value): (value, future) for value, future in pairs}

    @property
    def client(self) -> Client:
        """The client that runs the calls."""
        if self._client is None:
            # The task's context, also on threads that the task has started.
            self._client = self._context.copy().run(_find_client, None)
        return self._client

    # A backend goes to workers inside results and nested calls: there it has their client.
    def __reduce__(self) -> Any:
        return _nested_backend, (self.nesting_level,)

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int]:
        """The backend of ``Parallel`` calls inside tasks: the same cluster."""
        return _nested_backend((self.nesting_level or 0) + 1), -1

    # Size ---------------------------------------------------------------------------------

    def configure(self, n_jobs: int = 1, parallel: Any = None, **local_options: Any) -> int:
        """Prepare for the calls of one ``Parallel``; how many may run at a time.

        joblib's ``local_options`` are about processes of this machine and its shared memory.
        """
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """How many threads the workers have; waits for a first worker.

        Raises
        ------
        TimeoutError
            There is no worker within ``wait_for_workers_timeout`` seconds.
        """
        threads = self._count_threads()
        if threads == 0 and self.wait_for_workers_timeout:
            self._wait_for_worker(float(self.wait_for_workers_timeout))
            threads = self._count_threads()
        # joblib runs calls for one job in this process, where `workers=` and `resources=`
        # would mean nothing.
        return 2 if threads == 1 else threads

    def _count_threads(self) -> int:
        client = self.client
        return sum(client._drive(client._nthreads_steps(None), False).values())

    def _wait_for_worker(self, timeout: float) -> None:
        # A task, since adaptive clusters start workers for tasks only.
        probe = self.client.submit(_probe, pure=False, **self.submit_options)
        try:
            probe._result(timeout)
        except TimeoutError:
            raise TimeoutError(
                f"{type(self).__name__} has no worker after {timeout:g} seconds. Start workers "
                f"that can reach the scheduler at {self.client.scheduler_address}, or wait "
                f"longer: parallel_config(backend='taskloom', "
                f"wait_for_workers_timeout={max(10, 2 * timeout):g})"
            ) from None

    # One call of Parallel -----------------------------------------------------------------

    def start_call(self) -> None:
        """A ``Parallel`` object is called."""
        self._call = _ParallelCall(self.client)

    def stop_call(self) -> None:
        """The call is over."""
        call, self._call = self._call, None
        if call is not None:
            call.stop()

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future:
        """Run joblib's batch of calls as one task; ``callback`` gets its outcome."""
        call = self._call
        if call is None:
            raise RuntimeError("a batch was submitted outside of a Parallel call")
        calls: list[_Call] = func.items
        task = _Batch(_shared_function(calls))
        future = self.client.submit(
            task,
            [call.with_futures(item, self._scattered, task.function) for item in calls],
            self.nesting_level or 0,
            key=f"{_describe(calls)}-{uuid4().hex}",
            pure=False,
            **self.submit_options,
        )
        call.watch(future, callback)
        return future

    def retrieve_result_callback(self, out: tuple[bool, Any]) -> Any:
        """The results of a batch, or what it raised."""
        ok, value = out
        if ok:
            return value
        if value.__cause__ is None and value.__traceback__ is not None:
            # joblib drops the traceback: where the call failed stays visible as the cause.
            lines = format_exception(type(value), value, value.__traceback__)
            value.__cause__ = _WorkerTraceback("".join(lines))
        raise value

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the tasks of the current call."""
        if self._call is not None:
            self._call.cancel()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Leave the slot of the task that waits for the results of nested calls."""
        left = _taskloom.in_task() and _taskloom.secede()
        try:
            yield
        finally:
            if left:
                _taskloom.rejoin()


class _WorkerTraceback(Exception):
    """Shown as the cause of a call's exception: its traceback on the worker, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class _ParallelCall:
    """The tasks of one call of ``Parallel``, and the thread that reports their ends to joblib."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue = CompletionQueue()
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Future, Callable[[Any], Any] | None]] = {}
        self._last = 0
        #: Large arguments by identity, as long as they live and the call goes on.
        self._data: dict[int, tuple[weakref.ref[Any], Future]] = {}
        threading.Thread(target=self._report, name="taskloom-joblib", daemon=True).start()

    def watch(self, future: Future, callback: Callable[[Any], Any] | None) -> None:
        """Call ``callback((ok, results or exception))`` when the task is done."""
        with self._lock:
            self._last += 1
            token = self._last
            self._waiting[token] = (future, callback)
        self._queue.watch(future, token)

    def _report(self) -> None:
        while tokens := self._queue.receive():
            with self._lock:
                done = [self._waiting.pop(token) for token in tokens if token in self._waiting]
            outcomes = self._outcomes([future for future, _ in done])
            for (_, callback), outcome in zip(done, outcomes, strict=True):
                if callback is not None:
                    callback(outcome)
            # Nothing is kept while this thread waits.
            del done, outcomes

    def _outcomes(self, futures: list[Future]) -> list[tuple[bool, Any]]:
        if not futures:
            return []
        try:
            found: list[tuple[bool, Any]] = self._client._core.gather(futures, False).block(None)
        except BaseException as error:  # noqa: BLE001 - joblib raises it where it waits
            return [(False, error)] * len(futures)
        return found

    def cancel(self) -> None:
        """Cancel what is not done."""
        with self._lock:
            futures = [future for future, _ in self._waiting.values()]
            self._waiting.clear()
        if not futures:
            return
        with suppress(ClosedClientError, SchedulerError):
            self._client._core.cancel(futures, False, "joblib", "the Parallel call was aborted")
            self._client._core.flush()

    def stop(self) -> None:
        """Report nothing further."""
        with self._lock:
            self._waiting.clear()
            self._data.clear()
        self._queue.close()

    def with_futures(
        self, call: _Call, scattered: dict[int, tuple[Any, Future]], shared: Any
    ) -> tuple[Any, ...]:
        """The call as the task takes it: large arguments are futures."""
        function, args, kwargs = call
        values = [*args, *kwargs.values()]
        new = {id(v): v for v in values if id(v) not in scattered and self._is_new(v)}
        if new:
            self._scatter(list(new.values()))
        sent = [self._replaced(value, scattered) for value in values]
        named = dict(zip(kwargs, sent[len(args) :], strict=True))
        return (None if shared is not None else function, sent[: len(args)], named)

    def _is_new(self, value: Any) -> bool:
        return (
            not isinstance(value, Future)
            and type(value).__weakrefoffset__ != 0
            and id(value) not in self._data
            and size_of(value) >= _SCATTER_FROM
        )

    def _scatter(self, values: list[Any]) -> None:
        # Not by content: hashing takes longer than sending.
        futures = self._client.scatter(values, hash=False, asynchronous=False)
        for value, future in zip(values, futures, strict=True):
            number = id(value)
            forget = self._forgetter(number)
            self._data[number] = (weakref.ref(value, forget), future)

    def _forgetter(self, number: int) -> Callable[[Any], None]:
        data = self._data
        return lambda _dead: data.pop(number, None) and None

    def _replaced(self, value: Any, scattered: dict[int, tuple[Any, Future]]) -> Any:
        known = scattered.get(id(value))
        if known is not None:
            return known[1]
        entry = self._data.get(id(value))
        return value if entry is None or entry[0]() is not value else entry[1]


class _Batch:
    """The function of a task that runs several calls.

    Parameters
    ----------
    function : the one that all calls call, sent to each worker once; ``None``: each call has
        its own
    """

    def __init__(self, function: Callable[..., Any] | None) -> None:
        self.function = function

    def __call__(self, calls: list[tuple[Any, ...]], nesting_level: int) -> list[Any]:
        with parallel_config(backend=_nested_backend(nesting_level + 1), n_jobs=-1):
            if self.function is not None:
                return [self.function(*args, **kwargs) for _, args, kwargs in calls]
            return [function(*args, **kwargs) for function, args, kwargs in calls]


def _nested_backend(nesting_level: int | None) -> TaskloomBackend:
    """A backend for use inside a task: finds its client at first use."""
    backend = TaskloomBackend.__new__(TaskloomBackend)
    AutoBatchingMixin.__init__(backend, nesting_level=nesting_level)
    backend.wait_for_workers_timeout = 10
    backend.submit_options = {}
    backend._client = None
    backend._context = copy_context()
    backend._call = None
    backend._scattered = {}
    return backend


def _check_options(scatter: Any, options: dict[str, Any]) -> None:
    if scatter is not None and not isinstance(scatter, (list, tuple)):
        raise TypeError(f"scatter must be a list/tuple, got `{type(scatter).__name__}`")
    unknown = sorted(set(options) - _SUBMIT_OPTIONS)
    if unknown:
        raise TypeError(
            f"unknown options for the joblib backend 'taskloom': {unknown}; "
            f"known: {sorted(_SUBMIT_OPTIONS)}"
        )


def _find_client(address: str | None) -> Client:
    if address:
        return Client(address, set_as_default=False)
    try:
        return get_client()
    except ValueError:
        raise ValueError(
            "To use joblib with taskloom, first create a taskloom Client:\n\n"
            "    from taskloom import Client\n"
            "    client = Client()\n"
            "or\n"
            "    client = Client('tcp://scheduler-address:8786')"
        ) from None


def _shared_function(calls: list[_Call]) -> Callable[..., Any] | None:
    """The function of all calls, if they have the same."""
    first = calls[0][0]
    return first if all(function is first for function, _, _ in calls) else None


def _describe(calls: list[_Call]) -> str:
    """The beginning of a batch's key, for people: as Dask's backend writes it."""
    names = Counter(_function_name(function) for function, _, _ in calls)
    mixed = "mixed_" if len(names) > 1 else ""
    return f"{mixed}batch_of_{_function_name(calls[0][0])}_{len(calls)}_calls"


def _function_name(function: Any) -> str:
    for _ in range(4):
        # `functools.partial` and scikit-learn's wrapper.
        inner = getattr(function, "func", None) or getattr(function, "function", None)
        if not callable(inner):
            break
        function = inner
    return str(getattr(function, "__name__", type(function).__name__))


def _probe() -> None:
    """Done when a worker is there."""


register_parallel_backend("taskloom", TaskloomBackend)
