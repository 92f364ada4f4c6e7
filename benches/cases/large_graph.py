"""A large delayed graph: when does the first task start, when is all done.

Distributed gets 20,000 tasks, taskloom 200,000; both are shown per task.
"""

import time

from benches.case import Target
from benches.work import stamp

ORDER = 10
TITLE = "delayed graph of 200,000 tasks (peers 20,000), per task"
METRICS = {"us_per_task": "us", "first_task_us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
TARGETS = (
    Target("must", 1 / 10, "distributed"),
    Target("must", 1 / 10, "distributed", "first_task_us_per_task"),
)


def earliest(run, n):
    """A delayed object over `n` tasks, made as dask's own layers are: calling `dask.delayed`
    so often takes minutes by itself."""
    from dask._task_spec import List, Task, TaskRef
    from dask.delayed import Delayed

    keys = [f"stamp-{run}-{i}" for i in range(n)]
    graph = {key: Task(key, stamp, i) for i, key in enumerate(keys)}
    last = f"earliest-{run}"
    graph[last] = Task(last, min, List(*(TaskRef(key) for key in keys)))
    return Delayed(last, graph)


def run(n):
    earliest("warm-up", 20).compute()
    delayed = earliest("measured", n)
    begun = time.monotonic()
    first = delayed.compute(optimize_graph=False)
    done = time.monotonic()
    return {
        "us_per_task": (done - begun) / n * 1e6,
        "first_task_us_per_task": (first - begun) / n * 1e6,
        "first_task_s": first - begun,
        "total_s": done - begun,
    }


def client(client, quick):
    n = 200_000 if type(client).__module__.startswith("taskloom") else 20_000
    return run(n // 10 if quick else n)


def dask_threads(get, quick):
    return run(2_000 if quick else 20_000)
