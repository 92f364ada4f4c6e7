"""A large array of the client, put on a worker."""

import numpy

from benches.case import Target
from benches.cases._transfers import median_ms, timed

ORDER = 23
TITLE = "scatter of a 100 MB array; to 8 workers with `broadcast_ms`"
METRICS = {"ms": "ms", "broadcast_ms": "ms"}
SYSTEMS = ("taskloom", "distributed", "ray")
TARGETS = (
    Target("must", 1, "ray"),
    Target("must", 1 / 4, "distributed"),
    Target("must", 1 / 8, "distributed", "broadcast_ms"),
)


def client(client, quick):
    data = numpy.random.default_rng(1).random(12_500_000)

    def step(i):
        data[0] = i
        return timed(lambda: client.scatter(data, hash=False))

    return {"ms": median_ms(step, 5 if quick else 15)}


def broadcast(client, quick):
    data = numpy.random.default_rng(1).random(12_500_000)

    def step(i):
        data[0] = i
        return timed(lambda: client.scatter(data, hash=False, broadcast=True))

    return {"broadcast_ms": median_ms(step, 3 if quick else 7)}


def alone(system, shape, quick):
    with system.open(shape) as session:
        found = {"client": client, "ray": ray}[system.family](session, quick)
    if system.family == "client":
        from benches.systems import Shape

        with system.open(Shape("8x1", 8, 1)) as session:
            found |= broadcast(session, quick)
    return found


def ray(ray, quick):
    data = numpy.random.default_rng(1).random(12_500_000)
    return {"ms": median_ms(lambda i: timed(lambda: ray.put(data)), 5 if quick else 15)}
