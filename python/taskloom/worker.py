"""The worker as tasks see it, and as ``LocalCluster(processes=False)`` starts it."""

from __future__ import annotations

import atexit
import os
import weakref
from _thread import get_ident

from taskloom import _task_output
from taskloom._context import current_worker
from taskloom._taskloom import CoreWorker, current_task_key, log_worker_event

# Not from `typing`: importing that takes as long as all the rest of a worker's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType
    from typing import Any

    from taskloom._event_loop import WorkerLoop
    from taskloom._setups import WorkerPlugins

__all__ = ["Worker", "get_worker"]

#: How long closing waits for threads that are in no task, in seconds.
_JOIN_S = 1.0

_running: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker:
    """A worker of this process.

    Parameters
    ----------
    core : the worker's engine, not started

    Attributes
    ----------
    data : dict, for tasks and ``Client.run`` functions to keep things in; the worker ignores it
    """

    def __init__(self, core: CoreWorker) -> None:
        self._core = core
        self._own_directory: str | None = None
        #: The clients of this worker's tasks, made when one of them asks: for threads, and for
        #: coroutines.
        self._client: Any = None
        self._async_client: Any = None
        self.data: dict[Any, Any] = {}
        self._plugins_or_none: WorkerPlugins | None = None
        #: The address, or the scheduler of this process, that :meth:`start` was given.
        self.scheduler: Any = None
        core.set_owner(self)

    def start(self, scheduler: Any) -> None:
        """Connect to a scheduler and run tasks until closed.

        Parameters
        ----------
        scheduler : address, or a scheduler of this process

        Raises
        ------
        ConnectionError
            Nobody answers at the address, or it refused the connection.
        RuntimeError
            The scheduler did not accept the worker.
        """
        # Before the start: a task that runs at once may want a client.
        self.scheduler = scheduler
        _task_output.install()
        try:
            self._core.start(scheduler)
        except BaseException:
            _task_output.uninstall()
            raise
        _running.add(self)

    @property
    def address(self) -> str:
        """Where the worker serves data, such as ``tcp://127.0.0.1:40123``. It names the worker."""
        return self._core.address

    @property
    def worker_address(self) -> str:
        """The same as :attr:`address`."""
        return self._core.address

    @property
    def name(self) -> Any:
        """The worker's name in the cluster; an int where it was numbered."""
        name = self._core.name
        return int(name) if name.isdecimal() and str(int(name)) == name else name

    @property
    def id(self) -> str:
        """Unique in the cluster's life: a worker that is started anew has another."""
        return f"{self._core.name}-{self._core.number}"

    @property
    def nthreads(self) -> int:
        """How many tasks run at the same time."""
        return self._core.nthreads

    @property
    def memory_limit(self) -> int | None:
        """In bytes; ``None`` means no limit."""
        return self._core.memory_limit or None

    @property
    def resources(self) -> dict[str, float]:
        """The abstract resources that the worker offers."""
        return self._core.resources

    @property
    def total_resources(self) -> dict[str, float]:
        """The same as :attr:`resources`."""
        return self._core.resources

    @property
    def status(self) -> str:
        """``init``, ``running``, ``closing`` or ``closed``."""
        return self._core.status

    @property
    def local_directory(self) -> str:
        """A directory for files of the worker; made at first use, removed at the end."""
        directory = self._core.local_directory
        if directory:
            os.makedirs(directory, exist_ok=True)
            return directory
        if self._own_directory is None:
            import tempfile

            prefix = f"taskloom-worker-{self._core.name.replace(os.sep, '-')}-"
            self._own_directory = tempfile.mkdtemp(prefix=prefix)
        return self._own_directory

    def get_current_task(self) -> Any:
        """The key of the task that the caller is part of.

        Raises
        ------
        ValueError
            The caller is in no task.
        """
        key = current_task_key()
        if key is None:
            raise ValueError("not inside a task")
        return key

    def executing_threads(self) -> list[tuple[Any, int]]:
        """The tasks in executor threads: pairs of key and thread identity."""
        return self._core.executing_threads()

    def executing_coroutines(self) -> list[tuple[Any, list[FrameType]]]:
        """The tasks on the event loop: pairs of key and stack frames, outermost first."""
        loop = self._core.running_event_loop()
        return [] if loop is None else loop.stacks()

    def loop_thread(self) -> WorkerLoop:
        """The event loop that runs the worker's coroutine tasks."""
        loop: WorkerLoop = self._core.event_loop()
        return loop

    def drain(self, limit_s: float) -> bool:
        """Take no further tasks and wait for those that run; whether all ended in time."""
        return self._core.drain(limit_s)

    def close(self, reason: str = "the worker was closed") -> None:
        """Leave the cluster. Tasks that run are not waited for; results here are lost."""
        if self in _running:
            _running.discard(self)
            self._close_plugins()
            _task_output.uninstall()
        for client in (self._client, self._async_client):
            if client is not None:
                # Not by its own `close`, which belongs to the loop of an asynchronous client.
                client._core.close(reason)
        self._core.close(reason)
        threads, event_loop = self._core.take_apart()
        if event_loop is not None:
            event_loop.stop()
        deadline = _JOIN_S / max(len(threads), 1)
        for thread in threads:
            if thread.ident != get_ident():
                thread.join(deadline)
        self.remove_own_directory()

    @property
    def plugins(self) -> dict[str, Any]:
        """The plugins of this worker, by name."""
        return self._plugins

    @property
    def _plugins(self) -> WorkerPlugins:
        if self._plugins_or_none is None:
            from taskloom._setups import WorkerPlugins

            self._plugins_or_none = WorkerPlugins(self)
        return self._plugins_or_none

    def _tell_plugins(self, key: Any, start: str, finish: str, nbytes: int) -> None:
        """Called when tasks start and end, while a plugin watches them."""
        if self._plugins_or_none is not None:
            self._plugins_or_none.tell(key, start, finish, nbytes)

    def _close_plugins(self) -> None:
        if self._plugins_or_none is not None:
            self._plugins_or_none.close()

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Record an event under one or more topics, see ``Client.log_event``."""
        from taskloom._events import topics_of
        from taskloom._taskloom import dumps

        log_worker_event(self._core, topics_of(topic), dumps(msg))

    def remove_own_directory(self) -> None:
        """Remove :attr:`local_directory` if nobody else chose it."""
        directory, self._own_directory = self._own_directory, None
        if directory is not None:
            import shutil

            shutil.rmtree(directory, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<Worker {self.name!r} {self.address} {self.status} threads: {self.nthreads}>"


@atexit.register
def _close_all() -> None:
    """Threads that return to a finished interpreter would hang or crash."""
    for worker in list(_running):
        worker.close("the process ends")


def get_worker() -> Worker:
    """Get the worker that runs the calling task.

    Raises
    ------
    ValueError
        The caller is in no task.
    """
    worker: Worker | None = current_worker.get(None)
    if worker is None:
        raise ValueError("no worker found: get_worker() works inside tasks")
    return worker
