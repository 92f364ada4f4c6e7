"""A progress bar for futures and persisted collections."""

from __future__ import annotations

import sys
import threading
import time

from taskloom._taskloom import CompletionQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from taskloom.future import Future

_WIDTH = 40

#: Keywords of Dask's bars that change nothing here.
_ACCEPTED = frozenset(("loop", "scheduler", "start", "width", "spans", "n_spans"))


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

    In a terminal the call returns when all are done. In a notebook with ipywidgets it returns the
    bar at once, which goes on by itself. With futures of an asynchronous client it returns an
    awaitable.

    Parameters
    ----------
    futures : futures, persisted collections, or lists of them
    notebook : bool, optional
        Whether to show a widget; by default in notebooks that have ipywidgets.
    multi, complete, group_by : accepted for programs written for Dask
    interval : how often the bar is drawn at most, by default 100 ms

    Raises
    ------
    TypeError
        An unknown keyword.
    """
    from taskloom._registry import futures_of, is_asynchronous
    from taskloom.utils import parse_seconds

    unknown = sorted(set(kwargs) - _ACCEPTED)
    if unknown:
        raise TypeError(f"progress() got unknown keywords: {unknown}")
    found = futures_of(futures)
    seconds = parse_seconds(interval) or 0.1
    if _in_notebook() if notebook is None else notebook:
        widgets = _ipywidgets()
        if widgets is not None:
            return _show_widget(found, seconds, widgets)
    if found and is_asynchronous(found[0]._client_token):
        import asyncio

        return asyncio.to_thread(_show, found, seconds, sys.stdout)
    _show(found, seconds, sys.stdout)
    return None


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook, and not IPython in a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def _ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets


def _show_widget(futures: list[Future], interval: float, widgets: Any) -> Any:
    """A bar that a thread of its own moves."""
    bar = widgets.FloatProgress(value=0.0, min=0.0, max=max(len(futures), 1))
    label = widgets.Label(value="")

    def draw(done: int, total: int, seconds: float) -> None:
        bar.value = done if total else 1
        label.value = f"{done} of {total} done | {seconds:.1f} s"
        if done == total:
            bar.bar_style = "danger" if any(f.status == "error" for f in futures) else "success"

    def follow() -> None:
        _follow(futures, interval, draw)

    threading.Thread(target=follow, name="taskloom-progress", daemon=True).start()
    return widgets.HBox([bar, label])


def _show(futures: list[Future], interval: float, out: TextIO) -> None:
    is_terminal = out.isatty()

    def draw(done: int, total: int, seconds: float) -> None:
        if is_terminal or done == total:
            _draw(done, total, seconds, out)

    _follow(futures, interval, draw)


def _follow(
    futures: list[Future], interval: float, draw: Callable[[int, int, float], None]
) -> None:
    """Call ``draw(done, total, seconds)`` now and then, and once when all are done."""
    queue = CompletionQueue()
    for number, future in enumerate(futures):
        queue.watch(future, number)
    start = time.monotonic()
    done, drawn = 0, start
    while done < len(futures):
        done += len(queue.receive(interval))
        now = time.monotonic()
        if now - drawn >= interval and done < len(futures):
            drawn = now
            draw(done, len(futures), now - start)
    draw(done, len(futures), time.monotonic() - start)


def _draw(done: int, total: int, seconds: float, out: TextIO) -> None:
    share = done / total if total else 1.0
    bar = "#" * int(share * _WIDTH)
    out.write(f"\r[{bar:<{_WIDTH}}] | {share:4.0%} completed | {seconds:5.1f} s")
    out.flush()
