"""Where taskloom differs from distributed on purpose, each with the reason.

Names are those of distributed: `Lock`, `Client.submit`. `tests/compat/porting.py` makes the tables
of `docs/porting-from-dask.md` from this, and `test_signatures.py` finds what is not listed.
"""

from __future__ import annotations

from taskloom._not_offered import CLIENT, CLUSTER, MODULE

#: Names that are not there, and what to use in their place.
NOT_OFFERED = {
    **MODULE,
    **{f"Client.{name}": reason for name, reason in CLIENT.items()},
    **{f"LocalCluster.{name}": reason for name, reason in CLUSTER.items()},
    "InstallPlugin": "`PipInstall`, `CondaInstall`, or a `WorkerPlugin` of your own",
    "LocalCluster.called_from_running_loop": "internal in distributed",
    "LocalCluster.name": "an attribute of each cluster",
    "Client.register_worker_plugin": "`client.register_plugin`",
    "as_completed.condition": "`async for` needs none",
    "as_completed.futures": "`count()`, `is_empty()`",
    "as_completed.queue": "`next_batch(block=False)`",
    "as_completed.thread_condition": "the waiting is done in Rust",
    "as_completed.loop": "any running event loop may wait",
}

# What the standard base class of distributed's locks adds.
_INNER = "internal in distributed"
NOT_OFFERED |= {
    f"{kind}.{name}": _INNER
    for kind in ("Lock", "Semaphore")
    for name in ("asynchronous", "loop", "scheduler", "sync")
}
#: Names that are being built.
COMING: set[str] = set()

#: Names that are there and behave otherwise.
OTHERWISE = {
    "Client": "dask's configuration counts only where somebody chose a value; with `loop=` only "
    "`client.loop` changes, since the engine needs no event loop",
    "Client.close": "does not wait for tasks: they are let go, and own clusters closed",
    "Client.gather": "data always come directly from the workers, whatever `direct` says; an "
    "unknown `errors=` is a ValueError",
    "Client.get_executor": "also takes `priority` and `fifo_timeout`; `pure` is False unless "
    "given, as calls may have effects; `shutdown(wait=False)` cancels nothing unless "
    "`cancel_futures`, as in the standard library",
    "Client.get_task_stream": "a record has no `type`, and one `compute` in `startstops`; the "
    "figure is an SVG, and needs no bokeh",
    "get_task_stream": "as `Client.get_task_stream`",
    "get_task_metadata": "of all tasks that end within the block: `worker`, `thread`, `nbytes`, "
    "`startstops`",
    "performance_report": "the page has no profile, and loads nothing from elsewhere",
    "Client.map": "a `key=` list of the wrong length is a ValueError, as `allow_other_workers` "
    "without `workers`; `batch_size` is accepted, calls always travel in batches",
    "Client.persist": "what is no collection is a TypeError, not an AssertionError",
    "Client.recreate_error_locally": "with an asynchronous client it is awaited",
    "Client.recreate_task_locally": "with an asynchronous client it is awaited",
    "Client.run": "`nanny=True` is not offered: supervisors run no Python",
    "Client.scatter": "data always go directly to the workers, whatever `direct` says; an empty "
    "list or dict gives an empty one",
    "Client.submit": "a live key that comes again with other work raises `KeyCollisionWarning`, or "
    "`KeyCollisionError` with `Client(strict_keys=True)`",
    "Future": "unpickled where there is no client it raises ValueError, and is never unbound; a "
    "pickled future keeps its result until it is unpickled (at most an hour)",
    "Future.add_done_callback": "exceptions of the function are logged by `taskloom`",
    "Future.bind_client": "futures are bound when they are made: only checks the cluster",
    "KilledWorker": "says how the worker's process ended",
    "LocalCluster": "workers are processes also by default; there is no dashboard yet",
    "SpecCluster": "the scheduler is always in this process; own kinds of workers have to start "
    "`taskloom worker`",
    "WorkerPlugin": "`transition` tells when tasks start and end",
    "Worker": "is what `get_worker()` gives; workers are started by commands or clusters",
    "as_completed": "`loop` is accepted and not needed",
    "get_client": "coroutine tasks get an asynchronous client",
    "progress": "a bar of text; counts by state",
    "secede": "seldom needed: a task that waits for another leaves its slot by itself",
    "worker_client": "leaves the slot as `secede` does; no thread is added",
}

#: Parameters of distributed that are not there, or have another default.
PARAMETERS = {
    "Adaptive": {
        **dict.fromkeys(
            ["interval", "minimum", "maximum", "wait_count", "target_duration"],
            "the default is in the signature; distributed reads its configuration",
        ),
        "worker_key": "workers are closed one by one, not by group",
    },
    "Actor": dict.fromkeys(
        ["cls", "address", "worker"], "proxies are made by `submit(..., actor=True)`"
    ),
    "ActorFuture": {"io_loop": "futures of calls are made by calling a method"},
    "Client": {"extensions": "None in place of distributed's own extensions"},
    "Future": {
        "state": "internal in distributed",
        "_id": "internal in distributed",
    },
    "KilledWorker": {"last_worker": "optional", "allowed_failures": "optional"},
    "LocalCluster": {"silence_logs": "workers log little unless asked"},
    "LocalCluster.adapt": {"Adaptive": "None stands for the class; another may be given"},
    "Client.dump_cluster_state": {
        "filename": "named after taskloom",
        "format": "JSON needs no further package",
    },
}
