"""``taskloom.print`` and ``taskloom.warn``: shown where they are called and at every client."""

from __future__ import annotations

import builtins
import sys
import warnings
from typing import Any, TextIO

from taskloom._context import current_worker

__all__ = ["print", "show_print", "show_warning", "warn"]


def print(
    *args: Any,
    sep: str | None = " ",
    end: str | None = "\n",
    file: TextIO | None = None,
    flush: bool = False,
) -> None:
    """Print here, as the builtin does, and at every client when called within a task.

    Parameters
    ----------
    file : ``sys.stdout``, ``sys.stderr`` or ``None``; others are printed to here only

    Raises
    ------
    TypeError
        ``sep`` or ``end`` is no str.
    """
    builtins.print(*args, sep=sep, end=end, file=file, flush=flush)
    worker = current_worker.get(None)
    if worker is None or not (file is None or file in (sys.stdout, sys.stderr)):
        return
    text = (" " if sep is None else sep).join(map(str, args)) + ("\n" if end is None else end)
    stream = "stderr" if file is not None and file is sys.stderr else "stdout"
    worker.log_event("print", {"text": text, "file": stream})


def warn(
    message: str | Warning,
    category: type[Warning] | None = UserWarning,
    stacklevel: int = 1,
    source: Any = None,
) -> None:
    """Warn here, as ``warnings.warn`` does, and at every client when called within a task.

    Parameters
    ----------
    message : str or a warning
    category : class of the warning
    """
    warnings.warn(message, category, stacklevel + 1, source=source)
    worker = current_worker.get(None)
    if worker is not None:
        worker.log_event("warn", {"message": message, "category": category})


def show_print(event: tuple[float, Any]) -> None:
    """Print what a task printed."""
    message = event[1]
    stream = sys.stderr if message["file"] == "stderr" else sys.stdout
    builtins.print(message["text"], end="", file=stream, flush=True)


def show_warning(event: tuple[float, Any]) -> None:
    """Warn as a task did."""
    message = event[1]
    warnings.warn(message["message"], message["category"], stacklevel=2)
