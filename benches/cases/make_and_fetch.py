"""A large result, made by a worker and brought to the client in one go."""

from benches.case import Target
from benches.cases._transfers import median_ms, timed
from benches.work import array

ORDER = 22
TITLE = "a 200 MB result made by a worker and fetched"
METRICS = {"ms": "ms"}
SYSTEMS = ("taskloom", "distributed", "ray")
TARGETS = (Target("must", 1 / 4, "distributed"), Target("aim", 1, "ray"))


def client(client, quick):
    def step(i):
        return timed(lambda: client.submit(array, 200, i, pure=False).result())

    return {"ms": median_ms(step, 5 if quick else 10)}


def ray(ray, quick):
    remote = ray.remote(array)
    return {"ms": median_ms(lambda i: timed(lambda: ray.get(remote.remote(200, i))), 5)}
