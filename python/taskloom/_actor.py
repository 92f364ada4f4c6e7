"""Actors: objects that live on a worker and are called from anywhere.

What a program has in hand is a proxy, :class:`Actor`. Calls go directly to the worker where the
object lives; see ``docs/design/actors.md``.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from taskloom._context import current_actor, current_worker
from taskloom._drive import complete, running_loop
from taskloom._taskloom import CoreActor, CoreActorFuture, decoding_source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from taskloom._taskloom import LocalActor
    from taskloom.client import Client

__all__ = ["Actor", "ActorFuture", "BaseActorFuture", "EagerActorFuture", "actor"]

T = TypeVar("T")
C = TypeVar("C", bound="type[Any]")


class BaseActorFuture(abc.ABC, Awaitable[T]):
    """The result of an actor's method, on its way: block on :meth:`result`, or await it."""

    @abc.abstractmethod
    def result(self, timeout: Any = None) -> T:
        """The method's result; raises what the method raised."""

    @abc.abstractmethod
    def done(self) -> bool:
        """Whether the result, or the exception, is there."""

    def __repr__(self) -> str:
        return "<ActorFuture>"


class EagerActorFuture(BaseActorFuture[T], Generic[T]):
    """The result of a method that an actor called on itself: it is there already."""

    def __init__(self, result: T) -> None:
        self._value = result

    def __await__(self) -> Generator[Any, None, T]:
        return self._value
        yield

    def result(self, timeout: Any = None) -> T:
        return self._value

    def done(self) -> bool:
        return True


class ActorFuture(CoreActorFuture, BaseActorFuture[Any]):
    """The result of an actor's method, on its way.

    May be awaited on any event loop and asked from any thread, as often as one likes. The call
    goes on whether or not anybody keeps its future.
    """

    def result(self, timeout: Any = None) -> Any:
        """The method's result; blocks until it is there. Awaitable with an asynchronous client.

        Parameters
        ----------
        timeout : seconds, or a text such as ``'100 ms'``; ``None`` waits for ever

        Raises
        ------
        TimeoutError
            The method has not ended in time; it goes on.
        ActorLostError
            The actor, or the connection to it, was lost while the call was under way.
        Exception
            What the method raised, with the traceback of the worker.
        """
        seconds = _seconds(timeout)
        if running_loop() is not None and _is_asynchronous(self._client_token):
            return complete(self._operation(), seconds)
        return self._result(seconds)

    def __await__(self) -> Generator[Any, None, Any]:
        return complete(self._operation()).__await__()

    def __repr__(self) -> str:
        return f"<ActorFuture: {'done' if self.done() else 'pending'}>"


class _Attribute:
    """An attribute of an actor, read where blocking is not possible: await it."""

    def __init__(self, future: ActorFuture, class_name: str, name: str) -> None:
        self._future = future
        self._what = f"{class_name!r} has no method {name!r}"

    def __await__(self) -> Generator[Any, None, Any]:
        return self._future.__await__()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AttributeError(f"actor of class {self._what}")


class _Description(NamedTuple):
    """What a proxy knows of its actor's class."""

    class_name: str
    methods: frozenset[str]
    attributes: frozenset[str]


class Actor(CoreActor):
    """A proxy of an object that lives on a worker.

    The result of ``client.submit(Class, ..., actor=True)``. A method call returns an
    :class:`ActorFuture` at once; calls from one process run in the order in which they were
    made. Reading an attribute gives its value, or an awaitable with an asynchronous client and
    in coroutines; it does not wait for methods that run or stand in line.

    Proxies may be pickled, and passed to tasks, actors and other clients. In clients, and in
    whatever keeps it beyond a task's inputs, a proxy keeps its actor alive.

    Examples
    --------
    >>> class Counter:
    ...     n = 0
    ...
    ...     def add(self, amount):
    ...         self.n += amount
    ...         return self.n
    >>> from taskloom import Client
    >>> with Client(n_workers=1) as client:
    ...     counter = client.submit(Counter, actor=True).result()
    ...     futures = [counter.add(1), counter.add(10)]
    ...     [future.result() for future in futures], counter.n
    ([1, 11], 11)
    """

    _about: _Description
    _scheduler_address: str

    def __new__(cls, key: Any, about: _Description, scheduler_address: str = "") -> Actor:
        self = super().__new__(cls, key)
        self._about = about
        self._scheduler_address = scheduler_address
        return self

    @property
    def client(self) -> Client:
        """The client by which calls go."""
        from taskloom._registry import client_of_token

        self._connect()
        token = self._client_token
        assert token is not None
        return client_of_token(token)

    def _connect(self) -> None:
        """Find a client, where the proxy came without one: among a task's inputs."""
        if not self._is_tied:
            from taskloom._registry import client_for_address

            client = client_for_address(self._scheduler_address)
            self._tie(client._core, current_worker.get(None) is None)

    def __getattr__(self, name: str) -> Any:
        about = self._about
        here = current_actor.get(None)
        if here is not None and here.key == self.key:
            return _own_attribute(here, name)
        if name in about.methods:
            self._connect()
            return partial(_call, self, name)
        if name.startswith("_") and name not in about.attributes:
            # Protocols of Python and of tools look for such names on any object.
            raise AttributeError(f"actor of class {about.class_name!r} has no method {name!r}")
        self._connect()
        future = self._read(ActorFuture, name)
        if _must_not_block(self._client_token):
            return _Attribute(future, about.class_name, name)
        return future.result()

    def __dir__(self) -> list[str]:
        about = self._about
        public = {name for name in about.methods | about.attributes if not name.startswith("_")}
        return sorted(set(super().__dir__()) | public)

    def __dask_tokenize__(self) -> Any:
        return ("Actor", self.key)

    def __reduce__(self) -> Any:
        # The receiver may unpickle it after the last proxy here is gone.
        ticket = self._deposit()
        about = self._about
        parts = (about.class_name, sorted(about.methods), sorted(about.attributes))
        return _unpickle, (self.key, parts, self._scheduler_address, ticket)

    def __repr__(self) -> str:
        return f"<Actor: {self._about.class_name}, key={self.key}>"


