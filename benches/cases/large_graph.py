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


def run(n):
    import dask

    delayed = dask.delayed(stamp, pure=False)
    earliest = dask.delayed(min)([delayed(i) for i in range(n)])
    dask.delayed(stamp)(0).compute()
    begun = time.monotonic()
    first = earliest.compute(optimize_graph=False)
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
