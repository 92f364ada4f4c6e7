"""The open clients of this process, and what futures need of their client."""

from __future__ import annotations

import weakref

from taskloom import _default
from taskloom._nesting import find_futures
from taskloom._taskloom import CoreClient, CoreFuture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom.client import Client
    from taskloom.future import Future

#: Open clients by the number that their futures know.
_clients: weakref.WeakValueDictionary[int, Client] = weakref.WeakValueDictionary()


def add(client: Client) -> None:
    """A client was connected."""
    _clients[client._core.token] = client


def client_of_token(token: int) -> Client:
    """The client with this number.

    Raises
    ------
    ClosedClientError
        It is gone.
    """
    client = _clients.get(token)
    if client is None:
        from taskloom.errors import ClosedClientError

        raise ClosedClientError("the client of this future is gone")
    return client


def core_of_token(token: int) -> CoreClient:
    return client_of_token(token)._core


def is_asynchronous(token: int) -> bool:
    client = _clients.get(token)
    return client is not None and client.asynchronous


def address_of_token(token: int) -> str:
    client = _clients.get(token)
    return "" if client is None else client._scheduler_address


def client_for_address(address: str) -> Client:
    """A client for an unpickled future: the current one of this context, that of the task that
    runs here, or one of this process."""
    from taskloom._inside import client_of_task
    from taskloom._scoped import scoped_client

    client = scoped_client.get(None) or client_of_task()
    if client is not None:
        return client
    current = _default.current()
    candidates = [current] if current is not None else []
    candidates += list(_clients.values())
    for client in candidates:
        if client.status == "running" and client._scheduler_address == address:
            return client
    if current is not None and current.status == "running":
        return current
    raise ValueError("a future was unpickled where there is no client; create a Client first")


def futures_of(o: Any, client: Client | None = None) -> list[Future]:
    """All futures inside an object: containers, and dask collections after ``persist``.

    Parameters
    ----------
    client : accepted; futures know their client
    """
    found: list[Future] = []
    _collect(o, found, 0)
    unique = {id(future): future for future in found}
    return list(unique.values())


def _collect(obj: Any, found: list[Future], depth: int) -> None:
    if isinstance(obj, CoreFuture):
        found.append(obj)  # type: ignore[arg-type]
    elif depth > 100:
        return
    elif getattr(type(obj), "__dask_graph__", None) is not None:
        # Futures stand in the graph as tasks, or as values and arguments of tasks.
        for task in dict(obj.__dask_graph__() or {}).values():
            find_futures(getattr(task, "value", task), found)
            find_futures(getattr(task, "args", None), found)
    elif isinstance(obj, dict):
        for item in obj.values():
            _collect(item, found, depth + 1)
    elif isinstance(obj, (list, tuple, set, frozenset)):
        for item in obj:
            _collect(item, found, depth + 1)


def fire_and_forget(obj: Any) -> None:
    """Run tasks to their end although nobody keeps their futures.

    Parameters
    ----------
    obj : future, dask collection, or nested containers of them
    """
    futures = futures_of(obj)
    by_client: dict[int, list[Future]] = {}
    for future in futures:
        by_client.setdefault(future._client_token, []).append(future)
    for token, group in by_client.items():
        core_of_token(token).detach(group)
