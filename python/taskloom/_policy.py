"""What few tasks ask for: policies for further attempts, and limits of time."""

from __future__ import annotations

import math

from taskloom._taskloom import CorePolicy
from taskloom.utils import parse_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["Backoff", "Retry"]

#: Options that have no keyword in ``submit``.
LIMITS = ("timeout", "hard_timeout", "cancel_grace")


def _seconds(value: Any, name: str) -> float:
    """A length of time that makes sense, in seconds."""
    if isinstance(value, bool):
        raise TypeError(f"{name}= takes seconds or a text such as '10s', not {value!r}")
    try:
        seconds = parse_seconds(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}=: {error}") from None
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name}= must be a length of time, not {value!r}")
    return seconds


class Backoff:
    """Pauses that grow: ``initial``, ``initial * factor``, … up to ``max``.

    Parameters
    ----------
    initial : float (seconds) or str such as ``'500 ms'``
    factor : float, default 2
        By which each pause is longer than the one before; at least 1.
    max : float or str, optional
        No pause is longer.

    Examples
    --------
    >>> Backoff("1s", max="1 min")
    Backoff(1.0, factor=2.0, max=60.0)
    """

    __slots__ = ("factor", "initial", "max")

    def __init__(self, initial: Any, factor: float = 2.0, max: Any = None) -> None:
        self.initial = _seconds(initial, "initial")
        self.factor = float(factor)
        self.max = None if max is None else _seconds(max, "max")
        if not 1 <= self.factor <= 1_000_000:
            raise ValueError(f"factor= must be at least 1, not {factor!r}")

    def _parts(self) -> tuple[Any, ...]:
        return self.initial, self.factor, self.max

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backoff) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"Backoff({self.initial}, factor={self.factor}, max={self.max})"


class Retry:
    """A policy for ``retries=``: how often, when and after which exceptions to try again.

    Parameters
    ----------
    max_attempts : int, default 3
        Attempts in all, the first one included; at least 1.
    backoff : Backoff, float, str, or a sequence of float or str, optional
        The pause before each further attempt: growing, always the same, or one by one (the last
        of a sequence is that of all further ones). The scheduler keeps it; meanwhile the
        task occupies nothing. By default there is none.
    jitter : float from 0 to 1, default 0.1
        By which part of itself a pause changes at most, up or down, so that tasks that failed
        together do not come back together. Key and attempt decide.
    on : exception type, its name, or a sequence of them, optional
        Only these are followed by another attempt. Subclasses count too. A name is that of a
        class with or without its module, such as ``'OSError'`` or ``'socket.gaierror'``.
    not_on : as ``on``
        These are not.

    A lost worker does not count as an attempt; a time-out of the task does, as
    ``taskloom.TaskTimeout``.

    Examples
    --------
    >>> from taskloom import Backoff, Retry
    >>> policy = Retry(5, backoff=Backoff("1s", max="30s"), on=OSError, not_on=FileNotFoundError)
    >>> future = client.submit(download, url, retries=policy)  # doctest: +SKIP
    """

    __slots__ = ("backoff", "delays", "jitter", "max_attempts", "not_on", "on")

    def __init__(
        self,
        max_attempts: int = 3,
        backoff: Any = None,
        jitter: float = 0.1,
        on: Any = None,
        not_on: Any = None,
    ) -> None:
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int):
            raise TypeError(f"max_attempts= must be an int, not {max_attempts!r}")
        if not 1 <= max_attempts < 2**32:
            raise ValueError(f"max_attempts= must be at least 1, not {max_attempts}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter= must be from 0 to 1, not {jitter!r}")
        self.max_attempts = max_attempts
        self.backoff = backoff if isinstance(backoff, Backoff) else None
        self.delays = (self.backoff.initial,) if self.backoff is not None else _delays_of(backoff)
        self.jitter = float(jitter)
        self.on = _names_of(on, "on")
        self.not_on = _names_of(not_on, "not_on")

    def _parts(self) -> tuple[Any, ...]:
        return self.max_attempts, self.backoff, self.delays, self.jitter, self.on, self.not_on

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __call__(self, _key: Any) -> Retry:
        # dask.annotate takes numbers, and functions of a task's key, for ``retries``: a policy
        # is the function that gives itself for each key.
        return self

    def __repr__(self) -> str:
        backoff = self.backoff or (list(self.delays) if self.delays else None)
        return (
            f"Retry({self.max_attempts}, backoff={backoff!r}, jitter={self.jitter}, "
            f"on={list(self.on)}, not_on={list(self.not_on)})"
        )


