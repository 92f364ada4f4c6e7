"""The part of the client that brings results here, and data to workers."""

from __future__ import annotations

import os

from taskloom._nesting import find_futures, replace_futures
from taskloom._options import worker_names
from taskloom._taskloom import CoreFuture, content_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient
    from taskloom.future import Future

__all__ = ["Transfers"]


class Transfers:
    """Part of the client: gathering and scattering."""

    _core: CoreClient

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    @staticmethod
    def _parse_timeout(timeout: Any) -> float:
        raise NotImplementedError

    def gather(
        self,
        futures: Any,
        errors: str = "raise",
        direct: bool | None = None,
        asynchronous: bool | None = None,
    ) -> Any:
        """Bring results here: futures inside ``futures`` are replaced by their results.

        Parameters
        ----------
        futures : future, or nested lists, tuples, sets and dicts of them
            An iterator gives a generator.
        errors : {'raise', 'skip'}
            ``raise``: the first failed task's own exception is raised. ``skip``: failed ones are
            left out of a list, and ``None`` elsewhere.
        direct : accepted; see ``direct_to_workers`` of the client

        Raises
        ------
        Exception
            What the first failed task raised.
        CancelledError
            A future was cancelled.
        """
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors= must be 'raise' or 'skip', not {errors!r}")
        if hasattr(futures, "__next__"):
            return (self.gather(future, errors, direct, asynchronous) for future in futures)
        return self._drive(self._gather_steps(futures, errors), asynchronous)

    def _gather_steps(self, futures: Any, errors: str) -> Steps[Any]:
        raises = errors == "raise"
        if type(futures) is list and raises and all(isinstance(f, CoreFuture) for f in futures):
            return (yield self._core.gather(futures, True))
        found: list[Future] = []
        find_futures(futures, found)
        results = yield self._core.gather(found, raises)
        if raises:
            by_identity = {id(f): result for f, result in zip(found, results, strict=True)}
            return replace_futures(futures, lambda future: by_identity[id(future)])
        outcomes = {id(f): result for f, result in zip(found, results, strict=True)}
        if type(futures) is list:
            futures = [f for f in futures if id(f) not in outcomes or outcomes[id(f)][0]]
        return replace_futures(
            futures, lambda f: outcomes[id(f)][1] if outcomes[id(f)][0] else None
        )

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: Any = None,
        asynchronous: bool | None = None,
    ) -> Any:
        """Put data on workers, once, to be used by many tasks.

        Parameters
        ----------
        data : list, tuple, set, dict or any object
            Lists, tuples and sets give the same of futures; a dict gives a dict, its keys are
            the tasks' keys; any other object gives one future.
        workers : as in :meth:`submit`
        broadcast : bool
            A copy for every worker.
        direct : accepted; see ``direct_to_workers`` of the client
        hash : bool, default True
            Whether equal data share one key.
        timeout : how long to wait for a first worker, by default 30 s

        Raises
        ------
        TimeoutError
            No worker came in time.
        """
        if hasattr(data, "__next__") or hasattr(data, "get_nowait"):
            raise TypeError("scatter takes data, not iterators or queues: use list(…)")
        seconds = self._parse_timeout(timeout)
        steps = self._scatter_steps(data, workers, broadcast, hash, seconds)
        return self._drive(steps, asynchronous)

    def _scatter_steps(
        self, data: Any, workers: Any, broadcast: bool, hash: bool, timeout: float
    ) -> Steps[Any]:
        kind = type(data)
        if kind is range:
            data, kind = list(data), list
        if kind is dict:
            values, keys = list(data.values()), list(data)
        else:
            is_many = kind in (list, tuple, set, frozenset) or (
                isinstance(data, tuple) and hasattr(data, "_fields")
            )
            values = list(data) if is_many else [data]
            keys = [_data_key(value, hash) for value in values]
        items = list(zip(keys, values, strict=True))
        # Equal data share a key: it is sent once.
        unique = list({key: (key, value) for key, value in items}.values())
        futures = yield self._core.scatter(unique, worker_names(workers), bool(broadcast), timeout)
        by_key = {key: future for (key, _), future in zip(unique, futures, strict=True)}
        ordered = [by_key[key] for key in keys]
        if kind is dict:
            return dict(zip(keys, ordered, strict=True))
        if kind in (list, tuple, set, frozenset):
            return kind(ordered)
        if isinstance(data, tuple) and hasattr(data, "_fields"):
            return kind(*ordered)
        return ordered[0]


def _data_key(value: Any, hash: bool) -> str:
    name = type(value).__name__
    return f"{name}-{content_token(value)}" if hash else f"{name}-{os.urandom(16).hex()}"
