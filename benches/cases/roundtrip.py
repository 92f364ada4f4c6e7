"""A call at a time: submit a no-op, block until its result is there."""

from benches.case import Target
from benches.cases._timing import each_us, latency
from benches.work import noop

ORDER = 1
TITLE = "`submit(noop).result()`, a thread blocks on it, p50"
METRICS = {"p50_us": "us", "p99_us": "us"}
SYSTEMS = ("taskloom", "distributed", "process-pool", "ray")
TARGETS = (
    Target("must", 1 / 80, "distributed"),
    Target("must", 1 / 2, "process-pool"),
    Target("aim", 60),
)


def client(client, quick):
    count = 100 if quick else 400
    if type(client).__module__.startswith("taskloom"):
        count *= 10
    return latency(each_us(lambda i: client.submit(noop, i).result(), count, 20))


def process_pool(pool, quick):
    return latency(each_us(lambda i: pool.submit(noop, i).result(), 1000 if quick else 4000, 20))


def ray(ray, quick):
    remote = ray.remote(noop)
    return latency(each_us(lambda i: ray.get(remote.remote(i)), 200 if quick else 1000, 20))
