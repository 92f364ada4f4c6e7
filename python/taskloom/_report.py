"""``performance_report``: one HTML file about what a block of a program had the cluster do."""

from __future__ import annotations

import inspect
import os
import sys
import time
from html import escape

from taskloom import _taskloom
from taskloom._drive import run, run_async
from taskloom._stream_plot import StreamPlot, color_of, page
from taskloom._task_stream import begin, collect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient

    Record = dict[str, Any]

__all__ = ["performance_report"]

#: Lines of the calling code that are shown.
_MOST_LINES = 200
_MOST_GROUPS = 100


class performance_report:
    """Write an HTML report about what runs within a block; also ``async with``.

    The file loads nothing from elsewhere. It has a summary, the calling code, the task stream,
    tables by group of tasks and by worker, and the scheduler's log of that time.

    Parameters
    ----------
    filename : str or path
        A URL such as ``s3://…`` is written by fsspec.
    stacklevel : int, default 1
        Whose code is shown: 1 is the caller's, 2 that of its caller, and so on.
    mode : accepted for programs written for Dask; all that the page needs is in it
    storage_options : dict, optional
        For :func:`fsspec.open`.

    Examples
    --------
    >>> with performance_report("report.html"):
    ...     client.gather(client.map(abs, range(1000)))
    """

    def __init__(
        self,
        filename: Any = "dask-report.html",
        stacklevel: int = 1,
        mode: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.filename = filename
        self._stacklevel = max(stacklevel, 1)
        self._storage_options = storage_options
        self._mark = ""
        self._start = 0.0

    def __enter__(self) -> None:
        run(self._begin())

    def __exit__(self, *exc_info: Any) -> None:
        code = _code_of(sys._getframe(self._stacklevel))
        self._write(run(self._end(code)))

    async def __aenter__(self) -> None:
        await run_async(self._begin())

    async def __aexit__(self, *exc_info: Any) -> None:
        code = _code_of(sys._getframe(self._stacklevel))
        text = await run_async(self._end(code))
        import asyncio

        await asyncio.to_thread(self._write, text)

    def _begin(self) -> Steps[None]:
        from taskloom._inside import get_client

        self._core: CoreClient = get_client()._core
        self._mark = yield from begin(self._core)
        self._start = time.time()

    def _end(self, code: str) -> Steps[str]:
        stop = time.time()
        records = yield from collect(self._core, self._mark)
        info = yield self._core.ask("scheduler_info")
        log = yield self._core.ask("scheduler_log")
        span = (self._start, stop)
        parts = [
            _summary(span, records, info),
            "<h2>Calling code</h2>",
            f"<pre>{escape(code)}</pre>",
            "<h2>Task stream</h2>",
            StreamPlot(records).svg(),
            "<h2>By group of tasks</h2>",
            _groups(records),
            "<h2>By worker</h2>",
            _workers(span, records, info["workers"]),
            "<h2>Scheduler's log</h2>",
            _log(self._start, log),
        ]
        return page("taskloom performance report", "\n".join(parts))

    def _write(self, text: str) -> None:
        filename = os.fspath(self.filename)
        if self._storage_options or "://" in filename:
            import fsspec

            options = self._storage_options or {}
            with fsspec.open(filename, mode="w", encoding="utf-8", **options) as file:
                file.write(text)
            return
        with open(filename, "w", encoding="utf-8") as file:
            file.write(text)


def _code_of(frame: FrameType | None) -> str:
    """The source of the function, or of the program, that a frame is in."""
    try:
        lines, _ = inspect.getsourcelines(frame.f_code) if frame is not None else ([], 0)
    except (OSError, TypeError):  # typed into an interpreter, or compiled
        lines = []
    if not lines:
        return "(the code is not available)"
    rest = [f"… {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return "".join(lines[:_MOST_LINES]) + "".join(rest)


def _cells(values: Iterable[Any], tag: str = "td") -> str:
    """A row of a table; what is not text stands to the right."""
    cells = "".join(
        f"<{tag}>{escape(value)}</{tag}>"
        if isinstance(value, str)
        else f'<{tag} class="n">{value:,}</{tag}>'
        for value in values
    )
    return f"<tr>{cells}</tr>"


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    return f"<table>{_cells(head, 'th')}{''.join(map(_cells, rows))}</table>"


def _busy(record: Record) -> float:
    return sum(float(part["stop"] - part["start"]) for part in record["startstops"])


def _summary(span: tuple[float, float], records: list[Record], info: Any) -> str:
    from taskloom.utils import format_bytes

    start, stop = span
    workers = list(info["workers"].values())
    limits = [worker["memory_limit"] for worker in workers]
    failed = sum(record["status"] != "OK" for record in records)
    rows = [
        ("begun", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start))),
        ("duration", f"{stop - start:.3f} s"),
        ("runs of tasks", f"{len(records):,}" + (f", {failed:,} of them failed" if failed else "")),
        ("time in tasks", f"{sum(map(_busy, records)):.3f} s"),
        ("workers", f"{len(workers):,}"),
        ("threads", f"{sum(worker['nthreads'] for worker in workers):,}"),
        ("memory", format_bytes(sum(limits)) if limits and all(limits) else "unlimited"),
        ("scheduler", str(info["address"])),
        ("versions", f"taskloom {_taskloom.__version__}, Python {sys.version.split()[0]}"),
    ]
    return "<table>" + "".join(map(_cells, rows)) + "</table>"


