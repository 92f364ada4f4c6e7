"""Memory that a held task costs: scheduler and client together, in one process.

The results are small integers; keys have 44 characters and exist before the measurement.
"""

import gc

from benches.case import Target
from benches.processes import resident_bytes
from benches.systems import module_of
from benches.work import noop

ORDER = 13
TITLE = "memory per held task: scheduler and client together"
METRICS = {"bytes_per_task": "B"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (Target("must", 900), Target("aim", 600))


def client(client, quick):
    module = module_of(client)
    n = 200_000 if module.__name__ == "taskloom" else 10_000
    n //= 10 if quick else 1
    client.gather(client.map(noop, range(-1000, 0)))
    keys = [f"noop-{i:039}" for i in range(n)]
    gc.collect()
    before = resident_bytes()
    futures = client.map(noop, range(n), key=keys)
    module.wait(futures)
    gc.collect()
    return {"bytes_per_task": (resident_bytes() - before) / n}
