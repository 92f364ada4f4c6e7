"""The result of a task that may not have run yet."""

from __future__ import annotations

from taskloom._context import pickled_futures
from taskloom._drive import complete, run, run_async
from taskloom._taskloom import CoreFuture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any

    from taskloom._drive import Steps
    from taskloom.client import Client

__all__ = ["Future"]

#: Inside the class, `type` is the attribute.
_Class = type


class Future(CoreFuture):
    """A task's result, on its way or on a worker.

    Made by :meth:`taskloom.Client.submit` and its like. The result is kept on the cluster as
    long as a future refers to it. Futures compare by identity, may be pickled, may be passed to
    other tasks, and may be awaited on any event loop.

    Attributes
    ----------
    key : the task's key
        ``Future(key)`` and ``Future(key, client)`` make a future of a key that somebody has
        made, or will make.
    status : ``pending``, ``finished``, ``error``, ``cancelled`` or ``lost``
    """

    # dask passes such objects through graphs, by their key.
    __dask_future__ = True

    @property
    def client(self) -> Client:
        """The client that the future belongs to."""
        from taskloom._registry import client_of_token

        return client_of_token(self._client_token)

    def bind_client(self, client: Client) -> None:
        """Accepted for programs written for Dask: a future is bound when it is made.

        Raises
        ------
        ValueError
            ``client`` is connected to another scheduler.
        """
        if client.scheduler_address != self.client.scheduler_address:
            raise ValueError(f"the future {self.key!r} belongs to another cluster")

    @property
    def executor(self) -> Client:
        """The same as :attr:`client`."""
        return self.client

    @property
    def type(self) -> _Class | None:
        """The result's type when it is known here, else ``None``."""
        known, value = self._peek()
        return type(value) if known else None

    def result(self, timeout: Any = None) -> Any:
        """The result; blocks until it is there. Awaitable with an asynchronous client.

        Parameters
        ----------
        timeout : seconds, or a text such as ``'100 ms'``; ``None`` waits for ever

        Raises
        ------
        TimeoutError
            The task is not done in time; it goes on.
        CancelledError
            The future was cancelled, or its result was lost.
        Exception
            What the task raised, with the traceback of the worker.
        """
        if self._is_asynchronous():
            return self._result_async(_seconds(timeout))
        return self._result(_seconds(timeout))

    def _is_asynchronous(self) -> bool:
        from taskloom._registry import is_asynchronous

        return is_asynchronous(self._client_token)

    async def _result_async(self, timeout: float | None = None) -> Any:
        known, value = self._peek()
        if known:
            return value
        return await complete(self._result_operation(), timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result_async().__await__()

    def _wait_steps(self) -> Steps[None]:
        from taskloom._registry import core_of_token

        if not self.done():
            yield core_of_token(self._client_token).completion([self], 1)

    def _exception_steps(self) -> Steps[BaseException | None]:
        yield from self._wait_steps()
        error = self._exception()
        if self.cancelled() and error is not None:
            raise error
        return error

    def _traceback_steps(self) -> Steps[TracebackType | None]:
        error = yield from self._exception_steps()
        return None if error is None else error.__traceback__

    def _run(self, steps: Steps[Any], timeout: Any) -> Any:
        drive = run_async if self._is_asynchronous() else run
        return drive(steps, _seconds(timeout))

    def exception(self, timeout: Any = None, **kwargs: Any) -> Any:
        """The exception that the task raised, or ``None``; blocks until the task is done.

        Raises
        ------
        TimeoutError
            The task is not done in time.
        CancelledError
            The future was cancelled.
        """
        return self._run(self._exception_steps(), timeout)

    def traceback(self, timeout: Any = None, **kwargs: Any) -> Any:
        """The traceback of a task that failed, or ``None``; as :meth:`exception` otherwise."""
        return self._run(self._traceback_steps(), timeout)

    def add_done_callback(self, fn: Callable[[Future], Any]) -> None:
        """Call ``fn(future)`` on a thread of its own once the task is done."""
        from taskloom._callbacks import call_when_done

        call_when_done(self, fn)

    def cancel(self, reason: str | None = None, msg: str | None = None, **kwargs: Any) -> Any:
        """Cancel the task: see :meth:`taskloom.Client.cancel`."""
        return self.client.cancel([self], reason=reason, msg=msg, **kwargs)

    def retry(self, **kwargs: Any) -> Any:
        """Run a failed task again: see :meth:`taskloom.Client.retry`."""
        return self.client.retry([self], **kwargs)

    def __dask_tokenize__(self) -> Any:
        return (type(self).__name__, self.key)

    def __reduce__(self) -> Any:
        from taskloom._registry import address_of_token

        collected = pickled_futures.get()
        if collected is not None:
            collected.append(self)
            ticket = None
        else:
            # The receiver may unpickle it after the last future here is gone.
            ticket = self._deposit()
        return _unpickle, (self.key, address_of_token(self._client_token), ticket)

    def __repr__(self) -> str:
        size = self._size_bytes
        more = "" if size is None else f", size: {size} B"
        return f"<Future: {self.status}, key: {self.key}{more}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<b>Future</b> <i>{escape(self.status)}</i>, key: <tt>{escape(str(self.key))}</tt>"


def _seconds(timeout: Any) -> float | None:
    if timeout is None or type(timeout) in (int, float):
        return timeout
    from taskloom.utils import parse_seconds

    return parse_seconds(timeout)


def _unpickle(key: Any, address: str, ticket: int | None = None) -> Future:
    from taskloom._registry import client_for_address

    core = client_for_address(address)._core
    return core.bind(key) if ticket is None else core.collect(key, ticket)
