"""Locks, semaphores and events: coordination of programs and tasks through the scheduler.

What is held belongs to the connection of the client that acquired it. It is free again when it is
released, when the object that acquired it is gone, and when the process ends, however it does. A
process that is only slow, or stopped by the GIL, keeps it.
"""

from __future__ import annotations

import os
from collections import deque

from taskloom._taskloom import coordinate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Self

    from taskloom._drive import Steps
    from taskloom._taskloom import Lease
    from taskloom.client import Client

__all__ = ["Event", "Lock", "MultiLock", "Semaphore"]


def _seconds(timeout: Any) -> float | None:
    if timeout is None or type(timeout) in (int, float):
        return timeout
    from taskloom.utils import parse_seconds

    return parse_seconds(timeout)


def _patience(blocking: bool, timeout: Any) -> float | None:
    if blocking:
        return _seconds(timeout)
    if timeout is not None:
        raise ValueError("can't specify a timeout for a non-blocking call")
    return 0.0


class Shared:
    """Something with a name that the scheduler keeps.

    It may be made before there is a client: the client is looked for where it is used, which in
    a task is the one of the worker.
    """

    _kind = "shared"

    def __init__(self, name: Any, client: Client | None) -> None:
        self.name = f"{self._kind}-{os.urandom(16).hex()}" if name is None else name
        self._given_client = client

    def _find_client(self) -> Client:
        """The client that this was given, or the one of the place where it is used."""
        if self._given_client is not None:
            return self._given_client
        from taskloom._inside import get_client

        try:
            return get_client()
        except ValueError:
            raise RuntimeError(
                f"{type(self).__name__} {self.name!r} is used where there is no client: create a "
                f"Client first, or use it inside a task"
            ) from None

    @property
    def client(self) -> Client | None:
        """The client that is used here, or ``None`` when there is none."""
        try:
            return self._find_client()
        except RuntimeError:
            return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        client = self._find_client()
        return client._drive(_ask_steps(client, name, arguments))

    async def _ready(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """``await Lock('x')`` gives the object itself."""
        return self._ready().__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


def _ask_steps(client: Client, name: str, arguments: tuple[Any, ...]) -> Steps[Any]:
    return (yield coordinate(client._core, name, *arguments))


def _refuse_blocking(client: Client) -> None:
    if client.asynchronous:
        raise TypeError("the client is asynchronous: use 'async with' in place of 'with'")


class Semaphore(Shared):
    """At most so many leases at once, over all clients and workers.

    Parameters
    ----------
    max_leases : int, default 1
        How many leases there are. The same for all who use the name.
    name : str, optional
        Made up when left out.
    scheduler_rpc, loop : accepted for programs written for Dask, and not needed
    client : Client, optional
        By default the one of the place where it is used.

    Examples
    --------
    >>> from taskloom import Client, Semaphore
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     semaphore = Semaphore(max_leases=2, name="database")
    ...     with semaphore:
    ...         semaphore.get_value()
    1
    """

    _kind = "semaphore"
    #: Whether the scheduler keeps it while it is idle.
    _is_lasting = True

    def __init__(
        self,
        max_leases: int = 1,
        name: Any = None,
        scheduler_rpc: Any = None,
        loop: Any = None,
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(name, client)
        if not isinstance(max_leases, int) or not 1 <= max_leases < 2**32:
            raise ValueError(f"max_leases must be a positive integer, not {max_leases!r}")
        self.max_leases = max_leases
        #: The leases of this object, oldest first, with the clients that hold them.
        self._leases: deque[tuple[Client, Lease]] = deque()
        #: The client through which the scheduler was told of it.
        self._registered_by: str | None = None

    def register(self, **kwargs: Any) -> Any:
        """Tell the scheduler of it. The first :meth:`acquire` does that too."""
        client = self._find_client()
        return client._drive(self._register_steps(client))

    def _register_steps(self, client: Client) -> Steps[None]:
        if self._registered_by != client.id:
            yield coordinate(client._core, "register_semaphore", self.name, self.max_leases)
            self._registered_by = client.id

    async def _ready(self) -> Self:
        client = self._find_client()
        await client._drive(self._register_steps(client), True)
        return self

    def acquire(self, timeout: Any = None) -> Any:
        """Get a lease; wait for one when all are given out. First come, first served.

        Parameters
        ----------
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler. 0 does not wait.

        Returns
        -------
        bool
            Whether the lease was got in time.

        Raises
        ------
        ValueError
            The name is in use with another number of leases.
        RuntimeError
            The semaphore was closed.
        """
        return self._acquire(_seconds(timeout))

    def _acquire(self, timeout: float | None, asynchronous: bool | None = None) -> Any:
        client = self._find_client()
        return client._drive(self._acquire_steps(client, timeout), asynchronous)

    def _acquire_steps(self, client: Client, timeout: float | None) -> Steps[bool]:
        is_new = not self._is_lasting or self._registered_by != client.id
        lease = yield coordinate(
            client._core,
            "acquire",
            self.name,
            self.max_leases,
            is_new,
            self._is_lasting,
            timeout,
        )
        self._registered_by = client.id
        if lease is None:
            return False
        self._leases.append((client, lease))
        return True

    def release(self) -> Any:
        """Give the oldest lease of this object back.

        Returns
        -------
        bool
            Whether the scheduler still knew of the lease: not after a :meth:`close`.

        Raises
        ------
        RuntimeError
            This object holds no lease.
        """
        return self._release()

    def _release(self, asynchronous: bool | None = None) -> Any:
        try:
            client, lease = self._leases.popleft()
        except IndexError:
            raise RuntimeError("Released too often") from None
        return client._drive(_release_steps(lease), asynchronous)

    def get_value(self) -> Any:
        """The number of leases that are given out."""
        return self._ask("count_leases", self.name)

    def close(self) -> Any:
        """Take it away from all who use it; those who wait get a ``RuntimeError``.

        A ``RuntimeWarning`` says so if there were leases or waits.
        """
        client = self._find_client()
        return client._drive(self._close_steps(client))

    def _close_steps(self, client: Client) -> Steps[None]:
        leases, waiting = yield coordinate(client._core, "close_semaphore", self.name)
        if leases or waiting:
            import warnings

            warnings.warn(
                f"{self.name} was closed with {leases} unreleased and {waiting} pending leases",
                RuntimeWarning,
                stacklevel=2,
            )

    def __enter__(self) -> Self:
        _refuse_blocking(self._find_client())
        self._acquire(None)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._release()

    async def __aenter__(self) -> Self:
        await self._acquire(None, True)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._release(True)

    def __reduce__(self) -> Any:
        return type(self), (self.max_leases, self.name)


def _release_steps(lease: Lease) -> Steps[bool]:
    released: bool = yield lease.release()
    return released


class Lock(Semaphore):
    """A lock over all clients and workers.

    Parameters
    ----------
    name : str, optional
        Made up when left out.
    scheduler_rpc, loop : accepted for programs written for Dask, and not needed
    client : Client, optional
        By default the one of the place where it is used.

    Examples
    --------
    >>> from taskloom import Client, Lock
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     with Lock("report") as lock:
    ...         lock.locked()
    True
    """

    _kind = "lock"
    _is_lasting = False

    def __init__(
        self,
        name: Any = None,
        scheduler_rpc: Any = None,
        loop: Any = None,
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(1, name, client=client)

    async def _ready(self) -> Self:
        return self

    def acquire(  # type: ignore[override]
        self, blocking: bool = True, timeout: Any = None
    ) -> Any:
        """Get the lock; wait while somebody else holds it. First come, first served.

        Parameters
        ----------
        blocking : bool
            Whether to wait at all.
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.

        Returns
        -------
        bool
            Whether the lock was got.
        """
        return self._acquire(_patience(blocking, timeout))

    def locked(self) -> Any:
        """Whether somebody holds it."""
        client = self._find_client()
        return client._drive(self._locked_steps(client))

    def _locked_steps(self, client: Client) -> Steps[bool]:
        return (yield coordinate(client._core, "count_leases", self.name)) > 0

    def __reduce__(self) -> Any:
        return type(self), (self.name,)


class MultiLock(Shared):
    """Several locks that are acquired at once, without deadlock.

    Their names are apart from those of :class:`Lock`.

    Parameters
    ----------
    names : list of str
    client : Client, optional
        By default the one of the place where it is used.

    Examples
    --------
    >>> from taskloom import Client, MultiLock
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     with MultiLock(["left", "right"]) as both:
    ...         both.locked()
    True
    """

    _kind = "multilock"

    def __init__(self, names: list[Any] | None = None, client: Client | None = None) -> None:
        super().__init__(None, client)
        self.names = list(names or ())
        self.id = self.name
        self._lease: tuple[Client, Lease] | None = None

    def acquire(
        self, blocking: bool = True, timeout: Any = None, num_locks: int | None = None
    ) -> Any:
        """Get the locks, all in one step; wait until they are free.

        Parameters
        ----------
        blocking : bool
            Whether to wait at all.
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.
        num_locks : int, optional
            How many of them are enough; all when left out.

        Returns
        -------
        bool
            Whether the locks were got.

        Raises
        ------
        RuntimeError
            This object holds its locks already.
        ValueError
            ``num_locks`` is larger than the number of different names, or there are no names.
        """
        return self._acquire(_patience(blocking, timeout), num_locks)

    def _acquire(
        self, timeout: float | None, num_locks: int | None, asynchronous: bool | None = None
    ) -> Any:
        if self._lease is not None:
            raise RuntimeError("the locks are held by this object already")
        count = len(set(self.names)) if num_locks is None else num_locks
        if not 1 <= count <= len(set(self.names)):
            raise ValueError(f"cannot acquire {count} of the locks {self.names}")
        client = self._find_client()
        return client._drive(self._acquire_steps(client, timeout, count), asynchronous)

    def _acquire_steps(self, client: Client, timeout: float | None, count: int) -> Steps[bool]:
        lease = yield coordinate(client._core, "acquire_many", self.names, count, timeout)
        if lease is None:
            return False
        self._lease = (client, lease)
        return True

    def release(self) -> Any:
        """Give the locks back.

        Raises
        ------
        ValueError
            They were not acquired.
        """
        return self._release()

    def _release(self, asynchronous: bool | None = None) -> Any:
        if self._lease is None:
            raise ValueError("Lock is not yet acquired")
        (client, lease), self._lease = self._lease, None
        return client._drive(_release_steps(lease), asynchronous)

    def locked(self) -> bool:
        """Whether this object holds its locks."""
        return self._lease is not None

    def __enter__(self) -> Self:
        _refuse_blocking(self._find_client())
        self._acquire(None, None)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._release()

    async def __aenter__(self) -> Self:
        await self._acquire(None, None, True)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._release(True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.names}>"

    def __reduce__(self) -> Any:
        return type(self), (self.names,)


class Event(Shared):
    """A flag that many can wait for, over all clients and workers.

    Parameters
    ----------
    name : str, optional
        Made up when left out.
    client : Client, optional
        By default the one of the place where it is used.

    Examples
    --------
    >>> from taskloom import Client, Event
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     event = Event("go")
    ...     event.set()
    ...     event.wait(timeout="1s")
    True
    """

    _kind = "event"

    def __init__(self, name: Any = None, client: Client | None = None) -> None:
        super().__init__(name, client)

    def wait(self, timeout: Any = None) -> Any:
        """Wait until the flag is set.

        Parameters
        ----------
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.

        Returns
        -------
        bool
            False when time is over.
        """
        return self._ask("wait_for_event", self.name, _seconds(timeout))

    def set(self) -> Any:
        """Set the flag: all who wait go on."""
        return self._ask("set_event", self.name, True)

    def clear(self) -> Any:
        """Take the flag away: those who come now wait."""
        return self._ask("set_event", self.name, False)

    def is_set(self) -> Any:
        """Whether the flag is set."""
        return self._ask("is_event_set", self.name)

    def __reduce__(self) -> Any:
        return type(self), (self.name,)
