"""Calls that a client makes on workers outside the task queue (``Client.run``)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.worker import Worker


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


def _has_parameter(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in functions may have no signature
        return False


async def _await(awaitable: Any) -> Any:
    if asyncio.isfuture(awaitable):
        return await awaitable
    return await awaitable
