"""A large result that lies on a worker, brought to the client."""

import numpy

from benches.case import Target
from benches.cases._transfers import median_ms, timed, wait
from benches.work import array

ORDER = 20
TITLE = "gather of a 100 MB numpy result"
METRICS = {"first_ms": "ms", "again_ms": "ms"}
SYSTEMS = ("taskloom", "distributed", "ray")
TARGETS = (
    Target("must", 1 / 10, "distributed"),
    Target("must", 1 / 10, "distributed", "again_ms"),
    Target("aim", 2, metric="again_ms"),
)


def client(client, quick):
    again = []

    def step(i):
        future = wait(client.submit(array, 100, i, pure=False))
        first = timed(lambda: client.gather(future))
        again.append(timed(lambda: client.gather(future)))
        assert client.gather(future)[-1] == i
        return first

    first = median_ms(step, 5 if quick else 15)
    return {"first_ms": first, "again_ms": float(numpy.median(again)) * 1e3}


def ray(ray, quick):
    again, remote = [], ray.remote(array)

    def step(i):
        ref = remote.remote(100, i)
        ray.wait([ref], fetch_local=False)
        first = timed(lambda: ray.get(ref))
        again.append(timed(lambda: ray.get(ref)))
        return first

    first = median_ms(step, 5 if quick else 15)
    return {"first_ms": first, "again_ms": float(numpy.median(again)) * 1e3}
