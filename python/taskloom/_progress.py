"""A progress bar for futures and persisted collections."""

from __future__ import annotations

import sys
import time

from taskloom._taskloom import CompletionQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from taskloom.future import Future

_WIDTH = 40


def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: Any = "prefix",
    interval: Any = "100ms",
    **kwargs: Any,
) -> Any:
    """Show a bar of how many of the futures are done, until all are.

    Parameters
    ----------
    futures : futures, persisted collections, or lists of them
    notebook : bool, optional
        Accepted; a notebook shows the same text, and the call returns when all are done.
    multi, complete, group_by : accepted for programs written for Dask
    interval : how often the bar is drawn at most, by default 100 ms
    """
    from taskloom._registry import futures_of
    from taskloom.utils import parse_seconds

    found = futures_of(futures)
    _show(found, parse_seconds(interval) or 0.1, sys.stdout)


def _show(futures: list[Future], interval: float, out: TextIO) -> None:
    queue = CompletionQueue()
    for number, future in enumerate(futures):
        queue.watch(future, number)
    start = time.monotonic()
    done = 0
    drawn = 0.0
    is_terminal = out.isatty()
    while done < len(futures):
        done += len(queue.receive(interval))
        now = time.monotonic()
        if is_terminal and now - drawn >= interval:
            drawn = now
            _draw(done, len(futures), now - start, out)
    _draw(done, len(futures), time.monotonic() - start, out)


def _draw(done: int, total: int, seconds: float, out: TextIO) -> None:
    share = done / total if total else 1.0
    bar = "#" * int(share * _WIDTH)
    out.write(f"\r[{bar:<{_WIDTH}}] | {share:4.0%} completed | {seconds:5.1f} s")
    out.flush()
