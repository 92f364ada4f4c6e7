"""Views of clients with options, and ``Client.imap``."""

from __future__ import annotations

from collections import deque

from taskloom._completion import as_completed
from taskloom._options import make_options
from taskloom.client import Client
from taskloom.errors import CancelledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskloom.future import Future

__all__ = ["Imap", "view_of"]


class _View(Client):
    """A client that gives its calls options; all its state is the other client's."""

    # Apart from the shared attributes.
    __slots__ = ("_base", "_given_options")

    _base: Client

    def __init__(self, base: Client, given: dict[str, Any]) -> None:
        self.__dict__ = base.__dict__
        self._base = base
        self._given_options = given

    def _close_now(self, reason: str = "closed by the program") -> None:
        # It is the other client that is registered as open, and as the default one.
        self._base._close_now(reason)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a client cannot be pickled: use get_client() inside tasks")


def view_of(client: Client, given: dict[str, Any]) -> Client:
    """A view of a client. The options are checked now, not at the first call."""
    base = client._base if isinstance(client, _View) else client
    make_options(None, None, None, None, None, given)
    return _View(base, given)


class Imap:
    """What :meth:`taskloom.Client.imap` gives: an iterator over the results of calls.

    Attributes
    ----------
    window : items that are read ahead of the results that were taken
    """

    def __init__(
        self,
        client: Client,
        func: Callable[..., Any],
        iterables: tuple[Any, ...],
        kwargs: dict[str, Any],
        window: int,
        ordered: bool,
        pure: bool,
    ) -> None:
        if not callable(func):
            raise TypeError(f"first input to imap must be a callable function, got {func!r}")
        if not iterables:
            raise TypeError("imap needs at least one iterable")
        if isinstance(window, bool) or not isinstance(window, int):
            raise TypeError(f"window= must be an int, not {window!r}")
        if window < 1:
            raise ValueError(f"window= must be at least 1, not {window}")
        self.window = window
        self._client = client
        self._func = func
        self._kwargs = kwargs
        self._pure = pure
        self._is_async_source = any(
            hasattr(source, "__aiter__") and not hasattr(source, "__iter__") for source in iterables
        )
        self._sources = [
            source.__aiter__()
            if self._is_async_source and hasattr(source, "__aiter__")
            else iter(source)
            for source in iterables
        ]
        self._is_exhausted = False
        self._source_error: BaseException | None = None
        self._is_closed = False
        #: The future whose result is being waited for.
        self._taken: Future | None = None
        self._results: _Ordered | _Unordered = _Ordered() if ordered else _Unordered()

    # Reading the iterables ----------------------------------------------------------------

    def _fill(self) -> None:
        if self._is_async_source:
            raise TypeError("an asynchronous iterable needs `async for`")
        while not self._is_exhausted and len(self._results) < self.window:
            try:
                arguments = tuple(next(source) for source in self._sources)
            except RuntimeError as error:
                # What a generator expression makes of the end of a source.
                self._end(None if isinstance(error.__cause__, StopIteration) else error)
            except BaseException as error:  # noqa: BLE001 - raised where its result would be
                self._end(error)
            else:
                self._submit(arguments)

    async def _fill_async(self) -> None:
        if not self._is_async_source:
            return self._fill()
        while not self._is_exhausted and len(self._results) < self.window:
            arguments = []
            try:
                for source in self._sources:
                    is_async = hasattr(source, "__anext__")
                    arguments.append(await source.__anext__() if is_async else next(source))
            except (StopIteration, StopAsyncIteration):
                self._end(None)
            except BaseException as error:  # noqa: BLE001 - as above
                self._end(error)
            else:
                self._submit(tuple(arguments))
        return None

    def _end(self, error: BaseException | None) -> None:
        self._is_exhausted = True
        self._source_error = error
        self._sources = []

    def _submit(self, arguments: tuple[Any, ...]) -> None:
        future = self._client.submit(self._func, *arguments, pure=self._pure, **self._kwargs)
        self._results.add(future)

    def _next_error(self) -> BaseException | None:
        """The error of an iterable, once all results before it were taken."""
        error, self._source_error = self._source_error, None
        return error

    # Iterating ----------------------------------------------------------------------------

    def __iter__(self) -> Imap:
        return self

    def __next__(self) -> Any:
        self._fill()
        if not self._results:
            raise self._next_error() or StopIteration
        self._taken = self._results.take()
        try:
            return self._taken._result(None)
        except CancelledError:
            if self._is_closed:
                raise StopIteration from None
            raise
        finally:
            self._taken = None

    def __aiter__(self) -> Imap:
        return self

    async def __anext__(self) -> Any:
        await self._fill_async()
        if not self._results:
            raise self._next_error() or StopAsyncIteration
        self._taken = await self._results.take_async()
        try:
            return await self._taken._result_async()
        except CancelledError:
            if self._is_closed:
                raise StopAsyncIteration from None
            raise
        finally:
            self._taken = None

    # Closing ------------------------------------------------------------------------------

    def close(self) -> None:
        """End the iteration; calls that are under way are cancelled."""
        self._is_closed = True
        self._end(None)
        futures = self._results.clear()
        # Another thread or coroutine may wait for the one that was taken last.
        if self._taken is not None:
            futures.append(self._taken)
        outstanding = [future for future in futures if not future.done()]
        core = self._client._core
        if outstanding and core is not None and self._client.status == "running":
            core.cancel(outstanding, False, "unknown", "the imap was closed")

    async def aclose(self) -> None:
        """As :meth:`close`."""
        self.close()

    def __enter__(self) -> Imap:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Imap:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if the arguments were refused.
        if hasattr(self, "_results"):
            self.close()

    def __repr__(self) -> str:
        name = getattr(self._func, "__name__", repr(self._func))
        return f"<Imap of {name}: {len(self._results)} of {self.window} under way>"


class _Ordered:
    """Futures in the order in which they were added."""

    def __init__(self) -> None:
        self._futures: deque[Future] = deque()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: Future) -> None:
        self._futures.append(future)

    def take(self) -> Future:
        return self._futures.popleft()

    async def take_async(self) -> Future:
        return self._futures.popleft()

    def clear(self) -> list[Future]:
        futures = list(self._futures)
        self._futures.clear()
        return futures


class _Unordered:
    """Futures in the order in which they are done."""

    def __init__(self) -> None:
        self._futures = as_completed()

    def __len__(self) -> int:
        return self._futures.count()

    def add(self, future: Future) -> None:
        self._futures.add(future)

    def take(self) -> Future:
        future: Future = next(self._futures)
        return future

    async def take_async(self) -> Future:
        future: Future = await self._futures.__anext__()
        return future

    def clear(self) -> list[Future]:
        with self._futures.lock:
            futures = [*self._futures._pending.values(), *self._futures._ready]
        self._futures.clear()
        return futures
