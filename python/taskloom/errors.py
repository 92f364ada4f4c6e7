"""The exceptions of taskloom.

::

    TaskloomError
    ├── ActorLostError             (RuntimeError, OSError)  an actor, or the way to it, is gone
    ├── ActorSnapshotError         an actor's state could not be saved
    ├── ClosedClientError          (RuntimeError)  the client was closed
    ├── KeyCollisionError          (ValueError)    a live key was used for other work
    ├── KilledWorker               a task was running each time a worker process died
    ├── NoValidWorkerError         no worker that may run a task came in the configured time
    ├── NotOfferedError            (AttributeError, NotImplementedError)  a name that only Dask has
    ├── RemoteError                stands for an exception that cannot be unpickled here
    ├── ShuffleError               (RuntimeError)  the shards of a shuffle cannot be kept or had
    ├── TaskTimeout                (TimeoutError)  a task took longer than it may
    ├── WorkerUnreachableError     (OSError)  a result is on a worker that cannot be reached
    ├── SchedulerError             the scheduler refused or failed a request
    │   └── UnreachableError       (OSError) no scheduler answers at the address
    └── FutureCancelledError       (CancelledError)
        └── FuturesCancelledError  several at once

Inside a task, :class:`TaskTimeout` or :class:`TaskCancelled` is raised where it is interrupted.
``CancelledError`` is the one of ``concurrent.futures``, ``TimeoutError`` the builtin. An
exception that a task raises comes back as itself.
"""

from __future__ import annotations

import builtins
import concurrent.futures
from collections.abc import Iterable
from typing import Any

__all__ = [
    "ActorLostError",
    "ActorSnapshotError",
    "CancelledError",
    "ClosedClientError",
    "FutureCancelledError",
    "FuturesCancelledError",
    "KeyCollisionError",
    "KeyCollisionWarning",
    "KilledWorker",
    "NoValidWorkerError",
    "NotOfferedError",
    "RemoteError",
    "Reschedule",
    "SchedulerError",
    "ShuffleError",
    "TaskCancelled",
    "TaskTimeout",
    "TaskloomError",
    "TimeoutError",
    "UnreachableError",
    "WorkerUnreachableError",
]

TimeoutError = builtins.TimeoutError


class TaskloomError(Exception):
    """Base of all errors that taskloom itself raises."""


class NotOfferedError(TaskloomError, AttributeError, NotImplementedError):
    """A name of ``distributed`` that taskloom does not have; the message says what to use."""


class CancelledError(concurrent.futures.CancelledError):
    """The future was cancelled or its result was lost."""


class FutureCancelledError(TaskloomError, CancelledError):
    """One future was cancelled.

    Attributes
    ----------
    key : the task's key
    reason : machine-readable, such as ``unknown``, ``lost``, ``scheduler-connection-lost``
    msg : more words, or ``None``
    """

    def __init__(self, key: Any, reason: str | None = None, msg: str | None = None) -> None:
        self.key = key
        self.reason = reason or "unknown"
        self.msg = msg
        super().__init__(key, reason, msg)

    def __str__(self) -> str:
        text = f"{self.key} cancelled for reason: {self.reason}."
        return f"{text}\n{self.msg}" if self.msg else text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.reason, self.msg)


class FuturesCancelledError(TaskloomError, CancelledError):
    """Several futures were cancelled.

    Attributes
    ----------
    error_groups : the :class:`FutureCancelledError` of each
    """

    def __init__(self, error_groups: Iterable[FutureCancelledError]) -> None:
        self.error_groups = list(error_groups)
        super().__init__(self.error_groups)

    def __str__(self) -> str:
        lines = "\n".join(str(error) for error in self.error_groups)
        return f"{len(self.error_groups)} futures were cancelled:\n{lines}"


class ClosedClientError(TaskloomError, RuntimeError):
    """The client was closed; create a new :class:`~taskloom.Client`."""


class SchedulerError(TaskloomError, RuntimeError):
    """The scheduler refused or could not answer a request.

    Attributes
    ----------
    kind : machine-readable, such as ``unsupported``
    """

    def __init__(self, message: str, kind: str = "") -> None:
        self.kind = kind
        super().__init__(message, kind)

    def __str__(self) -> str:
        return str(self.args[0])


