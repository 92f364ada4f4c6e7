"""Independent tasks into one."""

from benches.case import Target
from benches.cases._graphs import merge_graph, per_task, ray_get

ORDER = 4
TITLE = "merge-20k, low-level graph, per task"
METRICS = {"us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads", "ray")
TARGETS = (
    Target("must", 1 / 30, "distributed"),
    Target("must", 1, "dask-threads"),
    Target("aim", 15),
)


def run(get, quick):
    return per_task(get, lambda name: merge_graph(name, 2_000 if quick else 20_000))


def client(client, quick):
    return run(client.get, quick)


def dask_threads(get, quick):
    return run(get, quick)


def ray(ray, quick):
    return run(ray_get(ray), quick)
