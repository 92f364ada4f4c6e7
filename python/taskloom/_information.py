"""The part of the client that asks about, and manages, the cluster."""

from __future__ import annotations

from taskloom._options import worker_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient


def _keys(futures: Any) -> list[Any]:
    """Keys of futures, collections or keys."""
    from taskloom._registry import futures_of

    if isinstance(futures, (str, bytes, int, float)):
        return [futures]
    found = futures_of(futures)
    if found:
        return [future.key for future in found]
    return list(futures)


def _name(name: str) -> Any:
    """A worker's name; numbered workers have a number."""
    return int(name) if name.isdecimal() and str(int(name)) == name else name


class Information:
    """Questions to the scheduler, and orders about workers."""

    _core: CoreClient
    status: str

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    def _ask(self, name: str, *arguments: Any) -> Steps[Any]:
        return (yield self._core.ask(name, *arguments))

    # Data ---------------------------------------------------------------------------------

    def who_has(self, futures: Any = None, **kwargs: Any) -> Any:
        """Which workers hold results: ``{key: [address]}``.

        Parameters
        ----------
        futures : futures, collections or keys; ``None`` means all keys of the cluster
        """
        return self._drive(self._who_has_steps(futures))

    def _who_has_steps(self, futures: Any) -> Steps[dict[Any, tuple[str, ...]]]:
        keys = [] if futures is None else _keys(futures)
        if futures is not None and not keys:
            return {}
        found = yield self._core.ask("who_has", keys)
        return {key: tuple(addresses) for key, addresses in found.items()}

    def has_what(self, workers: Any = None, **kwargs: Any) -> Any:
        """Which results workers hold: ``{address: (key, …)}``."""
        return self._drive(self._by_worker_steps("has_what", workers))

    def processing(self, workers: Any = None) -> Any:
        """Which tasks workers run or were given: ``{address: (key, …)}``."""
        return self._drive(self._by_worker_steps("processing", workers))

    def _by_worker_steps(self, name: str, workers: Any) -> Steps[dict[str, tuple[Any, ...]]]:
        found = yield self._core.ask(name, worker_names(workers))
        return {address: tuple(keys) for address, keys in found.items()}

    def nbytes(self, keys: Any = None, summary: bool = True, **kwargs: Any) -> Any:
        """Sizes of results in bytes, by key, or by group of keys when ``summary``."""
        return self._drive(self._nbytes_steps(keys, summary))

    def _nbytes_steps(self, keys: Any, summary: bool) -> Steps[dict[Any, int]]:
        sizes = yield self._core.ask("nbytes", [] if keys is None else _keys(keys))
        if not summary:
            return sizes
        from taskloom._taskloom import key_split

        groups: dict[Any, int] = {}
        for key, size in sizes.items():
            group = key_split(key)
            groups[group] = groups.get(group, 0) + size
        return groups

    # Tasks --------------------------------------------------------------------------------

    def call_stack(self, futures: Any = None, keys: Any = None) -> Any:
        """Where running tasks are: the lines of their stacks, ``{address: {key: [line, …]}}``.

        Parameters
        ----------
        futures, keys : which tasks; all that run when both are left out
        """
        wanted = _keys(futures) if futures is not None else list(keys or ())
        return self._drive(self._call_stack_steps(wanted, futures is not None or keys is not None))

    def _call_stack_steps(self, keys: list[Any], restricted: bool) -> Steps[dict[str, Any]]:
        from taskloom._worker_calls import call_stack

        processing = yield self._core.ask("processing", [])
        wanted = set(keys)
        workers = [
            address
            for address, tasks in processing.items()
            if tasks and (not restricted or not wanted.isdisjoint(tasks))
        ]
        if not workers:
            return {}
        answers = yield self._core.ask("run", call_stack, (keys,), {}, workers, False)
        return {address: stacks for address, (ok, stacks) in answers.items() if ok and stacks}

    def story(self, *keys_or_futures: Any, on_error: str = "raise") -> Any:
        """The last transitions of keys: ``[[seconds, from, to, worker's number]]``, in their order.

        Parameters
        ----------
        keys_or_futures : whose transitions
        on_error : accepted; only the scheduler is asked
        """
        keys = [getattr(key, "key", key) for key in keys_or_futures]
        return self._drive(self._story_steps(keys))

    def _story_steps(self, keys: list[Any]) -> Steps[list[Any]]:
        rows = []
        for key in keys:
            rows += yield self._core.ask("story", key)
        return sorted(rows, key=lambda row: row[0])

    def explain(self, key: Any) -> Any:
        """Why a task is where it is, in machine-readable form: ``{key, state, reason, …}``."""
        return self._drive(self._ask("explain", getattr(key, "key", key)))

    def counters(self) -> Any:
        """The scheduler's counters: transitions, dropped stale messages, bytes, …"""
        return self._drive(self._ask("counters"))

    # Workers ------------------------------------------------------------------------------

    def scheduler_info(self, n_workers: int = -1, **kwargs: Any) -> Any:
        """The scheduler and its workers: ``{address, workers: {address: {…}}, …}``.

        Parameters
        ----------
        n_workers : describe at most so many workers; -1 means all

        Answers at once, also with an asynchronous client.
        """
        return self._drive(self._info_steps(n_workers), False)

    def _info_steps(self, n_workers: int = -1) -> Steps[dict[str, Any]]:
        info = yield self._core.ask("scheduler_info")
        for worker in info["workers"].values():
            worker["name"] = _name(worker["name"])
        if n_workers >= 0:
            info["workers"] = dict(list(info["workers"].items())[:n_workers])
        return info

    def nthreads(self, workers: Any = None, **kwargs: Any) -> Any:
        """Number of threads of each worker: ``{address: n}``."""
        return self._drive(self._nthreads_steps(workers))

    def ncores(self, workers: Any = None, **kwargs: Any) -> Any:
        """The same as :meth:`nthreads`."""
        return self.nthreads(workers)

    def _nthreads_steps(self, workers: Any) -> Steps[dict[str, int]]:
        info = yield self._core.ask("scheduler_info")
        wanted = set(worker_names(workers))
        return {
            address: worker["nthreads"]
            for address, worker in info["workers"].items()
            if not wanted or address in wanted or str(worker["name"]) in wanted
        }

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Block until so many workers run.

        Raises
        ------
        TimeoutError
            They did not come in ``timeout`` seconds.
        """
        if not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers must be a positive integer, not {n_workers!r}")
        from taskloom.utils import parse_seconds

        return self._drive(self._ask("wait_for_workers", n_workers, parse_seconds(timeout)))

    def restart(self, timeout: Any = None, wait_for_workers: bool = True) -> Any:
        """Forget all tasks and start new worker processes.

        Raises
        ------
        TimeoutError
            The workers did not come back in ``timeout`` seconds, by default 60.
        """
        from taskloom.utils import parse_seconds

        seconds = parse_seconds(timeout)
        return self._drive(
            self._restart_steps(60.0 if seconds is None else seconds, wait_for_workers)
        )

    def _restart_steps(self, timeout: float, wait_for_workers: bool) -> Steps[None]:
        operation = self._core.ask("restart", timeout, [])
        if wait_for_workers:
            yield operation

    def restart_workers(
        self, workers: Any, timeout: Any = None, raise_for_error: bool = True
    ) -> Any:
        """Start new processes in place of these workers; their tasks run elsewhere or again."""
        from taskloom.utils import parse_seconds

        names = worker_names(workers)
        return self._drive(
            self._restart_workers_steps(names, parse_seconds(timeout), raise_for_error)
        )

    def _restart_workers_steps(
        self, names: list[str], timeout: float | None, raise_for_error: bool
    ) -> Steps[dict[str, str]]:
        if not names:
            return {}
        try:
            yield self._core.ask("restart", timeout, names)
        except TimeoutError:
            if raise_for_error:
                raise
            return dict.fromkeys(names, "timed out")
        return dict.fromkeys(names, "OK")

    def retire_workers(self, workers: Any = None, close_workers: bool = True, **kwargs: Any) -> Any:
        """End workers after their results have been copied to others.

        Parameters
        ----------
        workers : addresses or names; ``None`` means idle ones that the scheduler chooses
        close_workers : whether the processes end too
        names : as ``workers``
        remove : accepted for programs written for Dask

        Raises
        ------
        NotImplementedError
            Keywords by which Dask's scheduler chooses workers: use ``cluster.scale`` or ``adapt``.
        """
        names = worker_names(workers) + worker_names(kwargs.pop("names", None))
        kwargs.pop("remove", None)
        if kwargs:
            raise NotImplementedError(
                f"retire_workers() does not offer {sorted(kwargs)}: name the workers, or use "
                "cluster.scale() or cluster.adapt()"
            )
        return self._drive(self._ask("retire_workers", names, bool(close_workers)))

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: Any = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Call ``function(*args, **kwargs)`` on every worker, outside the task queue.

        Parameters
        ----------
        workers : where; ``None`` means everywhere
        wait : whether to wait for the results; ``None`` is returned otherwise
        nanny : not offered
        on_error : {'raise', 'return', 'ignore'}
            What to do with a call that failed.

        Returns
        -------
        ``{address: result}``. A parameter named ``dask_worker`` gets the worker.
        """
        if nanny:
            raise NotImplementedError("run(nanny=True) is not offered: supervisors run no Python")
        if on_error not in ("raise", "return", "ignore"):
            raise ValueError(f"on_error= must be 'raise', 'return' or 'ignore', not {on_error!r}")
        names = worker_names(workers)
        return self._drive(self._run_steps(function, args, kwargs, names, wait, on_error))

    def _run_steps(
        self, function: Any, args: Any, kwargs: Any, names: list[str], wait: bool, on_error: str
    ) -> Steps[dict[str, Any] | None]:
        answers = yield self._core.ask("run", function, args, kwargs, names, not wait)
        if not wait:
            return None
        results = {}
        for address, (ok, result) in answers.items():
            if not ok and on_error == "raise":
                raise result
            if ok or on_error == "return":
                results[address] = result
        return results

    @property
    def dashboard_link(self) -> None:
        """There is no dashboard yet."""
        return
