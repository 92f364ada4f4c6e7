"""Waiting for futures: all of them, the first, or one after the other as they finish."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from taskloom._drive import bridge_of, complete, run, run_async
from taskloom._taskloom import CompletionQueue, CoreFuture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import Any

    from taskloom._drive import Steps
    from taskloom.future import Future

__all__ = ["DoneAndNotDone", "as_completed", "wait"]

ALL_COMPLETED = "ALL_COMPLETED"
FIRST_COMPLETED = "FIRST_COMPLETED"


class DoneAndNotDone(NamedTuple):
    """What :func:`wait` returns."""

    done: set[Any]
    not_done: set[Any]


def wait(fs: Any, timeout: Any = None, return_when: str = ALL_COMPLETED) -> Any:
    """Wait until futures are done, by success or failure.

    Parameters
    ----------
    fs : future, collection, or containers of them
    timeout : seconds, or a text such as ``'1 s'``
    return_when : {'ALL_COMPLETED', 'FIRST_COMPLETED'}

    Returns
    -------
    DoneAndNotDone
        Awaitable with an asynchronous client.

    Raises
    ------
    TimeoutError
        They are not done in time.
    CancelledError
        One of them was cancelled.
    """
    from taskloom._registry import futures_of, is_asynchronous
    from taskloom.utils import parse_seconds

    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED):
        raise NotImplementedError(f"return_when={return_when!r} is not offered")
    if isinstance(timeout, CoreFuture):
        raise TypeError(f"timeout= takes a number or a text, not {timeout!r}: wait([f, g], …)?")
    seconds = parse_seconds(timeout)
    futures = futures_of(fs)
    steps = _wait_steps(futures, return_when)
    is_async = bool(futures) and is_asynchronous(futures[0]._client_token)
    return (run_async if is_async else run)(steps, seconds)


def _wait_steps(futures: list[Future], return_when: str) -> Steps[DoneAndNotDone]:
    from taskloom._registry import core_of_token

    if futures:
        count = len(futures) if return_when == ALL_COMPLETED else 1
        yield core_of_token(futures[0]._client_token).completion(futures, count)
    done = {future for future in futures if future.done()}
    ends = [future._exception() for future in futures if future.cancelled()]
    errors: list[Any] = [error for error in ends if error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        from taskloom.errors import FuturesCancelledError

        raise FuturesCancelledError(errors)
    return DoneAndNotDone(done, set(futures) - done)


class as_completed:
    """Iterate over futures in the order in which they finish; ``async for`` works too.

    Parameters
    ----------
    futures : collection of futures
        Further ones may be added meanwhile; one that is there twice comes twice.
    loop : accepted for programs written for Dask
    with_results : bool
        Iterate over ``(future, result)``.
    raise_errors : bool, default True
        With results: whether a failed task's exception is raised, or given as
        ``(type, exception, traceback)``.
    timeout : seconds, or a text, for the whole iteration

    Examples
    --------
    >>> for future in as_completed(client.map(abs, [-1, -2])):
    ...     print(future.result())
    """

    def __init__(
        self,
        futures: Iterable[Future] | None = None,
        loop: Any = None,
        with_results: bool = False,
        raise_errors: bool = True,
        *,
        timeout: Any = None,
    ) -> None:
        import threading

        from taskloom.utils import parse_seconds

        seconds = parse_seconds(timeout)
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.with_results = with_results
        self.raise_errors = raise_errors
        self.lock = threading.Lock()
        #: Futures that are not done, by token.
        self._pending: dict[int, Future] = {}
        #: Futures that are done and were not given yet.
        self._ready: deque[Future] = deque()
        self._last_token = 0
        self._queue = CompletionQueue()
        if futures is not None:
            self.update(futures)

    # Adding -------------------------------------------------------------------------------

    def add(self, future: Future) -> None:
        """Add a future."""
        self.update((future,))

    def update(self, futures: Iterable[Future]) -> None:
        """Add futures."""
        for future in futures:
            if not isinstance(future, CoreFuture):
                raise TypeError(f"input must be a future, got {future!r}")
            with self.lock:
                self._last_token += 1
                token = self._last_token
                self._pending[token] = future
            self._queue.watch(future, token)

    # State --------------------------------------------------------------------------------

    @property
    def futures(self) -> dict[int, Future]:
        """The futures that are not done. Change it with :attr:`lock` held only."""
        return self._pending

    @property
    def queue(self) -> _ReadyQueue:
        """The futures that are done and were not given yet. Use it with :attr:`lock` held only."""
        return _ReadyQueue(self._ready)

    def count(self) -> int:
        """How many futures are still to come."""
        with self.lock:
            return len(self._pending) + len(self._ready)

    def is_empty(self) -> bool:
        """Whether no future is to come."""
        return self.count() == 0

    def has_ready(self) -> bool:
        """Whether a future can be had without waiting."""
        self._take(0.0)
        return bool(self._ready)

    def clear(self) -> None:
        """Forget all futures that were not given yet."""
        with self.lock:
            self._pending.clear()
            self._ready.clear()
        # Whoever waits for a future finds that none is to come; 0 names none.
        self._queue.post(0)

    def _take(self, timeout: float | None) -> bool:
        """Move what is done from pending to ready; returns whether anything was."""
        tokens = self._queue.receive(timeout)
        with self.lock:
            # Tokens of futures that were cleared mean nothing.
            done = [self._pending.pop(token) for token in tokens if token in self._pending]
            self._ready.extend(done)
        return bool(tokens)

    # Blocking -----------------------------------------------------------------------------

    def _left(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{self.count()} futures are not done in time")
        return left

    def _block(self) -> Future:
        while not self._ready:
            if self.is_empty():
                raise StopIteration
            self._take(self._left())
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        future = self._block()
        if not self.with_results:
            return future
        return future, run(_result_steps([future], self.raise_errors))[0]

    def next(self) -> Any:
        """The next future; as ``next(…)``."""
        return self.__next__()

    def next_batch(self, block: bool = True) -> list[Any]:
        """All futures that are done by now; waits for one when ``block``."""
        self._take(0.0)
        batch = [self._block()] if block else []
        self._take(0.0)
        while self._ready:
            batch.append(self._ready.popleft())
        if not self.with_results:
            return batch
        return list(zip(batch, run(_result_steps(batch, self.raise_errors)), strict=True))

    def batches(self) -> _Batches:
        """Iterate over lists of futures that are done together; ``async for`` works too."""
        return _Batches(self)

    # Event loops --------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not await self._wait_ready():
            raise StopAsyncIteration
        future = self._ready.popleft()
        if not self.with_results:
            return future
        return future, (await run_async(_result_steps([future], self.raise_errors)))[0]

    async def _next_batch_async(self) -> list[Any]:
        if not await self._wait_ready():
            raise StopAsyncIteration
        batch = list(self._ready)
        self._ready.clear()
        if not self.with_results:
            return batch
        results = await run_async(_result_steps(batch, self.raise_errors))
        return list(zip(batch, results, strict=True))

    async def _wait_ready(self) -> bool:
        """Wait until a future is ready; ``False`` when none is to come."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            self._take(0.0)
            if self._ready:
                return True
            if self.is_empty():
                return False
            arrival = loop.create_future()
            if self._queue.arm(bridge_of(loop), arrival):
                continue
            try:
                await asyncio.wait_for(arrival, self._left())
            except TimeoutError:
                raise TimeoutError(f"{self.count()} futures are not done in time") from None


