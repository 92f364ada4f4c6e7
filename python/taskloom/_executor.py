"""``Client.get_executor``: a ``concurrent.futures.Executor`` on the cluster."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


class _ClusterFuture(concurrent.futures.Future):
    """A future of the standard library that follows a task; cancelling it cancels the task."""

    def __init__(self, task: Future) -> None:
        super().__init__()
        self._task: Future | None = task

    def cancel(self) -> bool:
        cancelled = super().cancel()
        task, self._task = (self._task, None) if cancelled else (None, self._task)
        if task is not None:
            self.set_running_or_notify_cancel()
            task.client._core.cancel([task], False, "unknown", "")
        return cancelled

    def follow(self, task: Future) -> None:
        """Take over the end of the task; runs on the callback thread."""
        self._task = None
        try:
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
    """Runs calls on a cluster.

    Parameters
    ----------
    client : the client that submits
    **kwargs : keywords of ``Client.submit`` for all calls
    """

    def __init__(self, client: Client, **kwargs: Any) -> None:
        unknown = set(kwargs) - _ALLOWED
        if unknown:
            raise TypeError(f"unsupported arguments to ClientExecutor: {sorted(unknown)}")
        self._client = client
        self._kwargs = {"pure": False, **kwargs}
        self._futures: weakref.WeakSet[_ClusterFuture] = weakref.WeakSet()
        self._shut = False
        self._lock = threading.Lock()

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Run ``fn(*args, **kwargs)`` on the cluster."""
        call = _with_keywords(fn, kwargs)
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
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
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Results in order, as they are asked for; the calls are submitted at once.

        ``timeout``: seconds from now until a result must be there. ``chunksize`` is accepted:
        calls always travel in batches.
        """
        if kwargs:
            raise TypeError(f"unexpected arguments: {sorted(kwargs)}")
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            tasks = self._client.map(fn, *[list(i) for i in iterables], **self._kwargs)
        return _results(tasks, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those that run when ``wait``."""
        with self._lock:
            self._shut = True
            futures = list(self._futures)
        if cancel_futures or not wait:
            pending = [future for future in futures if not future.done()]
            if cancel_futures:
                for future in pending:
                    future.cancel()
        if wait:
            concurrent.futures.wait(futures)


def _results(tasks: list[Future], deadline: float | None) -> Iterator[Any]:
    try:
        tasks.reverse()
        while tasks:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            yield tasks[-1]._result(left)
            tasks.pop()
    finally:
        # Nobody will ask for the rest.
        if tasks:
            tasks[0].client._core.cancel(tasks, False, "unknown", "")


def _with_keywords(fn: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """Keywords of the call must not be taken for keywords of ``Client.submit``."""
    if not kwargs:
        return fn
    from functools import partial

    return partial(fn, **kwargs)
