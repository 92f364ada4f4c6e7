"""The event loop of a worker: coroutine tasks run here, beside the executor threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextvars import Context
from types import FrameType
from typing import Any

from taskloom._context import current_run
from taskloom._taskloom import DetachedRun, MethodRun, finish_actor_method, finish_coroutine


class WorkerLoop:
    """An asyncio loop in a thread of its own, started at first use.

    Parameters
    ----------
    name : name of the thread
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # The loop itself holds tasks weakly.
        self._tasks: dict[asyncio.Task[None], DetachedRun] = {}
        # Limits in seconds of the tasks that were cancelled since they took longer.
        self._timed_out: dict[asyncio.Task[None], float] = {}
        self._methods: set[asyncio.Task[None]] = set()

    def start(
        self, run: DetachedRun, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        """Run a task's coroutine in the context it was made in."""
        context.run(current_run.set, run)
        loop = self.running_loop()
        loop.call_soon_threadsafe(self._begin, run, coroutine, context)

    def start_method(
        self, run: MethodRun, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        """Run an actor's coroutine method in the context it was made in."""
        self.running_loop().call_soon_threadsafe(self._begin_method, run, coroutine, context)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and wait for its result in the calling thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.running_loop()).result()

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop; its thread is started by the first who asks."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    def cancel(self, run_id: tuple[int, int]) -> None:
        """Cancel a run whose outcome nobody wants any more, if it is here."""
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._cancel, run_id)

    def _cancel(self, run_id: tuple[int, int]) -> None:
        for task, run in self._tasks.items():
            if run.id == run_id:
                _cancel_begun(task)

    def time_out(self, run_id: tuple[int, int], limit: float) -> None:
        """Cancel a run that took longer than ``limit`` seconds, if it is here."""
        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._time_out, run_id, limit)

    def _time_out(self, run_id: tuple[int, int], limit: float) -> None:
        for task, run in self._tasks.items():
            if run.id == run_id:
                self._timed_out[task] = limit
                _cancel_begun(task)

    def stacks(self) -> list[tuple[Any, list[FrameType]]]:
        """The tasks that are on the loop: pairs of key and stack frames, outermost first."""
        return [(run.key, task.get_stack()) for task, run in list(self._tasks.items())]

    def stop(self) -> None:
        """End the loop; tasks that are still in it are cancelled."""
        with self._lock:
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        loop.call_soon_threadsafe(self._cancel_all, loop)
        if thread is not threading.current_thread():
            thread.join(1)

    def _main(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    def _cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in [*self._tasks, *self._methods]:
            task.cancel()
        # Two turns: one to deliver the cancellations, one for what they schedule.
        loop.call_soon(loop.call_soon, loop.stop)

    def _begin(
        self, run: DetachedRun, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._watch(run, coroutine), context=context)
        self._tasks[task] = run
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._timed_out.pop(task, None)

    def _begin_method(
        self, run: MethodRun, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._watch_method(run, coroutine), context=context)
        self._methods.add(task)
        task.add_done_callback(self._methods.discard)

    async def _watch_method(self, run: MethodRun, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await coroutine
        except BaseException as error:  # noqa: BLE001 - whatever a method raises is its outcome
            finish_actor_method(run, None, error.with_traceback(_below(error)))
        else:
            finish_actor_method(run, result)

    async def _watch(self, run: DetachedRun, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await coroutine
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
            # Frame 0 is this method.
            error = error.with_traceback(_below(error))
            finish_coroutine(run, None, self._as_timeout(run, error))
        else:
            finish_coroutine(run, result)

    def _as_timeout(self, run: DetachedRun, error: BaseException) -> BaseException:
        """The exception to tell: a time-out is carried out as a cancellation."""
        task = asyncio.current_task()
        limit = None if task is None else self._timed_out.get(task)
        if limit is None or not isinstance(error, asyncio.CancelledError):
            return error
        from taskloom.errors import TaskTimeout

        timeout = TaskTimeout()
        timeout._describe(run.key, limit)
        return timeout.with_traceback(error.__traceback__)


def _cancel_begun(task: asyncio.Task[None]) -> None:
    """Cancel a task after its first step, which is planned already: one that is cancelled before
    it would not run at all, and nobody would hear of its end."""
    asyncio.get_running_loop().call_soon(task.cancel)


def _below(error: BaseException) -> Any:
    traceback = error.__traceback__
    return traceback.tb_next if traceback is not None and traceback.tb_next else traceback
