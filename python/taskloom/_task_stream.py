"""What ran when, as the client sees it: ``get_task_stream`` and ``get_task_metadata``.

Nothing is recorded until somebody asks for it; from then on the workers of the cluster do, see
:mod:`taskloom._recording`.
"""

from __future__ import annotations

import os
import time

from taskloom import _taskloom
from taskloom._drive import run, run_async
from taskloom._taskloom import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._stream_plot import StreamPlot
    from taskloom._taskloom import CoreClient
    from taskloom.client import Client

    Record = dict[str, Any]

__all__ = ["TaskStream", "begin", "collect", "get_task_metadata", "get_task_stream"]


def start_recording(core: CoreClient) -> Steps[None]:
    """Have all workers, present and future, record what they run."""
    from taskloom._recording import NAME, Recorder
    from taskloom._setups import begin_plugin

    registered = yield core.ask("setups")
    if NAME in registered:
        return
    arguments = (NAME, "worker", dumps(Recorder()))
    answers = yield core.ask("setup", NAME, begin_plugin, arguments, {})
    for ok, failure in answers.values():
        # A worker that has just left has no answer.
        if not ok and failure is not None:
            raise failure


def _flush(core: CoreClient) -> Steps[None]:
    """What the workers have noted is with the scheduler afterwards."""
    from taskloom._recording import flush

    yield core.ask("run", flush, (), {}, [], False)


def begin(core: CoreClient) -> Steps[str]:
    """Record; the mark that is returned tells :func:`collect` where to begin."""
    from taskloom._recording import TOPIC

    yield from start_recording(core)
    yield from _flush(core)
    # A mark in the scheduler's own order: clocks of workers may differ.
    mark = os.urandom(16).hex()
    _taskloom.log_event(core, [TOPIC], dumps(mark))
    yield core.ask("barrier")
    return mark


def collect(core: CoreClient, mark: str | None = None) -> Steps[list[Record]]:
    """The records that the scheduler keeps, those after a mark if one is given, by their ends."""
    from taskloom._events import message_of
    from taskloom._recording import TOPIC

    yield from _flush(core)
    events = (yield core.ask("events", TOPIC))[TOPIC]
    batches: list[tuple[str, list[Any]]] = []
    for _age, payload in events:
        message = message_of(payload)
        if isinstance(message, str):
            if message == mark:
                batches.clear()
        else:
            batches.append(message)
    records = [_record(worker, row) for worker, rows in batches for row in rows]
    records.sort(key=end_of)
    return records


def _record(worker: str, row: Any) -> Record:
    key, thread, start, stop, ok, nbytes = row
    return {
        "key": key,
        "worker": worker,
        "thread": thread,
        "status": "OK" if ok else "error",
        "nbytes": nbytes,
        "startstops": [{"action": "compute", "start": start, "stop": stop}],
    }


def end_of(record: Record) -> float:
    """When the run ended, in seconds since 1970 by the worker's clock."""
    return float(record["startstops"][-1]["stop"])


def _moment(when: Any, now: float) -> float | None:
    """A time in seconds since 1970; a text such as ``'60 s'`` is that long ago."""
    from taskloom.utils import parse_seconds

    if isinstance(when, str):
        return now - (parse_seconds(when) or 0.0)
    return None if when is None else float(when)


def _chosen(records: list[Record], start: Any, stop: Any, count: int | None) -> list[Record]:
    now = time.time()
    first, last = _moment(start, now), _moment(stop, now)
    chosen = [
        record
        for record in records
        if (first is None or end_of(record) >= first) and (last is None or end_of(record) < last)
    ]
    if count is None or (first is not None and last is not None):
        return chosen
    return chosen[:count] if first is not None else chosen[max(len(chosen) - count, 0) :]


def _plot(records: list[Record], plot: Any, filename: str) -> StreamPlot:
    from taskloom._stream_plot import StreamPlot

    figure = StreamPlot(records)
    if plot == "save":
        figure.save(filename)
    return figure