class _ReadyQueue:
    """What is ready in :class:`as_completed`, with the methods of a queue that libraries use."""

    def __init__(self, ready: deque[Future]) -> None:
        self._ready = ready

    def empty(self) -> bool:
        return not self._ready

    def get(self) -> Future:
        return self._ready.popleft()


class _Batches:
    """What :meth:`as_completed.batches` gives."""

    def __init__(self, futures: as_completed) -> None:
        self._futures = futures

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> list[Any]:
        return self._futures.next_batch(block=True)

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[Any]:
        return await self._futures._next_batch_async()


def _result_steps(futures: list[Future], raise_errors: bool) -> Steps[list[Any]]:
    """Results; failures are raised, or become ``(type, exception, traceback)``."""
    from taskloom._registry import core_of_token

    outcomes = yield core_of_token(futures[0]._client_token).gather(futures, False)
    results = []
    for ok, result in outcomes:
        if ok:
            results.append(result)
        elif raise_errors:
            raise result
        else:
            results.append((type(result), result, result.__traceback__))
    return results


async def completed(futures: list[Future]) -> None:
    """Wait on an event loop until all futures are done."""
    from taskloom._registry import core_of_token

    if futures:
        await complete(core_of_token(futures[0]._client_token).completion(futures, len(futures)))
