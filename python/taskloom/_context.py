"""Where code runs: the worker and the task that it is part of, as context variables.

Light on purpose: worker processes import it before anything else.
"""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The :class:`taskloom.worker.Worker` whose task, or whose thread, this is.
current_worker: ContextVar[Any] = ContextVar("taskloom_worker")

#: Collects the futures in what is pickled now, for a value that goes to the scheduler together with
#: their keys: then that keeps their results, and the pickle needs no deposit of its own.
pickled_futures: ContextVar[list[Any] | None] = ContextVar("taskloom_pickled", default=None)
#: The actor whose method this is: a :class:`~taskloom._taskloom.LocalActor`.
current_actor: ContextVar[Any] = ContextVar("taskloom_actor")

#: The coroutine task that this is. Tasks in executor threads are known by their thread.
current_run: ContextVar[Any] = ContextVar("taskloom_run")
