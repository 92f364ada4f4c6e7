"""A binary reduction."""

from benches.case import Target
from benches.cases._graphs import per_task, ray_get, tree_graph

ORDER = 5
TITLE = "tree of 2^14 leaves, low-level graph, per task"
METRICS = {"us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads", "ray")
TARGETS = (
    Target("must", 1 / 30, "distributed"),
    Target("must", 1, "dask-threads"),
    Target("aim", 15),
)


def run(get, quick):
    return per_task(get, lambda name: tree_graph(name, 2**10 if quick else 2**14))


def client(client, quick):
    return run(client.get, quick)


def dask_threads(get, quick):
    return run(get, quick)


def ray(ray, quick):
    return run(ray_get(ray), quick)
