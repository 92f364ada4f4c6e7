"""Many futures awaited by one event loop, each by a task of its own."""

import asyncio
import time

from benches.case import Target
from benches.systems import module_of
from benches.work import noop

ORDER = 18
TITLE = "10,000 futures of `map(noop)`, each awaited under asyncio, per future"
METRICS = {"us_per_future": "us"}
SYSTEMS = ("taskloom", "distributed", "process-pool")
TARGETS = (Target("must", 1 / 20, "distributed"),)


async def wait_for(future):
    return await future


async def all_of(futures):
    return await asyncio.gather(*(wait_for(future) for future in futures))


def client(client, quick):
    module = module_of(client)
    n = 2_000 if quick else 10_000

    async def run():
        address = client.cluster.scheduler_address
        async with module.Client(address, asynchronous=True, set_as_default=False) as inner:
            await all_of(inner.map(noop, range(-100, 0)))
            begun = time.perf_counter()
            results = await all_of(inner.map(noop, range(n)))
            used = time.perf_counter() - begun
        assert results == list(range(n))
        return {"us_per_future": used / n * 1e6}

    return asyncio.run(run())


def process_pool(pool, quick):
    n = 2_000 if quick else 10_000

    async def run():
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        await asyncio.gather(*(loop.run_in_executor(pool, noop, i) for i in range(n)))
        return {"us_per_future": (time.perf_counter() - begun) / n * 1e6}

    return asyncio.run(run())
