"""What code inside tasks uses: the worker's client, leaving and taking a slot."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from taskloom import _default, _taskloom
from taskloom._context import current_worker
from taskloom._drive import running_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from taskloom.client import Client

_lock = threading.Lock()


class _Target:
    """A worker's scheduler, in the form in which clients take it."""

    is_of_worker = True

    def __init__(self, worker: Any) -> None:
        scheduler = worker.scheduler
        self._worker_address: str = worker.address
        is_address = isinstance(scheduler, str)
        self.scheduler_address: str = scheduler if is_address else scheduler.address
        self._core_scheduler = None if is_address else scheduler


def client_of_task() -> Client | None:
    """The client of the worker whose task this is; ``None`` outside of tasks.

    Coroutine tasks get an asynchronous one: blocking would stop the others on their loop.
    """
    worker = current_worker.get(None)
    if worker is None:
        return None
    asynchronous = running_loop() is not None
    attribute = "_async_client" if asynchronous else "_client"
    with _lock:
        client: Client | None = getattr(worker, attribute, None)
        if client is None or client.status != "running":
            from taskloom.client import Client

            client = Client(
                _Target(worker),
                set_as_default=False,
                asynchronous=asynchronous,
                name=f"worker-{worker.name}",
            )
            setattr(worker, attribute, client)
    return client


def get_client(
    address: str | None = None, timeout: Any = None, resolve_address: bool = True
) -> Client:
    """The client of the task that runs here, or the program's own.

    Parameters
    ----------
    address : str, optional
        A scheduler's address: connects to it unless the client found is connected to it.
    timeout : for connecting

    Raises
    ------
    ValueError
        There is no client, and no address.
    """
    client = _scoped() or client_of_task() or _default.current()
    if client is not None and (address is None or client.scheduler_address == address):
        return client
    if address is not None:
        from taskloom.client import Client

        return Client(address, timeout=timeout)
    raise ValueError("no global client found and no address provided")


def _scoped() -> Client | None:
    from taskloom._scoped import scoped_client

    return scoped_client.get(None)


def secede() -> None:
    """Leave the slot of this task: another task may run; this one goes on.

    Raises
    ------
    ValueError
        Outside of a task.
    """
    if not _taskloom.in_task():
        raise ValueError("secede() works inside tasks")
    _taskloom.secede()


def rejoin() -> None:
    """Wait for a slot after :func:`secede`, before tasks that have not started.

    Raises
    ------
    ValueError
        Outside of a task.
    """
    if not _taskloom.in_task():
        raise ValueError("rejoin() works inside tasks")
    _taskloom.rejoin()


@contextmanager
def worker_client(timeout: Any = None, separate_thread: bool = True) -> Iterator[Client]:
    """The client of this task, with the slot left for others meanwhile.

    Parameters
    ----------
    separate_thread : bool
        Whether to leave the slot within the block.
    """
    client = get_client(timeout=timeout)
    leaves = separate_thread and _taskloom.in_task()
    if leaves:
        _taskloom.secede()
    try:
        yield client
    finally:
        if leaves:
            _taskloom.rejoin()
