"""Which names of ``distributed`` live where in taskloom, and why others do not.

The tables are read by :mod:`taskloom.distributed`. A name of a table that taskloom does not have
counts as not offered.
"""

from __future__ import annotations

from taskloom._not_offered import MODULE

#: The ``distributed`` whose names and behaviour these are.
VERSION = "2026.8.0"

_SUPPORT = "taskloom.distributed._support"


def _own(*names: str) -> dict[str, str]:
    """Names that taskloom has under the same name."""
    return {name: f"taskloom:{name}" for name in names}


def _support(*names: str) -> dict[str, str]:
    return {name: f"{_SUPPORT}:{name}" for name in names}


_ACTORS = _own("Actor", "ActorFuture", "BaseActorFuture")
_PLUGINS = _own(
    "CondaInstall", "Environ", "InstallPlugin", "NannyPlugin", "PipInstall", "SchedulerPlugin",
    "UploadDirectory", "UploadFile", "WorkerPlugin",
)  # fmt: skip
_CLIENT = _own(
    "Client", "Future", "as_completed", "default_client", "ensure_default_client",
    "fire_and_forget", "futures_of", "get_task_metadata", "performance_report",
    "temp_default_client", "wait",
)  # fmt: skip
_IN_TASKS = _own("Reschedule", "get_client", "get_worker", "print", "rejoin", "secede", "warn")
_ERRORS = _own("CancelledError", "TimeoutError")
_CLUSTERS = {
    **_own("Adaptive", "LocalCluster", "SpecCluster"),
    "Cluster": "taskloom.cluster:LocalCluster",
}
_SPEC_KINDS = {
    "Nanny": "taskloom._spec_cluster:Nanny",
    "Scheduler": "taskloom._spec_cluster:Scheduler",
}
_WORKER_CLIENT = {**_own("worker_client"), "local_client": "taskloom:worker_client"}
_EXECUTOR = {"ClientExecutor": "taskloom._executor:ClientExecutor"}

#: Names of ``distributed`` itself.
PUBLIC: dict[str, str] = {
    **_ACTORS,
    **_PLUGINS,
    **_CLIENT,
    **_IN_TASKS,
    **_ERRORS,
    **_WORKER_CLIENT,
    **_own("Adaptive", "LocalCluster", "SpecCluster"),
    **_SPEC_KINDS,
    **_own("Event", "KilledWorker", "Lock", "MultiLock", "Queue", "Semaphore", "Variable"),
    **_own("Security", "Worker", "get_task_stream", "progress", "span"),
    **_support("Status"),
    **_own("sync"),
    "CompatibleExecutor": "taskloom._executor:ClientExecutor",
    "config": "dask.config:config",
}

#: Names of submodules, parents first.
SUBMODULES: dict[str, dict[str, str]] = {
    "actor": _ACTORS,
    "cfexecutor": _EXECUTOR,
    "client": {
        **_CLIENT,
        **_EXECUTOR,
        **_ERRORS,
        **_own("FutureCancelledError", "FuturesCancelledError", "get_client", "get_worker"),
        "ALL_COMPLETED": "taskloom._completion:ALL_COMPLETED",
        "DoneAndNotDoneFutures": "taskloom._completion:DoneAndNotDone",
        "FIRST_COMPLETED": "taskloom._completion:FIRST_COMPLETED",
    },
    "comm": _support(
        "CommClosedError", "get_address_host", "get_address_host_port", "parse_address",
        "parse_host_port", "unparse_address", "unparse_host_port",
    ),
    "comm.addressing": _support(
        "get_address_host", "get_address_host_port", "parse_address", "parse_host_port",
        "unparse_address", "unparse_host_port",
    ),
    "comm.core": _support("CommClosedError"),
    "compatibility": _support("LINUX", "MACOS", "WINDOWS"),
    "core": _support("CommClosedError", "Status"),
    "deploy": _CLUSTERS,
    "deploy.adaptive": _own("Adaptive"),
    "deploy.cluster": {"Cluster": _CLUSTERS["Cluster"]},
    "deploy.local": _own("LocalCluster"),
    "deploy.spec": {
        **_own("SpecCluster"),
        "ProcessInterface": "taskloom._spec_cluster:ProcessInterface",
    },
    "diagnostics": _own("progress"),
    "diagnostics.plugin": _PLUGINS,
    "diagnostics.progressbar": _own("progress"),
    "diagnostics.task_stream": _own("get_task_stream"),
    "event": _own("Event"),
    "lock": _own("Lock"),
    "metrics": _support("monotonic", "process_time", "thread_time", "time"),
    "multi_lock": _own("MultiLock"),
    "protocol": _support("deserialize", "serialize"),
    "protocol.pickle": _support("dumps", "loads"),
    "protocol.serialize": _support("deserialize", "serialize"),
    "queues": _own("Queue"),
    "nanny": {"Nanny": _SPEC_KINDS["Nanny"]},
    "scheduler": {**_own("KilledWorker"), "Scheduler": _SPEC_KINDS["Scheduler"]},
    "security": _own("Security"),
    "semaphore": _own("Semaphore"),
    "threadpoolexecutor": _own("rejoin", "secede"),
    "utils": {
        **_ERRORS,
        **_own("sync"),
        **_support(
            "get_ip", "has_keyword", "import_term",
            "iscoroutinefunction", "key_split", "log_errors", "open_port", "thread_state",
        ),
    },
    "utils_test": {
        name: f"taskloom.testing.distributed:{name}"
        for name in ("cleanup", "cluster", "dec", "div", "inc", "loop", "loop_in_thread", "slowinc")
    },
    "variable": _own("Variable"),
    "worker": {
        **_own(
            "Reschedule", "TimeoutError", "Worker", "get_client", "get_worker", "print", "secede",
            "warn",
        ),
        **_support("Status", "thread_state"),
    },
    "worker_client": {
        **_WORKER_CLIENT,
        **_own("get_worker", "rejoin", "secede"),
        **_support("thread_state"),
    },
}  # fmt: skip

#: Why names are not offered, and what to do.
REFUSED: dict[str, str] = MODULE
