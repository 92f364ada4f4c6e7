"""`as_completed` over many futures: the cost per future must not grow with their number.

distributed runs a tenth of the futures.
"""

from benches.case import Target
from benches.cases._timing import seconds
from benches.systems import module_of
from benches.work import noop

ORDER = 19
TITLE = "`as_completed(map(noop, …))` over 100,000 futures, per future"
METRICS = {"us_per_future": "us", "growth": "x the cost per future at a tenth of the number"}
SYSTEMS = ("taskloom", "distributed", "process-pool")
TARGETS = (
    Target("must", 1.5, metric="growth"),
    Target("must", 1 / 50, "distributed", metric="us_per_future"),
)


def measured(per_future, n):
    few, many = per_future(n // 10), per_future(n)
    return {"us_per_future": many, "growth": many / few}


def client(client, quick):
    module = module_of(client)
    ours = module.__name__ == "taskloom"
    client.gather(client.map(noop, range(-100, 0)))

    def per_future(n):
        def iterate():
            seen = sum(1 for _ in module.as_completed(client.map(noop, range(n), pure=False)))
            assert seen == n

        return seconds(iterate) / n * 1e6

    return measured(per_future, (100_000 if ours else 10_000) // (10 if quick else 1))


def process_pool(pool, quick):
    from concurrent.futures import as_completed

    def per_future(n):
        def iterate():
            for _ in as_completed([pool.submit(noop, i) for i in range(n)]):
                pass

        return seconds(iterate) / n * 1e6

    return measured(per_future, 10_000 if quick else 100_000)
