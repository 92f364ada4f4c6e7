"""Many small results, as they are: 10 KB each, too large for messages."""

from benches.case import Target
from benches.cases._timing import seconds
from benches.work import content

ORDER = 24
TITLE = "results of 10 KB made and gathered, per object"
METRICS = {"us_per_object": "us"}
SYSTEMS = ("taskloom", "distributed", "process-pool", "ray")
TARGETS = (Target("must", 1 / 40, "distributed"), Target("aim", 20))


def per_object(run, quick):
    count = 2_000 if quick else 10_000
    run(200)
    return {"us_per_object": seconds(lambda: run(count)) / count * 1e6}


def client(client, quick):
    def run(count):
        futures = client.map(content, [10_000] * count, range(count), pure=False)
        assert len(client.gather(futures)) == count

    return per_object(run, quick)


def process_pool(pool, quick):
    def run(count):
        assert len(list(pool.map(content, [10_000] * count, range(count)))) == count

    return per_object(run, quick)


def ray(ray, quick):
    remote = ray.remote(content)

    def run(count):
        assert len(ray.get([remote.remote(10_000, i) for i in range(count)])) == count

    return per_object(run, quick)
