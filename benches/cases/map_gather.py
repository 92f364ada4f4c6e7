"""Many independent no-ops: `map` and `gather`.

Peers run fewer tasks than taskloom where 100,000 would take minutes; their cost per task is flat
from some thousand tasks on.
"""

from benches.case import Target
from benches.cases._timing import seconds
from benches.work import noop

ORDER = 3
TITLE = "`map(noop, range(100_000))` and `gather`, per task"
METRICS = {"us_per_task": "us"}
SYSTEMS = ("taskloom", "distributed", "distributed-inf", "process-pool", "ray")
TARGETS = (
    Target("must", 1 / 100, "distributed"),
    Target("must", 1 / 30, "distributed-inf"),
    Target("must", 1 / 5, "process-pool"),
    Target("aim", 5),
)


def per_task(call, n):
    return {"us_per_task": seconds(call) / n * 1e6}


def client(client, quick):
    ours = type(client).__module__.startswith("taskloom")
    n = (100_000 if ours else 10_000) // (10 if quick else 1)
    client.gather(client.map(noop, range(-100, 0)))
    return per_task(lambda: client.gather(client.map(noop, range(n))), n)


def process_pool(pool, quick):
    n = 10_000 if quick else 100_000
    return per_task(lambda: [f.result() for f in [pool.submit(noop, i) for i in range(n)]], n)


def ray(ray, quick):
    n = 1000 if quick else 10_000
    remote = ray.remote(noop)
    ray.get([remote.remote(i) for i in range(100)])
    return per_task(lambda: ray.get([remote.remote(i) for i in range(n)]), n)
