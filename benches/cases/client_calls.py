"""What giving work costs the program: processor time of the thread that calls the client.

Workers and scheduler compete for the machine's cores meanwhile, so the clock on the wall would
measure them too.
"""

import gc
import time

from benches.case import Target
from benches.systems import module_of
from benches.work import noop

ORDER = 16
TITLE = "client's share: processor time of the calling thread per `submit(noop, i)`"
METRICS = {"submit_us": "us", "map_us": "us"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (
    Target("must", 10, metric="submit_us"),
    Target("must", 2, metric="map_us"),
)


def thread_us(call):
    """Processor time of this thread in us; the garbage of earlier steps is not its own."""
    gc.collect()
    begun = time.thread_time()
    kept = call()
    used = time.thread_time() - begun
    return kept, used * 1e6


def client(client, quick):
    module = module_of(client)
    ours = module.__name__ == "taskloom"
    calls = (20_000 if ours else 2_000) // (4 if quick else 1)
    items = (100_000 if ours else 5_000) // (4 if quick else 1)
    client.gather(client.map(noop, range(-1000, 0)))
    futures, submit_us = thread_us(lambda: [client.submit(noop, i) for i in range(calls)])
    client.gather(futures)
    del futures
    futures, map_us = thread_us(lambda: client.map(noop, range(calls, calls + items)))
    module.wait(futures)
    return {"submit_us": submit_us / calls, "map_us": map_us / items}