def _delays_of(backoff: Any) -> tuple[float, ...]:
    if backoff is None:
        return ()
    if isinstance(backoff, (list, tuple)):
        return tuple(_seconds(delay, "backoff") for delay in backoff)
    return (_seconds(backoff, "backoff"),)


def _names_of(kinds: Any, name: str) -> tuple[str, ...]:
    """Names of exception types, from one or several types or names."""
    if kinds is None:
        return ()
    entries: Iterable[Any] = kinds if isinstance(kinds, (list, tuple, set, frozenset)) else [kinds]
    names = []
    for kind in entries:
        if isinstance(kind, type) and issubclass(kind, BaseException):
            names.append(f"{kind.__module__}.{kind.__qualname__}")
        elif isinstance(kind, str) and kind:
            names.append(kind)
        else:
            raise TypeError(f"{name}= takes exception types or their names, not {kind!r}")
    return tuple(names)


class Policy:
    """The rarely used options of one or more tasks, checked; a value that can be compared."""

    __slots__ = ("cancel_grace", "hard_timeout", "retries", "retry", "timeout")

    def __init__(self, retries: int, retry: Retry | None, limits: Mapping[str, Any]) -> None:
        def limit(name: str) -> float | None:
            value = limits.get(name)
            return None if value is None else _seconds(value, name)

        self.retries = retries
        self.retry = retry
        self.timeout = limit("timeout")
        self.hard_timeout = limit("hard_timeout")
        self.cancel_grace = limit("cancel_grace")
        for name in ("timeout", "hard_timeout"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name}= must be more than 0; None means that there is none")
        if self.timeout and self.hard_timeout and self.timeout >= self.hard_timeout:
            raise ValueError(
                f"hard_timeout={self.hard_timeout} must be more than timeout={self.timeout}: the "
                "time between them is for the task to end by itself"
            )

    def _parts(self) -> tuple[Any, ...]:
        limits = self.timeout, self.hard_timeout, self.cancel_grace
        return self.retries, self.retry, *limits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def core(self) -> CorePolicy:
        """As the extension module takes it."""
        retry = self.retry or _PLAIN
        backoff = retry.backoff
        return CorePolicy(
            retries=self.retries,
            delays=list(retry.delays),
            factor=backoff.factor if backoff else 1.0,
            max_delay=(backoff.max if backoff else None) or 0.0,
            jitter=retry.jitter,
            on=list(retry.on),
            not_on=list(retry.not_on),
            timeout=self.timeout or 0.0,
            hard_timeout=self.hard_timeout or 0.0,
            cancel_grace=self.cancel_grace,
        )


_PLAIN = Retry(1, jitter=0.0)


def make_policy(retries: Any, options: Mapping[str, Any]) -> tuple[int, Policy | None]:
    """How many retries, and what else there is to say of them and of time.

    Parameters
    ----------
    retries : int, Retry or None
    options : may have ``timeout``, ``hard_timeout``, ``cancel_grace``

    Raises
    ------
    TypeError, ValueError
        A value that cannot be meant.
    """
    retry = retries if isinstance(retries, Retry) else None
    count = retry.max_attempts - 1 if retry is not None else _count(retries)
    if retry is None and all(options.get(name) is None for name in LIMITS):
        return count, None
    return count, Policy(count, retry, options)


def _count(retries: Any) -> int:
    try:
        count = int(retries or 0)
    except (TypeError, ValueError):
        raise TypeError(f"retries= takes an int or a taskloom.Retry, not {retries!r}") from None
    if not 0 <= count < 2**32:
        raise ValueError(f"retries= must not be negative, not {count}")
    return count
