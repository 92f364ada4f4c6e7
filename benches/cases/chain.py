"""A chain: nothing can run beside anything else, so each step shows the whole way."""

from benches.case import Target
from benches.cases._graphs import chain_graph, per_task, ray_get

ORDER = 7
TITLE = "chain of 5,000, per step"
METRICS = {"us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads", "ray")
TARGETS = (
    Target("must", 1 / 80, "distributed"),
    Target("must", 1, "dask-threads"),
    Target("aim", 12),
)


def run(get, quick):
    return per_task(get, lambda name: chain_graph(name, 500 if quick else 5000))


def client(client, quick):
    return run(client.get, quick)


def dask_threads(get, quick):
    return run(get, quick)


def ray(ray, quick):
    return run(ray_get(ray), quick)
