"""``Client.get_executor``: a ``concurrent.futures.Executor`` on the cluster."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import weakref
from collections import deque
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from taskloom.client import Client
    from taskloom.future import Future

_ALLOWED = {
    "pure",
    "workers",
    "retries",
    "resources",
    "priority",
    "allow_other_workers",
    "fifo_timeout",
}

_SHUT_DOWN = "cannot schedule new futures after shutdown"


class _ClusterFuture(concurrent.futures.Future):
    """A future of the standard library that follows a task; cancelling it cancels the task."""

    def __init__(self, task: Future) -> None:
        super().__init__()
        self._task: Future | None = task

    def cancel(self) -> bool:
        """Cancel the task unless it has ended. It may be running: its result is dropped then."""
        task = self.give_up()
        if task is not None:
            task.client._core.cancel([task], False, "unknown", "")
        return self.cancelled()

    def give_up(self) -> Future | None:
        """Be cancelled; returns the task that is to be cancelled for it."""
        if not super().cancel():
            return None
        task, self._task = self._task, None
        if task is not None:
            self.set_running_or_notify_cancel()
        return task

    def follow(self, task: Future) -> None:
        """Take over the end of the task; runs on the callback thread."""
        self._task = None
        if self.done():
            return  # cancelled here
        try:
            if task.cancelled():
                # Cancelled on the cluster: by another client, or since its client closed.
                super().cancel()
            if not self.set_running_or_notify_cancel():
                return
        except (concurrent.futures.InvalidStateError, RuntimeError):
            return  # cancelled a moment ago
        error = task._exception()
        if error is None:
            try:
                self.set_result(task._result(None))
                return
            except BaseException as failure:  # noqa: BLE001 - e.g. the result cannot be unpickled
                error = failure
        self.set_exception(error)


class ClientExecutor(concurrent.futures.Executor):
    """Runs calls on a cluster, with the interface of the standard library's executors.

    Parameters
    ----------
    client : the client that submits
    **kwargs : ``pure`` (here ``False`` unless it is given), ``workers``, ``retries``,
        ``resources``, ``priority``, ``allow_other_workers``, ``fifo_timeout``: keywords of
        ``Client.submit`` for all calls

    Raises
    ------
    TypeError
        Another keyword.
    """

    def __init__(self, client: Client, **kwargs: Any) -> None:
        unknown = set(kwargs) - _ALLOWED
        if unknown:
            raise TypeError(f"unsupported arguments to ClientExecutor: {sorted(unknown)}")
        self._client = client
        self._kwargs = {"pure": False, **kwargs}
        self._futures: weakref.WeakSet[_ClusterFuture] = weakref.WeakSet()
        #: What ``map`` has submitted and not given out yet.
        self._maps: weakref.WeakSet[_Results] = weakref.WeakSet()
        self._shut = False
        self._lock = threading.Lock()

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Run ``fn(*args, **kwargs)`` on the cluster.

        Raises
        ------
        RuntimeError
            After ``shutdown``.
        """
        call = _with_keywords(fn, kwargs)
        with self._lock:
            self._check_open()
            task = self._client.submit(call, *args, **self._kwargs)
            future = _ClusterFuture(task)
            self._futures.add(future)
        # The callback keeps the future alive until the task is done.
        task.add_done_callback(future.follow)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Results in the order of the calls, each as it is asked for.

        The calls are submitted at once. When the iterator is dropped or closed, or a call
        fails, those that have not ended are cancelled.

        Parameters
        ----------
        timeout : seconds from now until each result must be there
        chunksize : accepted; calls always travel in batches
        buffersize : int, optional
            At most so many calls are submitted beyond the results that were taken: the
            iterables may be endless.

        Raises
        ------
        TimeoutError
            By the iterator: a result is not there in time.
        RuntimeError
            After ``shutdown``.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments: {sorted(kwargs)}")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if not callable(fn):
            raise TypeError(f"map takes a function, not {fn!r}")
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        with self._lock:
            self._check_open()
            results = _Results(self, fn, calls, deadline, buffersize)
            self._maps.add(results)
        return results.take()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait : whether to block until those that were submitted have ended
        cancel_futures : whether to cancel those that have not ended
        """
        with self._lock:
            self._shut = True
            futures = list(self._futures)
            maps = list(self._maps)
        if cancel_futures:
            tasks = [task for future in futures if (task := future.give_up()) is not None]
            tasks += [task for results in maps for task in results.open_tasks()]
            # All at once: were a running call interrupted alone, one that waits behind it would
            # begin before its own turn to be cancelled.
            if tasks and self._client.status == "running":
                self._client._core.cancel(tasks, False, "unknown", "")
        if wait:
            concurrent.futures.wait(futures)
            for results in maps:
                results.wait()

    def _check_open(self) -> None:
        if self._shut:
            raise RuntimeError(_SHUT_DOWN)


class _Results:
    """The results of one ``map``."""

    def __init__(
        self,
        executor: ClientExecutor,
        fn: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        deadline: float | None,
        buffersize: int | None,
    ) -> None:
        self._executor = executor
        self._fn = fn
        self._calls = iter(calls)
        self._deadline = deadline
        self._tasks: deque[Future] = deque()
        self._submit(buffersize)
        self._is_buffered = buffersize is not None

    def _submit(self, count: int | None) -> None:
        calls = list(islice(self._calls, count))
        if calls:
            columns = [list(column) for column in zip(*calls, strict=True)]
            client, options = self._executor._client, self._executor._kwargs
            self._tasks.extend(client.map(self._fn, *columns, **options))

    def _refill(self) -> None:
        if not self._is_buffered:
            return
        with self._executor._lock:
            # After shutdown no call is added: the iterator ends with those that were submitted.
            if not self._executor._shut:
                self._submit(1)

    def take(self) -> Iterator[Any]:
        """The generator that the caller gets: it alone keeps the results."""
        try:
            while self._tasks:
                deadline = self._deadline
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                result = self._tasks[0]._result(left)
                self._tasks.popleft()
                self._refill()
                yield result
                del result
        finally:
            # Nobody will ask for the rest.
            self.cancel()

    def cancel(self) -> None:
        """Cancel the calls that have not ended."""
        tasks = self.open_tasks()
        if tasks and self._executor._client.status == "running":
            self._executor._client._core.cancel(tasks, False, "unknown", "")

    def open_tasks(self) -> list[Future]:
        """The calls that have not ended."""
        return [task for task in list(self._tasks) if not task.done()]

    def wait(self) -> None:
        """Block until the calls that were submitted have ended."""
        from taskloom._drive import run

        tasks = self.open_tasks()
        if tasks:

            def steps() -> Any:
                yield self._executor._client._core.completion(tasks, len(tasks))

            run(steps())


def _with_keywords(fn: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """Keywords of the call must not be taken for keywords of ``Client.submit``."""
    if not kwargs:
        return fn
    from functools import partial

    return partial(fn, **kwargs)
