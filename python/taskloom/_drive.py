"""Running a call that waits: by blocking, or on an event loop, from one description.

A call is a generator that yields :class:`~taskloom._taskloom.Operation` objects and is sent their
results. :func:`run` blocks on each; :func:`run_async` awaits each.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Generator
    from typing import Any, TypeVar

    from taskloom._taskloom import Bridge, Operation

    T = TypeVar("T")
    Steps = Generator[Operation, Any, T]


def run(steps: Steps[T], timeout: float | None = None) -> T:
    """Block until the call is complete.

    Raises
    ------
    TimeoutError
        After ``timeout`` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        operation = next(steps)
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                value = operation.block(left)
            except BaseException as error:  # noqa: BLE001 - the call sees it where it waits
                # A traceback keeps this frame: it must not keep futures alive.
                del operation
                operation = steps.throw(error)
            else:
                operation = steps.send(value)
    except StopIteration as stop:
        return stop.value


def run_async(steps: Steps[T], timeout: float | None = None) -> Coroutine[Any, Any, T]:
    """Start the call now; the coroutine awaits its end. As :func:`run` otherwise.

    What the call sends first is sent in the order of the calls, however late they are awaited.
    """
    try:
        operation = next(steps)
    except StopIteration as stop:
        return _value(stop.value)
    return _continue(steps, operation, timeout)


async def _value(value: T) -> T:
    return value


async def _continue(steps: Steps[T], operation: Operation, timeout: float | None) -> T:
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                value = await complete(operation, left)
            except BaseException as error:  # noqa: BLE001 - the call sees it where it waits
                operation = steps.throw(error)
            else:
                operation = steps.send(value)
    except StopIteration as stop:
        return stop.value


async def complete(operation: Operation, timeout: float | None = None) -> Any:
    """Await one operation on the running event loop."""
    if timeout is None:
        return await _complete(operation)
    import asyncio

    try:
        return await asyncio.wait_for(_complete(operation), timeout)
    except TimeoutError:
        raise TimeoutError(operation.timeout_message()) from None


async def _complete(operation: Operation) -> Any:
    import asyncio

    loop = asyncio.get_running_loop()
    bridge = bridge_of(loop)
    while True:
        future = loop.create_future()
        if operation.arm(bridge, future):
            return operation.finish()
        try:
            await future
        except BaseException:
            operation.give_up()
            raise


_bridges: Any = None


def bridge_of(loop: asyncio.AbstractEventLoop) -> Bridge:
    """The bridge to an event loop: made at first use, gone with the loop."""
    global _bridges
    if _bridges is None:
        from weakref import WeakKeyDictionary

        _bridges = WeakKeyDictionary()
    bridge = _bridges.get(loop)
    if bridge is None:
        from taskloom._taskloom import Bridge

        bridge = Bridge()
        loop.add_reader(bridge.fileno(), bridge.drain)
        _bridges[loop] = bridge
    return bridge


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if any; does not import asyncio."""
    import sys

    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()
