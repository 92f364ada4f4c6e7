"""Calls that a client makes on workers outside the task queue (``Client.run``)."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from taskloom.worker import Worker

#: Functions of `threading` that a thread starts in.
_THREAD_START = frozenset({"_bootstrap", "_bootstrap_inner", "run"})


def call_on_worker(
    worker: Worker, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call ``function``; one with a parameter named ``dask_worker`` gets the worker.

    What the function returns is awaited on the worker's event loop if it can be.
    """
    if "dask_worker" not in kwargs and _has_parameter(function, "dask_worker"):
        kwargs = {**kwargs, "dask_worker": worker}
    result = function(*args, **kwargs)
    if inspect.isawaitable(result):
        return worker.loop_thread().wait_for(_await(result))
    return result


def call_stack(keys: list[Any], dask_worker: Worker) -> dict[Any, list[str]]:
    """Where the tasks are that run on the worker: the lines of each one's stack.

    Parameters
    ----------
    keys : which tasks; all when empty
    """
    frames = sys._current_frames()
    stacks = {}
    for key, thread in dask_worker.executing_threads():
        frame = frames.get(thread)
        if frame is not None and (not keys or key in keys):
            stacks[key] = _format_stack(frame)
    for key, coroutine_frames in dask_worker.executing_coroutines():
        if coroutine_frames and (not keys or key in keys):
            stacks[key] = traceback.format_list(_summaries(coroutine_frames))
    return stacks


def _format_stack(frame: FrameType) -> list[str]:
    """The task's own frames, outermost first: above them is only the thread's start."""
    return [
        line
        for line, summary in zip(
            traceback.format_stack(frame), traceback.extract_stack(frame), strict=True
        )
        if summary.filename != threading.__file__ or summary.name not in _THREAD_START
    ]


def _summaries(frames: list[FrameType]) -> traceback.StackSummary:
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)


def _has_parameter(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in functions may have no signature
        return False


async def _await(awaitable: Any) -> Any:
    if asyncio.isfuture(awaitable):
        return await awaitable
    return await awaitable


def last_logs(n: int | None) -> tuple[tuple[str, str], ...]:
    """The process's last log records, newest first."""
    from taskloom._task_output import worker_log

    newest = list(worker_log)[::-1]
    return tuple(newest if n is None else newest[:n])


def worker_state(dask_worker: Worker) -> dict[str, Any]:
    """What a worker knows of itself, for a dump."""
    return {
        "address": dask_worker.address,
        "id": dask_worker.id,
        "status": dask_worker.status,
        "nthreads": dask_worker.nthreads,
        "local_directory": dask_worker.local_directory,
        "plugins": list(dask_worker._plugins),
        "executing": call_stack([], dask_worker),
        "threads": [thread.name for thread in threading.enumerate()],
        "log": last_logs(100),
    }
