"""A random layered graph: every task needs two of the layer before."""

from benches.case import Target
from benches.cases._graphs import per_task, random_layers_graph, ray_get

ORDER = 6
TITLE = "random layers 100 x 100, low-level graph, per task"
METRICS = {"us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads", "ray")
TARGETS = (
    Target("must", 1 / 30, "distributed"),
    Target("must", 1, "dask-threads"),
    Target("aim", 15),
)


def run(get, quick):
    side = 40 if quick else 100
    return per_task(get, lambda name: random_layers_graph(name, side, side))


def client(client, quick):
    return run(client.get, quick)


def dask_threads(get, quick):
    return run(get, quick)


def ray(ray, quick):
    return run(ray_get(ray), quick)