class UnreachableError(SchedulerError, OSError):
    """No scheduler answers at the address, or it refuses this client."""


class KeyCollisionError(TaskloomError, ValueError):
    """A key that is still in use was submitted again for other work (strict mode)."""


class KeyCollisionWarning(UserWarning):
    """A key that is still in use was submitted again for other work; the first work is kept."""


class KilledWorker(TaskloomError):
    """A task was running each time a worker process died, too often to try again.

    Attributes
    ----------
    task : the task's key
    last_worker : address of the last worker that died
    allowed_failures : how many deaths were allowed
    """

    def __init__(
        self,
        task: Any,
        last_worker: Any = None,
        allowed_failures: int | None = None,
        reason: str | None = None,
    ) -> None:
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.reason = reason
        super().__init__(task, last_worker, allowed_failures, reason)

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        return (
            f"Attempted to run task {self.task!r} on {self.allowed_failures} different workers, "
            f"but all those workers died while running it. The last worker that attempted to run "
            f"the task was {self.last_worker}."
        )


class ActorLostError(TaskloomError, RuntimeError, OSError):
    """An actor is gone, or was lost while a call was under way: the message says which.

    Attributes
    ----------
    key : the actor's key
    worker : address of the worker where it lived, or ``None``
    reason : what happened, and how the worker ended where that is known
    """

    def __init__(self, key: Any, worker: str | None = None, reason: str = "") -> None:
        super().__init__(key, worker, reason)
        self.key = key
        self.worker = worker
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"the actor {self.key!r} is gone"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.worker, self.reason)


class ActorSnapshotError(TaskloomError):
    """The state of an actor that is to be restarted could not be saved.

    Raised when the actor is made, or by the call after which it was to be saved: that call had its
    effects, which a restart would lose.
    """


class NoValidWorkerError(TaskloomError):
    """No worker that may run a task was there within the configured time."""


class WorkerUnreachableError(TaskloomError, OSError):
    """A result is on a worker that cannot be reached from here, directly or by the scheduler.

    The message names the worker and says why each way fails. Tasks on other workers may still use
    the result. A task ends with it, too, if it may only run on a worker that does not reach the
    one that alone may make its input.
    """


class TaskTimeout(TaskloomError, TimeoutError):
    """A task took longer than its ``timeout`` or ``hard_timeout``.

    After ``timeout`` it is raised inside the task, which may clean up, or return what it has.

    Attributes
    ----------
    key : the task's key
    limit : the time-out in seconds, where it is known
    hard : whether the worker gave the task up, since it did not end
    """

    def __init__(
        self,
        message: str = "the task took longer than its timeout",
        key: Any = None,
        limit: float | None = None,
        hard: bool = False,
    ) -> None:
        self.message = message
        self.key = key
        self.limit = limit
        self.hard = hard
        super().__init__(message, key, limit, hard)

    def __str__(self) -> str:
        return self.message

    def _describe(self, key: Any, limit: float) -> None:
        """Write down what the interpreter does not know when it raises this inside the task."""
        message = f"task {key} took longer than its timeout of {limit:g} s"
        self.message, self.key, self.limit = message, key, limit
        self.args = (message, key, limit, self.hard)


class TaskCancelled(BaseException):
    """Raised inside a running task whose future was cancelled, to end it.

    Not an ``Exception``, as ``asyncio.CancelledError``: handlers of errors let it pass.
    """


class RemoteError(TaskloomError):
    """Stands for a task's exception that cannot be pickled, or not be unpickled here.

    Attributes
    ----------
    type_name : the class of the original
    message : its text
    traceback_text : its formatted traceback
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text
        super().__init__(type_name, message, traceback_text)

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class ShuffleError(TaskloomError, RuntimeError):
    """The shards of a shuffle cannot be written or read.

    Attributes
    ----------
    kind : machine-readable, such as ``disk-full``, ``lost``; empty for others
    """

    def __init__(self, message: str, kind: str = "") -> None:
        self.kind = kind
        super().__init__(message, kind)

    def __str__(self) -> str:
        return str(self.args[0])


class Reschedule(Exception):
    """Raised by a task that shall run again, perhaps elsewhere."""