def _call(proxy: Actor, name: str, *args: Any, **kwargs: Any) -> Any:
    token = proxy._client_token
    from taskloom._registry import core_of_token

    assert token is not None
    return proxy._call(core_of_token(token), ActorFuture, name, args, kwargs or None)


def _own_attribute(here: LocalActor, name: str) -> Any:
    """What an actor's method gets from a proxy of that actor: waiting would be for ever."""
    from inspect import iscoroutinefunction

    attribute = getattr(here.instance, name)
    if not callable(attribute) or iscoroutinefunction(attribute):
        return attribute
    return lambda *args, **kwargs: EagerActorFuture(attribute(*args, **kwargs))


def _must_not_block(token: int | None) -> bool:
    if running_loop() is None:
        return False
    return current_worker.get(None) is not None or (token is not None and _is_asynchronous(token))


def _is_asynchronous(token: int) -> bool:
    from taskloom._registry import is_asynchronous

    return is_asynchronous(token)


def _seconds(timeout: Any) -> float | None:
    if timeout is None or type(timeout) in (int, float):
        return timeout
    from taskloom.utils import parse_seconds

    return parse_seconds(timeout)


def _unpickle(
    key: Any,
    parts: tuple[str, list[str], list[str]],
    address: str,
    ticket: int | None = None,
) -> Actor:
    class_name, methods, attributes = parts
    about = _Description(class_name, frozenset(methods), frozenset(attributes))
    proxy = Actor(key, about, address)
    is_input, token = decoding_source()
    if is_input:
        return proxy
    from taskloom._registry import client_for_address, client_of_token

    client = client_of_token(token) if token is not None else client_for_address(address)
    proxy._tie(client._core, True, ticket)
    return proxy


def describe(instance: Any) -> _Description:
    """What proxies of an object need to know."""
    kind = type(instance)
    own = set(dir(kind)) - set(dir(object))
    methods = {name for name in own if callable(getattr(kind, name, None))}
    return _Description(kind.__name__, frozenset(methods), frozenset(own - methods))


class _Policy(NamedTuple):
    """What becomes of an actor whose worker is lost."""

    restart: bool
    snapshot_every: int


@overload
def actor(cls: C, /) -> C: ...
@overload
def actor(*, restart: bool = False, snapshot_every: int | None = None) -> Callable[[C], C]: ...
def actor(
    cls: C | None = None, /, *, restart: bool = False, snapshot_every: int | None = None
) -> Any:
    """Say, on a class, what becomes of its actors when their worker is lost.

    Without it the state is lost with the worker: calls raise ``ActorLostError``.

    Parameters
    ----------
    restart : bool, default False
        Make the actor again, on another worker, from its last snapshot. A snapshot is the
        actor's pickle (``__getstate__`` and ``__setstate__`` say what is in it) of at most
        16 MiB, and is kept by the scheduler. The first is taken when the actor is made.
    snapshot_every : int, optional
        Take one after each so many method calls. A call is answered once its snapshot is safe:
        with 1 no answered call is lost. ``None``: only the first one is taken.

    Calls that are under way when the worker is lost raise ``ActorLostError`` in any case: they may
    have had effects, and are not made twice.

    Raises
    ------
    ValueError
        ``snapshot_every`` without ``restart``, or less than 1.

    Examples
    --------
    >>> @actor(restart=True, snapshot_every=1)
    ... class Counter:
    ...     n = 0
    ...
    ...     def add(self, amount):
    ...         self.n += amount
    ...         return self.n
    """
    if snapshot_every is not None and not restart:
        raise ValueError("snapshot_every= has no use without restart=True")
    if snapshot_every is not None and snapshot_every < 1:
        raise ValueError(f"snapshot_every= counts calls: at least 1, not {snapshot_every}")

    def mark(cls: C) -> C:
        if not isinstance(cls, type):
            raise TypeError(f"@actor marks classes, not {cls!r}")
        cls.__taskloom_actor__ = _Policy(restart, snapshot_every or 0)
        return cls

    return mark if cls is None else mark(cls)
