"""A cluster of two workers that does nothing: memory and processor time."""

import os
import time

from benches.case import Target
from benches.processes import cpu_seconds, proportional_bytes, tree
from benches.work import noop

ORDER = 12
TITLE = "idle cluster: memory of all processes (PSS)"
METRICS = {"memory_mb": "MB", "cpu_percent": "% of a core"}
SYSTEMS = ("taskloom", "distributed", "process-pool", "ray")
TARGETS = (
    Target("must", 0.5, "distributed"),
    Target("must", 1.0, metric="cpu_percent"),
    Target("aim", 0.4, "distributed"),
    Target("aim", 0.1, metric="cpu_percent"),
)


def measure(quick):
    time.sleep(1)
    pids = tree(os.getpid())
    interval_s = 3 if quick else 10
    before = cpu_seconds(pids)
    time.sleep(interval_s)
    used = cpu_seconds(pids) - before
    return {
        "memory_mb": proportional_bytes(pids) / 1e6,
        "cpu_percent": used / interval_s * 100,
        "processes": len(pids),
    }


def client(client, quick):
    client.submit(noop, 1).result()
    return measure(quick)


def process_pool(pool, quick):
    return measure(quick)


def ray(ray, quick):
    ray.get(ray.remote(noop).remote(1))
    return measure(quick)