class TaskStream:
    """Part of the client: what ran when."""

    _core: CoreClient

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    def get_task_stream(
        self,
        start: Any = None,
        stop: Any = None,
        count: int | None = None,
        plot: Any = False,
        filename: str = "task-stream.html",
        bokeh_resources: Any = None,
    ) -> Any:
        """Get which tasks ran where and when.

        Workers record nothing before the first call, so call it once before the work. From then on
        they do until ``unregister_worker_plugin('task-stream')``. The scheduler keeps
        the last 16 MiB of records. Those of a worker's last 0.1 s are lost if it dies.

        Parameters
        ----------
        start, stop : float or str
            Only runs that ended in this time: seconds since 1970, or how long ago, as ``'60 s'``.
        count : int
            At most so many: the first ones if ``start`` is given, else the last ones. Ignored if
            both bounds are given.
        plot : bool or ``'save'``
            Whether to return a figure, and write it to ``filename``.
        bokeh_resources : accepted; the figure needs nothing from outside

        Returns
        -------
        List of dicts with ``key``, ``worker``, ``thread``, ``status`` (``OK`` or ``error``),
        ``nbytes`` and ``startstops`` (a list of one ``{'action': 'compute', 'start', 'stop'}``, in
        seconds since 1970 by the worker's clock). With ``plot`` a pair: the list, and a
        :class:`taskloom._stream_plot.StreamPlot`.
        """
        return self._drive(self._task_stream_steps(start, stop, count, plot, filename))

    def _task_stream_steps(
        self, start: Any, stop: Any, count: int | None, plot: Any, filename: str
    ) -> Steps[Any]:
        yield from start_recording(self._core)
        records = _chosen((yield from collect(self._core)), start, stop, count)
        return (records, _plot(records, plot, filename)) if plot else records


class _Recorded:
    """A context manager, synchronous and asynchronous, that sees what ran meanwhile."""

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._mark: str | None = None

    def _core(self) -> CoreClient:
        if self._client is None:
            from taskloom._inside import get_client

            self._client = get_client()
        return self._client._core

    def _begin(self) -> Steps[Any]:
        self._mark = yield from begin(self._core())
        return self

    def _end(self) -> Steps[None]:
        self._keep((yield from collect(self._core(), self._mark)))

    def _keep(self, records: list[Record]) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        return run(self._begin())

    def __exit__(self, *exc_info: Any) -> None:
        run(self._end())

    async def __aenter__(self) -> Any:
        return await run_async(self._begin())

    async def __aexit__(self, *exc_info: Any) -> None:
        await run_async(self._end())


class get_task_stream(_Recorded):
    """Record what runs within a block: ``with get_task_stream() as stream``; also ``async with``.

    Parameters
    ----------
    client : Client, optional
        By default the current one.
    plot : bool or ``'save'``
        Whether to draw :attr:`figure`, and write it to ``filename``.
    filename : str

    Attributes
    ----------
    data : list of dicts, see :meth:`Client.get_task_stream`; complete at the end of the block
    figure : the plot, if one was asked for

    Examples
    --------
    >>> with get_task_stream() as stream:
    ...     client.gather(client.map(abs, range(3)))
    >>> len(stream.data)
    3
    """

    def __init__(
        self,
        client: Client | None = None,
        plot: Any = False,
        filename: str = "task-stream.html",
    ) -> None:
        super().__init__(client)
        self.data: list[Record] = []
        self.figure: StreamPlot | None = None
        self._plot = plot
        self._filename = filename

    def _keep(self, records: list[Record]) -> None:
        self.data.extend(records)
        if self._plot:
            self.figure = _plot(self.data, self._plot, self._filename)


class get_task_metadata(_Recorded):
    """Learn what became of the tasks that ended within a block; also ``async with``.

    Attributes
    ----------
    metadata : dict, ``{key: {'worker', 'thread', 'nbytes', 'startstops'}}``
    state : dict, ``{key: 'memory' or 'erred'}``

    Examples
    --------
    >>> with get_task_metadata() as tasks:
    ...     client.submit(abs, -1, key="one").result()
    >>> tasks.state
    {'one': 'memory'}
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.metadata: dict[Any, Any] = {}
        self.state: dict[Any, str] = {}

    def _keep(self, records: list[Record]) -> None:
        for record in records:
            facts = dict(record)
            key, status = facts.pop("key"), facts.pop("status")
            self.metadata[key] = facts
            self.state[key] = "memory" if status == "OK" else "erred"
