"""A call at a time under asyncio."""

import asyncio
import time

from benches.case import Target
from benches.cases._timing import latency
from benches.systems import module_of
from benches.work import noop

ORDER = 2
TITLE = "`await client.submit(noop)` under asyncio, p50"
METRICS = {"p50_us": "us", "p99_us": "us"}
SYSTEMS = ("taskloom", "distributed", "process-pool", "ray")
TARGETS = (Target("must", 1 / 60, "distributed"), Target("aim", 80))


async def each(call, count):
    for i in range(20):
        await call(-1 - i)
    durations = []
    for i in range(count):
        begun = time.perf_counter()
        await call(i)
        durations.append((time.perf_counter() - begun) * 1e6)
    return latency(durations)


def client(client, quick):
    module = module_of(client)
    count = 100 if quick else 400
    if module.__name__ == "taskloom":
        count *= 10

    async def run():
        async with module.Client(
            client.cluster.scheduler_address, asynchronous=True, set_as_default=False
        ) as inner:
            return await each(lambda i: inner.submit(noop, i), count)

    return asyncio.run(run())


def process_pool(pool, quick):
    async def run():
        loop = asyncio.get_running_loop()
        return await each(lambda i: loop.run_in_executor(pool, noop, i), 1000 if quick else 4000)

    return asyncio.run(run())


def ray(ray, quick):
    remote = ray.remote(noop)

    async def call(i):
        return await remote.remote(i)

    return asyncio.run(each(call, 200 if quick else 1000))
