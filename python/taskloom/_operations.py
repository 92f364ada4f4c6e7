"""The part of the client for those who operate a cluster: logs, versions, dumps."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient

__all__ = ["Operations", "TaskLogRecord"]


class TaskLogRecord(NamedTuple):
    """Something that a task wrote.

    Attributes
    ----------
    stream : ``stdout``, ``stderr`` or ``log``
    text : pieces of a stream as they were written, or a log record's message
    time : seconds since 1970, by the worker's clock
    worker : address of the worker
    attempt : which run of the task it was, from 1
    level, logger : of log records; 0 and ``''`` otherwise
    dropped_bytes : bytes before this that were dropped, since too much was written at once
    """

    stream: str
    text: str
    time: float
    worker: str
    attempt: int
    level: int = 0
    logger: str = ""
    dropped_bytes: int = 0


class Operations:
    """Part of the client: logs, versions, dumps, and functions beside the tasks."""

    _core: CoreClient

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    # Copies of results ---------------------------------------------------------------------

    def replicate(
        self,
        futures: Any,
        n: int | None = None,
        workers: Any = None,
        branching_factor: int = 2,
        **kwargs: Any,
    ) -> Any:
        """Copy results to more workers, once they are there.

        Parameters
        ----------
        futures : futures or collections
        n : how many of ``workers`` shall hold each result; by default all of them. Copies that
            exist beyond that stay.
        workers : addresses or names; by default all
        branching_factor : accepted; workers fetch from any holder

        Raises
        ------
        SchedulerError
            A result could not be copied; the message says which and why.
        """
        if n is not None and (not isinstance(n, int) or n < 1):
            raise ValueError(f"n must be a positive integer, not {n!r}")
        from taskloom._options import worker_names
        from taskloom._registry import futures_of

        found = futures_of(futures)
        if not found:
            raise ValueError("replicate() takes futures, or collections of them: there are none")
        return self._drive(self._replicate_steps(found, n or 0, worker_names(workers)))

    def _replicate_steps(self, futures: list[Any], n: int, workers: list[str]) -> Steps[None]:
        yield self._core.completion(futures, len(futures))
        keys = list(dict.fromkeys(future.key for future in futures))
        _check_copies("replicate", (yield self._core.ask("replicate", keys, n, workers)))

    def rebalance(self, futures: Any = None, workers: Any = None, **kwargs: Any) -> Any:
        """Move results from workers that hold much to those that hold little.

        Parameters
        ----------
        futures : futures or collections; by default all results of the cluster
        workers : addresses or names among which results are moved; by default all

        Results that a task under way needs stay where they are. Workers are compared by the bytes
        of the results that they hold.

        Raises
        ------
        SchedulerError
            A result could not be moved; the message says which and why.
        """
        from taskloom._options import worker_names
        from taskloom._registry import futures_of

        found = [] if futures is None else futures_of(futures)
        if futures is not None and not found:
            return self._drive(_nothing())
        return self._drive(self._rebalance_steps(found, worker_names(workers)))

    def _rebalance_steps(self, futures: list[Any], workers: list[str]) -> Steps[None]:
        if futures:
            yield self._core.completion(futures, len(futures))
        keys = list(dict.fromkeys(future.key for future in futures))
        _check_copies("rebalance", (yield self._core.ask("rebalance", keys, workers)))

    # Logs ---------------------------------------------------------------------------------

    def get_task_logs(self, futures: Any) -> Any:
        """Get what tasks wrote to ``sys.stdout``, ``sys.stderr`` and the loggers.

        Parameters
        ----------
        futures : a future, a key, or a list or collection of them

        Returns
        -------
        A list of :class:`TaskLogRecord`, oldest first, for one future or key; for several
        ``{key: list}``.

        The scheduler keeps the logs of a key when the task has ended, also after its worker died:
        the last 256 KiB of a task, 64 MiB in all, until other work takes over the key. Threads that
        a task starts, and C code that writes to the descriptors, are not seen.
        """
        from taskloom._information import _keys

        is_one = isinstance(futures, (str, bytes, int, float, tuple)) or hasattr(futures, "key")
        keys = [getattr(futures, "key", futures)] if is_one else _keys(futures)
        return self._drive(self._task_logs_steps(keys, is_one))

    def _task_logs_steps(self, keys: list[Any], is_one: bool) -> Steps[Any]:
        answer = yield self._core.ask("task_logs", keys)
        found = {key: [TaskLogRecord(**row) for row in rows] for key, rows in answer.items()}
        return found[keys[0]] if is_one else found

    def get_worker_logs(
        self, n: int | None = None, workers: Any = None, nanny: bool = False
    ) -> Any:
        """Get the last log records of workers: ``{address: ((level, text), …)}``, newest first.

        Parameters
        ----------
        n : at most so many; by default all that are kept (10,000)
        workers : addresses or names; by default all
        nanny : not offered

        Workers of one process share their log.
        """
        if nanny:
            raise NotImplementedError(
                "get_worker_logs(nanny=True) is not offered: supervisors run no Python and keep no "
                "log; how a worker ended is in get_scheduler_logs() and in KilledWorker"
            )
        from taskloom._options import worker_names

        return self._drive(self._worker_logs_steps(n, worker_names(workers)))

    def _worker_logs_steps(self, n: int | None, workers: list[str]) -> Steps[dict[str, Any]]:
        from taskloom._worker_calls import last_logs

        answers = yield self._core.ask("run", last_logs, (n,), {}, workers, False)
        return {address: logs for address, (ok, logs) in answers.items() if ok}

    def get_scheduler_logs(self, n: int | None = None) -> Any:
        """Get the scheduler's last log lines: ``((level, text), …)``, newest first.

        Parameters
        ----------
        n : at most so many; by default all that are kept (2,000)
        """
        return self._drive(self._scheduler_logs_steps(n))

    def _scheduler_logs_steps(self, n: int | None) -> Steps[tuple[tuple[str, str], ...]]:
        lines = yield self._core.ask("scheduler_log")
        now = time.time()
        newest = [(level, f"{_clock(now - age)} - {text}") for age, level, text in reversed(lines)]
        return tuple(newest if n is None else newest[:n])

    # Versions -----------------------------------------------------------------------------

    def get_versions(self, check: bool = False, packages: Sequence[str] | None = None) -> Any:
        """Get versions of Python and packages: ``{'scheduler', 'workers', 'client'}``.

        Parameters
        ----------
        check : bool
            Raise if workers differ from this process in Python's minor version, taskloom,
            cloudpickle or ``packages``.
        packages : names of further packages

        Raises
        ------
        ValueError
            They differ, and ``check``; the message has a table.
        """
        return self._drive(self._versions_steps(check, list(packages or ())))

    def _versions_steps(self, check: bool, packages: list[str]) -> Steps[dict[str, Any]]:
        from taskloom._versions import local_versions, mismatches

        info = yield self._core.ask("scheduler_info")
        answers = yield self._core.ask("run", local_versions, (packages,), {}, [], False)
        versions = {
            "scheduler": {"host": {}, "packages": {"taskloom": info["version"]}},
            "workers": {address: found for address, (ok, found) in answers.items() if ok},
            "client": local_versions(packages),
        }
        if check:
            text = mismatches(versions, packages)
            if text:
                raise ValueError(text)
        return versions

    # Dumps --------------------------------------------------------------------------------

    def dump_cluster_state(
        self,
        filename: str = "taskloom-cluster-dump",
        write_from_scheduler: bool | None = None,
        exclude: Collection[str] = (),
        format: str = "json",
        **storage_options: Any,
    ) -> Any:
        """Write all that scheduler and workers know to a file, for a bug report.

        Parameters
        ----------
        filename : str
            Without the ending, which the format adds. A URL such as ``s3://…`` needs ``fsspec``.
        write_from_scheduler : not offered: the file is written by this process
        exclude : names of entries that are left out, at any depth
        format : {'json', 'yaml', 'msgpack'}
            ``yaml`` needs PyYAML; ``msgpack`` needs msgpack and is compressed, as Dask's.
        **storage_options : for ``fsspec``
        """
        if write_from_scheduler:
            raise NotImplementedError(
                "write_from_scheduler=True is not offered: no Python runs in the scheduler; leave "
                "it out, and this process writes the file"
            )
        from taskloom._dump import writer

        write = writer(filename, format, storage_options)
        return self._drive(self._dump_steps(write, set(exclude)))

    def _dump_steps(self, write: Callable[[Any], None], exclude: set[str]) -> Steps[None]:
        from taskloom._dump import plain
        from taskloom._worker_calls import worker_state

        state = yield self._core.ask("dump")
        answers = yield self._core.ask("run", worker_state, (), {}, [], False)
        state["workers"] = {
            address: found if ok else repr(found) for address, (ok, found) in answers.items()
        }
        state["versions"] = yield from self._versions_steps(False, [])
        write(plain(state, exclude))

    # Functions beside the tasks -----------------------------------------------------------

    def run_on_scheduler(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function against the scheduler: here, in this process.

        No Python runs in taskloom's scheduler. A parameter named ``dask_scheduler`` gets a
        :class:`taskloom.scheduler_handle.SchedulerHandle`, which asks the scheduler.

        Raises
        ------
        AttributeError
            The function uses something of the scheduler that the handle does not offer.
        """
        if not callable(function):
            raise TypeError(f"function must be callable, not {function!r}")
        from taskloom._worker_calls import _has_parameter
        from taskloom.scheduler_handle import SchedulerHandle

        if "dask_scheduler" not in kwargs and _has_parameter(function, "dask_scheduler"):
            kwargs["dask_scheduler"] = SchedulerHandle(self)

        async def call() -> Any:
            result = function(*args, **kwargs)
            return await result if hasattr(result, "__await__") else result

        if self.asynchronous:  # type: ignore[attr-defined]
            return call()
        result = function(*args, **kwargs)
        if hasattr(result, "__await__"):
            import asyncio

            return asyncio.run(_awaited(result))
        return result

    def run_coroutine(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The old name of :meth:`run` for coroutine functions."""
        return self.run(function, *args, **kwargs)  # type: ignore[attr-defined]


def _nothing() -> Steps[None]:
    yield from ()


def _check_copies(what: str, answer: dict[str, Any]) -> None:
    failed = answer["failed"]
    if failed:
        from taskloom.errors import SchedulerError

        some = "; ".join(f"{key!r}: {why}" for key, why in list(failed.items())[:10])
        raise SchedulerError(f"{what}: {len(failed)} results were not copied: {some}", "copies")


async def _awaited(result: Any) -> Any:
    return await result


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
