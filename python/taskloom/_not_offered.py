"""Names of ``distributed`` that taskloom does not have, and what to use in their place.

Asking for one raises :class:`taskloom.errors.NotOfferedError` with these words.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CLIENT", "CLUSTER", "MODULE", "missing"]

#: Names of the package.
MODULE = {
    "CompatibleExecutor": "only raises in distributed too; use `client.get_executor()`",
    "Nanny": "a supervisor in Rust starts processes: use `LocalCluster` or the commands; "
    "`taskloom.distributed.Nanny` names a kind of worker in a `SpecCluster`",
    "SSHCluster": "start `python -m taskloom scheduler` and `worker` on the hosts",
    "Scheduler": "no Python runs in the scheduler: use `LocalCluster` or `taskloom scheduler`; "
    "`taskloom.distributed.Scheduler` stands for it in a `SpecCluster`",
    "Security": "connections prove a shared token (`TASKLOOM_TOKEN`); TLS comes later",
    "Status": "`client.status` and `worker.status` are texts",
    "SubprocessCluster": "`LocalCluster` runs its workers in processes of their own",
    "config": "`dask.config`, see the guide on deployment",
    "connect": "the connections are not open to programs; use a `Client`",
    "local_client": "deprecated in distributed; use `worker_client`",
    "rpc": "the connections are not open to programs; use `client.run`",
    "span": "tasks are grouped by the prefix of their key; `get_task_stream` and "
    "`performance_report` are bounded by blocks",
}

#: Attributes of ``Client``.
CLIENT = {
    "amm": "surplus copies are dropped by the scheduler itself",
    "benchmark_hardware": "`make bench` measures the engine",
    "extensions": "no Python runs in the scheduler",
    "profile": "no statistical profiler runs beside tasks yet; use `client.call_stack()`, "
    "`get_task_stream` or `performance_report`",
    "scheduler_comm": "the connection is not open to programs",
}

#: Attributes of ``LocalCluster``.
CLUSTER = {
    "from_name": "a cluster lives in the process that made it; connect to its address",
    "loop": "the cluster needs no event loop",
    "new_worker_spec": "workers of a LocalCluster are equal: `scale(n)`, or a `SpecCluster`",
    "observed": "`client.scheduler_info()['workers']`",
    "plan": "`scale(n)` is applied at once",
    "requested": "`scale(n)` is applied at once",
    "scale_down": "`client.retire_workers(names)`",
    "scale_up": "`scale(n)`",
    "start_worker": "`scale(n)`",
    "sync": "`taskloom.sync`",
}


def missing(owner: Any, title: str, name: str, reasons: dict[str, str]) -> AttributeError:
    """The error for an attribute that ``owner`` does not have."""
    reason = reasons.get(name)
    if reason is None:
        return AttributeError(f"{title} has no attribute {name!r}", name=name, obj=owner)
    from taskloom.errors import NotOfferedError

    return NotOfferedError(
        f"taskloom does not offer {title}.{name}: {reason}", name=name, obj=owner
    )
