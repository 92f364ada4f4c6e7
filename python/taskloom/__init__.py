"""taskloom: a distributed task scheduler with the API of ``dask.distributed``.

>>> from taskloom import Client
>>> with Client(n_workers=2) as client:
...     client.submit(sum, [1, 2, 3]).result()
6

Importing this package starts nothing and loads little: names are looked up at first use.
"""

from __future__ import annotations

from taskloom._taskloom import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskloom._actor import Actor, ActorFuture, BaseActorFuture, actor
    from taskloom._adaptive import Adaptive
    from taskloom._completion import as_completed, wait
    from taskloom._coordination import Event, Lock, MultiLock, Semaphore
    from taskloom._default import (
        default_client,
        ensure_default_client,
        temp_default_client,
    )
    from taskloom._inside import (
        get_client,
        rejoin,
        secede,
        worker_client,
    )
    from taskloom._loop import sync
    from taskloom._policy import Backoff, Retry
    from taskloom._progress import progress
    from taskloom._registry import fire_and_forget, futures_of
    from taskloom._report import performance_report
    from taskloom._sharing import Queue, Variable
    from taskloom._shown import print, warn
    from taskloom._spec_cluster import SpecCluster
    from taskloom._task_stream import get_task_metadata, get_task_stream
    from taskloom.client import Client
    from taskloom.cluster import LocalCluster
    from taskloom.errors import (
        ActorLostError,
        ActorSnapshotError,
        CancelledError,
        ClosedClientError,
        FutureCancelledError,
        FuturesCancelledError,
        KeyCollisionError,
        KeyCollisionWarning,
        KilledWorker,
        NoValidWorkerError,
        RemoteError,
        Reschedule,
        SchedulerError,
        ShuffleError,
        TaskCancelled,
        TaskloomError,
        TaskTimeout,
        TimeoutError,
        UnreachableError,
        WorkerUnreachableError,
    )
    from taskloom.future import Future
    from taskloom.plugin import (
        CondaInstall,
        Environ,
        InstallPlugin,
        NannyPlugin,
        PipInstall,
        SchedulerPlugin,
        UploadDirectory,
        UploadFile,
        WorkerPlugin,
    )
    from taskloom.worker import Worker, get_worker

_ACTOR = "taskloom._actor"
_ERRORS = "taskloom.errors"
_INSIDE = "taskloom._inside"
_DEFAULT = "taskloom._default"
_COORDINATION = "taskloom._coordination"
_PLUGIN = "taskloom.plugin"
_SHARING = "taskloom._sharing"
_TASK_STREAM = "taskloom._task_stream"

#: Where each public name lives.
_HOMES = {
    "Adaptive": "taskloom._adaptive",
    "Backoff": "taskloom._policy",
    "Actor": _ACTOR,
    "ActorFuture": _ACTOR,
    "ActorLostError": _ERRORS,
    "ActorSnapshotError": _ERRORS,
    "BaseActorFuture": _ACTOR,
    "CancelledError": _ERRORS,
    "Client": "taskloom.client",
    "ClosedClientError": _ERRORS,
    "CondaInstall": _PLUGIN,
    "Environ": _PLUGIN,
    "Event": _COORDINATION,
    "Future": "taskloom.future",
    "FutureCancelledError": _ERRORS,
    "FuturesCancelledError": _ERRORS,
    "InstallPlugin": _PLUGIN,
    "KeyCollisionError": _ERRORS,
    "KeyCollisionWarning": _ERRORS,
    "KilledWorker": _ERRORS,
    "LocalCluster": "taskloom.cluster",
    "Lock": _COORDINATION,
    "MultiLock": _COORDINATION,
    "NannyPlugin": _PLUGIN,
    "NoValidWorkerError": _ERRORS,
    "PipInstall": _PLUGIN,
    "Queue": _SHARING,
    "RemoteError": _ERRORS,
    "Reschedule": _ERRORS,
    "Retry": "taskloom._policy",
    "SchedulerError": _ERRORS,
    "ShuffleError": _ERRORS,
    "SchedulerPlugin": _PLUGIN,
    "Semaphore": _COORDINATION,
    "SpecCluster": "taskloom._spec_cluster",
    "TaskCancelled": _ERRORS,
    "TaskTimeout": _ERRORS,
    "TaskloomError": _ERRORS,
    "TimeoutError": _ERRORS,
    "UnreachableError": _ERRORS,
    "WorkerUnreachableError": _ERRORS,
    "UploadDirectory": _PLUGIN,
    "UploadFile": _PLUGIN,
    "Variable": _SHARING,
    "Worker": "taskloom.worker",
    "WorkerPlugin": _PLUGIN,
    "actor": _ACTOR,
    "as_completed": "taskloom._completion",
    "default_client": _DEFAULT,
    "ensure_default_client": _DEFAULT,
    "fire_and_forget": "taskloom._registry",
    "futures_of": "taskloom._registry",
    "get_client": _INSIDE,
    "get_task_metadata": _TASK_STREAM,
    "get_task_stream": _TASK_STREAM,
    "get_worker": "taskloom.worker",
    "performance_report": "taskloom._report",
    "print": "taskloom._shown",
    "progress": "taskloom._progress",
    "rejoin": _INSIDE,
    "secede": _INSIDE,
    "sync": "taskloom._loop",
    "temp_default_client": _DEFAULT,
    "wait": "taskloom._completion",
    "warn": "taskloom._shown",
    "worker_client": _INSIDE,
}

__all__ = [
    "Actor",
    "ActorFuture",
    "ActorLostError",
    "ActorSnapshotError",
    "Adaptive",
    "Backoff",
    "BaseActorFuture",
    "CancelledError",
    "Client",
    "ClosedClientError",
    "CondaInstall",
    "Environ",
    "Event",
    "Future",
    "FutureCancelledError",
    "FuturesCancelledError",
    "InstallPlugin",
    "KeyCollisionError",
    "KeyCollisionWarning",
    "KilledWorker",
    "LocalCluster",
    "Lock",
    "MultiLock",
    "NannyPlugin",
    "NoValidWorkerError",
    "PipInstall",
    "Queue",
    "RemoteError",
    "Reschedule",
    "Retry",
    "SchedulerError",
    "SchedulerPlugin",
    "Semaphore",
    "ShuffleError",
    "SpecCluster",
    "TaskCancelled",
    "TaskTimeout",
    "TaskloomError",
    "TimeoutError",
    "UnreachableError",
    "UploadDirectory",
    "UploadFile",
    "Variable",
    "Worker",
    "WorkerPlugin",
    "WorkerUnreachableError",
    "__version__",
    "actor",
    "as_completed",
    "default_client",
    "ensure_default_client",
    "fire_and_forget",
    "futures_of",
    "get_client",
    "get_task_metadata",
    "get_task_stream",
    "get_worker",
    "performance_report",
    "print",
    "progress",
    "rejoin",
    "secede",
    "sync",
    "temp_default_client",
    "wait",
    "warn",
    "worker_client",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        from sys import modules

        from taskloom._not_offered import MODULE, missing

        raise missing(modules[__name__], "taskloom", name, MODULE)
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
