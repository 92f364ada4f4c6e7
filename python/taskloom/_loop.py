"""The event loop of a client for programs that expect tornado's interface of it."""

from __future__ import annotations

import asyncio
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def sync(
    loop: Any, func: Callable[..., Any], *args: Any, callback_timeout: Any = None, **kwargs: Any
) -> Any:
    """Run a coroutine function on a loop of another thread; block for its result.

    Parameters
    ----------
    loop : ``client.loop``, a tornado ``IOLoop`` or an asyncio loop
    callback_timeout : seconds, or a text such as ``'1 s'``

    Raises
    ------
    TimeoutError
        The coroutine is not done in time; it is cancelled.
    RuntimeError
        It is the loop of the calling thread, which would wait for itself.
    """
    from taskloom._drive import running_loop
    from taskloom.utils import parse_seconds

    asyncio_loop = getattr(loop, "asyncio_loop", loop)
    if asyncio_loop is running_loop():
        raise RuntimeError("cannot block on the running event loop: await the coroutine")
    coroutine = limited(func(*args, **kwargs), parse_seconds(callback_timeout))
    return asyncio.run_coroutine_threadsafe(coroutine, asyncio_loop).result()


async def limited(awaitable: Any, timeout: float | None) -> Any:
    """The result of an awaitable, or ``TimeoutError`` after so many seconds."""
    return await asyncio.wait_for(awaitable, timeout)


class LoopShim:
    """An asyncio loop with the methods of a tornado ``IOLoop`` that programs use.

    Parameters
    ----------
    loop : the loop to use; ``None`` starts one on a thread of its own
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._thread: threading.Thread | None = None
        self._tasks: set[Any] = set()
        if loop is None:
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._run, args=(loop,), name="taskloom-loop", daemon=True
            )
            self._thread.start()
        self.asyncio_loop = loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        result = function(*args, **kwargs)
        if asyncio.iscoroutine(result) or asyncio.isfuture(result):
            task = asyncio.ensure_future(result, loop=self.asyncio_loop)
            # The loop itself holds tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def add_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call it soon on the loop, from any thread; a coroutine is run."""
        self.asyncio_loop.call_soon_threadsafe(self._call, callback, args, kwargs)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Call it on the loop after ``delay`` seconds, from any thread."""
        handle = _Handle(self.asyncio_loop)
        self.asyncio_loop.call_soon_threadsafe(
            handle.start, delay, self._call, callback, args, kwargs
        )
        return handle

    def remove_timeout(self, handle: Any) -> None:
        """Cancel what ``call_later`` returned."""
        handle.cancel()

    def add_future(self, future: Any, callback: Callable[[Any], Any]) -> None:
        """Call ``callback(future)`` on the loop when an asyncio future is done."""
        future.add_done_callback(lambda done: self.add_callback(callback, done))

    def run_sync(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine function on the loop from another thread; block for its result."""
        return sync(self, function, *args, **kwargs)

    def close(self) -> None:
        """End the loop if it runs on a thread of its own."""
        if self._thread is not None:
            self.asyncio_loop.call_soon_threadsafe(self.asyncio_loop.stop)
            self._thread.join(1.0)
            self._thread = None


class _Handle:
    """What ``call_later`` gives: may be cancelled before or after it reached the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cancelled = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, delay: float, call: Any, *args: Any) -> None:
        if not self._cancelled:
            self._timer = self._loop.call_later(delay, call, *args)

    def cancel(self) -> None:
        self._cancelled = True
        if self._timer is not None:
            self._loop.call_soon_threadsafe(self._timer.cancel)
