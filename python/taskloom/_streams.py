"""The parts of the client that Dask's has not: options for all calls, streams of calls."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from typing import Any

    from taskloom._imap import Imap
    from taskloom._policy import Retry
    from taskloom.client import Client


class Streams:
    """``with_options`` and ``imap``."""

    #: What :meth:`with_options` gave, by the names of dask's annotations.
    _given_options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def _self(self) -> Client:
        """The client that this is a part of."""
        raise NotImplementedError

    def with_options(
        self,
        *,
        timeout: Any = None,
        hard_timeout: Any = None,
        cancel_grace: Any = None,
        retries: int | Retry | None = None,
        priority: int | None = None,
        workers: Any = None,
        resources: dict[str, float] | None = None,
        allow_other_workers: bool | None = None,
    ) -> Client:
        """A view of this client whose ``submit``, ``map``, ``compute``, ``persist``, ``get`` and
        ``imap`` have these options.

        The view is the same client in all other respects, and costs nothing to make. A keyword
        of the call counts more than an option of the view, and that more than
        ``dask.annotate``, which takes the same names.

        Parameters
        ----------
        timeout : float (seconds) or str such as ``'10 s'``, optional
            Run time after which :class:`~taskloom.TaskTimeout` is raised inside the task, at its
            next Python instruction; a coroutine is cancelled. Time in queues does not count;
            time after ``secede`` does. The task may clean up, or return what it has. Otherwise
            the attempt has failed: ``retries`` apply.
        hard_timeout : float or str, optional
            Run time after which the attempt has failed whatever the task does: its worker
            process is replaced. Other tasks that were in it run again and are not blamed.
        cancel_grace : float or str, optional
            How long the task may run on after it was cancelled before its worker process is
            replaced. By default for ever, unless it is cancelled with ``force=True``.
        retries : int or Retry, optional
        priority, workers, resources, allow_other_workers : as in ``submit``

        Raises
        ------
        TypeError, ValueError
            A value that cannot be meant.

        Examples
        --------
        >>> future = client.with_options(timeout="5s", retries=2).submit(sum, [1, 2])
        >>> future.result()
        3
        """
        from taskloom._imap import view_of

        given = {
            "timeout": timeout,
            "hard_timeout": hard_timeout,
            "cancel_grace": cancel_grace,
            "retries": retries,
            "priority": priority,
            "workers": workers,
            "resources": resources,
            "allow_other_workers": allow_other_workers,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return view_of(self._self(), {**self._given_options, **given})

    def imap(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        window: int = 128,
        ordered: bool = True,
        pure: bool = True,
        **kwargs: Any,
    ) -> Imap:
        """Run ``func`` for each item of iterables that need not end; give the results one by one.

        At most ``window`` calls are under way or wait to be taken: the iterables are read as
        the results are, and memory stays constant.

        Parameters
        ----------
        *iterables : iterables or iterators
            Several are zipped, the shortest ends it. Asynchronous ones need ``async for``.
        window : int, default 128
            Items that are read ahead of the results that were taken.
        ordered : bool, default True
            Results in the order of the items, or as they come.
        pure : bool, default True
            Whether equal calls under way may share one run.
        **kwargs : for every call of ``func``

        Returns
        -------
        Imap
            Iterator, also for ``async for``, and context manager. The exception of a failed call
            is raised in its place, and the iteration may go on after it. Closing the
            iterator, or letting it go, cancels what is under way.

        Raises
        ------
        TypeError, ValueError
            ``func`` is not callable; there is nothing to iterate over; ``window`` is below 1.

        Examples
        --------
        >>> from itertools import count, islice
        >>> squares = client.imap(pow, count(), [2] * 1000, window=10)
        >>> list(islice(squares, 4))
        [0, 1, 4, 9]
        """
        from taskloom._imap import Imap

        return Imap(self._self(), func, iterables, kwargs, window, ordered, pure)