def _grouped(
    records: list[Record], name_of: Callable[[Record], str]
) -> list[tuple[str, list[Record]]]:
    """Records by name, those that took longest in all first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(name_of(record), []).append(record)
    return sorted(groups.items(), key=lambda group: -sum(map(_busy, group[1])))


def _groups(records: list[Record]) -> str:
    groups = _grouped(records, lambda record: str(_taskloom.key_split(record["key"])))
    rows = "".join(_group_row(name, found) for name, found in groups[:_MOST_GROUPS])
    head = _cells(["", "group", "runs", "failed", "in all", "mean", "longest", "bytes made"], "th")
    rest = len(groups) - _MOST_GROUPS
    return f"<table>{head}{rows}</table>" + (f"<p>and {rest} more groups</p>" if rest > 0 else "")


def _group_row(name: str, records: list[Record]) -> str:
    times = [_busy(record) for record in records]
    cells = [
        name,
        len(records),
        sum(record["status"] != "OK" for record in records),
        f"{sum(times):.3f} s",
        f"{sum(times) / len(times) * 1e3:.3f} ms",
        f"{max(times) * 1e3:.3f} ms",
        sum(record["nbytes"] for record in records),
    ]
    mark = f'<td style="color:{color_of(name)}">&#9632;</td>'
    return _cells(cells).replace("<tr>", f"<tr>{mark}", 1)


def _workers(span: tuple[float, float], records: list[Record], workers: Any) -> str:
    start, stop = span
    found = dict(_grouped(records, lambda record: str(record["worker"])))
    rows = []
    for address in sorted({*workers, *found}):
        worker = workers.get(address)
        runs = found.get(address, [])
        busy = sum(map(_busy, runs))
        threads = worker["nthreads"] if worker else 0
        share = f"{busy / threads / max(stop - start, 1e-9):.0%}" if threads else ""
        name = str(worker["name"]) if worker else "(gone)"
        rows.append([address, name, threads, len(runs), f"{busy:.3f} s", share])
    head = ["address", "name", "threads", "runs", "time in tasks", "share of its threads' time"]
    return _table(head, rows)


def _log(start: float, log: Any) -> str:
    now = time.time()
    lines = [
        f"{time.strftime('%H:%M:%S', time.localtime(now - age))} {level} {text}"
        for age, level, text in log
        if now - age >= start
    ]
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else "<p>Nothing.</p>"
