"""Queues, variables, published datasets and metadata: values that the scheduler keeps by name.

Small values travel through the scheduler. Large ones are scattered, or left where a task made
them: the future is shared. Futures in shared values keep their results alive.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from taskloom._context import pickled_futures
from taskloom._coordination import Shared, _seconds
from taskloom._taskloom import coordinate, open_queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import Delivery, Lease, Operation
    from taskloom.client import Client

__all__ = ["Datasets", "Queue", "Variable"]

no_default = "__no_default__"


def _load(client: Client, delivery: Delivery) -> list[tuple[bool, Any]]:
    """The values, with their futures bound to this client."""
    with client.as_current():
        return delivery.load()


def _share(
    client: Client, name: str, arguments: Callable[[list[Any]], tuple[Any, ...]]
) -> Operation:
    """A request that carries values. ``arguments`` gets the list in which the futures that stand
    inside of pickled objects are collected while a value is written."""
    futures: list[Any] = []
    token = pickled_futures.set(futures)
    try:
        return coordinate(client._core, name, *arguments(futures))
    finally:
        pickled_futures.reset(token)


class Queue(Shared):
    """A queue over all clients and workers.

    Parameters
    ----------
    name : str, optional
        Made up when left out.
    client : Client, optional
        By default the one of the place where it is used.
    maxsize : int, default 0
        How many items it takes; 0 means without bound. Counts where the queue is first used.

    Examples
    --------
    >>> from taskloom import Client, Queue
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     queue = Queue("numbers")
    ...     queue.put(1)
    ...     queue.put(client.submit(sum, [1, 2]))
    ...     queue.get(), queue.get().result()
    (1, 3)
    """

    _kind = "queue"

    def __init__(self, name: Any = None, client: Client | None = None, maxsize: int = 0) -> None:
        super().__init__(name, client)
        if not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an integer, not {maxsize!r}")
        self.maxsize = max(maxsize, 0)
        self._use: tuple[Client, Lease] | None = None
        found = self.client
        if found is not None and found.status == "running":
            self._open(found)

    def _open(self, client: Client) -> None:
        """Make sure that the scheduler counts this object among those that use the queue."""
        if self._use is None or self._use[0] is not client:
            client._show_notices()
            self._use = (client, open_queue(client._core, self.name, self.maxsize))

    def _opened_by(self) -> Client:
        client = self._find_client()
        self._open(client)
        return client

    def put(self, value: Any, timeout: Any = None, **kwargs: Any) -> Any:
        """Put a value in; wait while the queue is full.

        Parameters
        ----------
        value : future, or anything small that can be pickled, futures inside
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.

        Raises
        ------
        TimeoutError
            There was no room in time.
        """
        client = self._opened_by()
        return client._drive(self._put_steps(client, value, _seconds(timeout)))

    def _put_steps(self, client: Client, value: Any, timeout: float | None) -> Steps[None]:
        yield _share(client, "put", lambda futures: (self.name, value, futures, timeout))

    def get(self, timeout: Any = None, batch: bool | int = False, **kwargs: Any) -> Any:
        """Take the oldest value out; wait while there is none. First come, first served.

        Parameters
        ----------
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.
        batch : bool or int
            ``True``: a list of all that is there, at once. A number: a list of so many.

        Raises
        ------
        TimeoutError
            Not enough values came in time; those that came stay in the queue.
        """
        if batch is False:
            count = 1
        elif batch is True:
            count = 0
        elif isinstance(batch, int) and batch >= 0:
            count = batch
        else:
            raise ValueError(f"batch= must be a bool or a number of items, not {batch!r}")
        client = self._opened_by()
        return client._drive(self._get_steps(client, count, batch, _seconds(timeout)))

    def _get_steps(
        self, client: Client, count: int, batch: bool | int, timeout: float | None
    ) -> Steps[Any]:
        if batch is not True and count == 0:
            return []
        delivery = yield coordinate(client._core, "get", self.name, count, timeout)
        values = [value for _, value in _load(client, delivery)]
        return values[0] if batch is False else values

    def qsize(self, **kwargs: Any) -> Any:
        """The number of values in it."""
        client = self._opened_by()
        return client._drive(self._size_steps(client))

    def _size_steps(self, client: Client) -> Steps[int]:
        size: int = yield coordinate(client._core, "queue_size", self.name)
        return size

    def close(self) -> None:
        """Use it no more. The last object that does so takes the queue and its values away."""
        use, self._use = self._use, None
        if use is not None and use[0].status == "running":
            operation = use[1].close()
            if not use[0].asynchronous:
                operation.block()

    def __reduce__(self) -> Any:
        return type(self), (self.name, None, self.maxsize)


class Variable(Shared):
    """A value with a name over all clients and workers.

    Parameters
    ----------
    name : str, optional
        Made up when left out.
    client : Client, optional
        By default the one of the place where it is used.

    Examples
    --------
    >>> from taskloom import Client, Variable
    >>> with Client(n_workers=1, threads_per_worker=1) as client:
    ...     Variable("step").set(7)
    ...     Variable("step").get()
    7
    """

    _kind = "variable"

    def __init__(self, name: Any = None, client: Client | None = None) -> None:
        super().__init__(name, client)

    def set(self, value: Any, timeout: Any = "30 s", **kwargs: Any) -> Any:
        """Set the value.

        Parameters
        ----------
        value : future, or anything small that can be pickled, futures inside
        timeout : accepted; it never waits for others
        """
        client = self._find_client()
        return client._drive(self._set_steps(client, value))

    def _set_steps(self, client: Client, value: Any) -> Steps[None]:
        yield _share(client, "set_variable", lambda futures: (self.name, value, futures))

    def get(self, timeout: Any = None, **kwargs: Any) -> Any:
        """The value; waits until there is one.

        Parameters
        ----------
        timeout : number of seconds, str such as ``'200 ms'``, or timedelta, optional
            Counted by the scheduler.

        Raises
        ------
        TimeoutError
            It was not set in time.
        """
        client = self._find_client()
        return client._drive(self._get_steps(client, _seconds(timeout)))

    def _get_steps(self, client: Client, timeout: float | None) -> Steps[Any]:
        delivery = yield coordinate(client._core, "get_variable", self.name, timeout)
        ((_, value),) = _load(client, delivery)
        return value

    def delete(self) -> None:
        """Take the value away, for all who use the name."""
        client = self._find_client()
        client._show_notices()
        if client.status == "running":
            operation = coordinate(client._core, "delete_variable", self.name)
            if not client.asynchronous:
                operation.block()

    def __reduce__(self) -> Any:
        return type(self), (self.name,)


class Sharing:
    """The part of the client that publishes datasets and keeps metadata."""

    def _self(self) -> Client:
        """The client that this is a part of."""
        raise NotImplementedError

    def publish_dataset(
        self, *args: Any, name: Any = None, override: bool = False, **kwargs: Any
    ) -> Any:
        """Share futures or dask collections by name, also after this client is gone.

        Parameters
        ----------
        *args : what to publish as ``name``, or one dict of names and objects
        name : str, int, float or tuple, optional
        override : bool
            Whether datasets of these names are replaced.
        **kwargs : names and objects

        Raises
        ------
        KeyError
            A name is used already.
        """
        named: dict[Any, Any] = dict(kwargs)
        if name is not None:
            if not args:
                raise ValueError("publish_dataset(…, name=…) needs what to publish")
            named[name] = args[0] if len(args) == 1 else args
        elif args:
            if len(args) != 1 or not hasattr(args[0], "keys"):
                raise ValueError("without name= publish_dataset takes one dict of names and data")
            named.update(args[0])
        return self._self()._drive(self._publish_steps(named, bool(override)))

    def _publish_steps(self, named: dict[Any, Any], override: bool) -> Steps[None]:
        def arguments(futures: list[Any]) -> tuple[Any, ...]:
            return [(name, data, futures) for name, data in named.items()], override

        yield _share(self._self(), "publish", arguments)

    def get_dataset(self, name: Any, default: Any = no_default, **kwargs: Any) -> Any:
        """A published dataset, bound to this client.

        Parameters
        ----------
        name : the name, or a list of names, which gives a list
        default : in place of one that is not there

        Raises
        ------
        KeyError
            It is not there, and there is no default.
        """
        steps = self._get_dataset_steps(name, default)
        return self._self()._drive(steps, kwargs.get("asynchronous"))

    def _get_dataset_steps(self, name: Any, default: Any) -> Steps[Any]:
        client = self._self()
        names = name if isinstance(name, list) else [name]
        delivery = yield coordinate(client._core, "get_datasets", names)
        datasets = []
        for wanted, (is_there, data) in zip(names, _load(client, delivery), strict=True):
            if not is_there and default is no_default:
                raise KeyError(f"Dataset '{wanted}' not found")
            datasets.append(data if is_there else default)
        return datasets if isinstance(name, list) else datasets[0]

    def list_datasets(self, **kwargs: Any) -> Any:
        """The names of the published datasets, in order."""
        return self._self()._drive(self._list_steps(), kwargs.get("asynchronous"))

    def _list_steps(self) -> Steps[list[Any]]:
        names = yield coordinate(self._self()._core, "list_datasets")
        return sorted(names, key=str)

    def unpublish_dataset(self, name: Any, **kwargs: Any) -> Any:
        """Take a dataset away, or a list of them; what is not there is ignored."""
        names = name if isinstance(name, list) else [name]
        return self._self()._drive(self._unpublish_steps(names), kwargs.get("asynchronous"))

    def _unpublish_steps(self, names: list[Any]) -> Steps[None]:
        yield coordinate(self._self()._core, "unpublish", names)

    @property
    def datasets(self) -> Datasets:
        """The published datasets as a mapping."""
        return Datasets(self._self())

    def set_metadata(self, key: Any, value: Any) -> Any:
        """Keep a small value at the scheduler.

        Parameters
        ----------
        key : str, or a list of keys as a path into nested dicts, which are made on the way
            What is kept under the key of a task goes with the task.
        value : None, bool, int, float, str, bytes, or lists and dicts of these
        """
        path = list(key) if isinstance(key, (list, tuple)) else [key]
        return self._self()._drive(self._set_metadata_steps(path, value))

    def _set_metadata_steps(self, path: list[Any], value: Any) -> Steps[None]:
        yield coordinate(self._self()._core, "set_metadata", path, value)

    def get_metadata(self, keys: Any, default: Any = no_default) -> Any:
        """A value of :meth:`set_metadata`.

        Parameters
        ----------
        keys : a key, or a path as a list
        default : in place of a value that is not there

        Raises
        ------
        KeyError
            It is not there, and there is no default.
        """
        path = list(keys) if isinstance(keys, (list, tuple)) else [keys]
        return self._self()._drive(self._get_metadata_steps(path, keys, default))

    def _get_metadata_steps(self, path: list[Any], keys: Any, default: Any) -> Steps[Any]:
        try:
            return (yield coordinate(self._self()._core, "get_metadata", path))
        except KeyError:
            if default is no_default:
                raise KeyError(keys) from None
            return default


class Datasets(MutableMapping[object, object]):
    """The published datasets of a cluster as a mapping; ``client.datasets``.

    With an asynchronous client, items are awaited and names are iterated by ``async for``;
    setting and deleting are done by the client's methods.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def _refuse(self, instead: str) -> None:
        if self._client.asynchronous:
            raise TypeError(f"the client is asynchronous: use {instead}")

    def __getitem__(self, key: Any) -> Any:
        return self._client.get_dataset(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._refuse("'await client.publish_dataset(value, name=…)'")
        self._client.publish_dataset(value, name=key)

    def __delitem__(self, key: Any) -> None:
        self._refuse("'await client.unpublish_dataset(name)'")
        self._client.unpublish_dataset(key)

    def __contains__(self, key: object) -> bool:
        self._refuse("'name in await client.list_datasets()'")
        return key in self._client.list_datasets()

    def __iter__(self) -> Iterator[Any]:
        self._refuse("'async for'")
        yield from self._client.list_datasets()

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._client.asynchronous:
            raise TypeError("the client is not asynchronous: use 'for'")
        return self._names()

    async def _names(self) -> AsyncIterator[Any]:
        for name in await self._client.list_datasets():
            yield name

    def __len__(self) -> int:
        self._refuse("'len(await client.list_datasets())'")
        return len(self._client.list_datasets())
