"""How late heartbeats are while a task holds the GIL for 10 s.

Asked from the scheduler all the time: the age of each worker's last heartbeat, less the interval
between two of them.
"""

import time

from benches.case import Target
from benches.systems import module_of
from benches.work import hold_gil

ORDER = 15
TITLE = "heartbeat lateness while a task holds the GIL"
METRICS = {"lateness_ms": "ms"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (Target("must", 200),)


def ages_of_distributed(client):
    def ages(dask_scheduler):
        now = time.time()
        return {address: now - ws.last_seen for address, ws in dask_scheduler.workers.items()}

    return max(client.run_on_scheduler(ages).values())


def ages_of_taskloom(client):
    workers = client.scheduler_info()["workers"].values()
    return max(worker["last_seen_s"] for worker in workers)


def client(client, quick):
    age = {"taskloom": ages_of_taskloom, "distributed": ages_of_distributed}[
        module_of(client).__name__
    ]

    def largest_age(until):
        worst = 0.0
        while not until():
            worst = max(worst, age(client))
            time.sleep(0.01)
        return worst

    # The interval is what is seen on an idle cluster.
    quiet_until = time.monotonic() + (2 if quick else 5)
    interval = largest_age(lambda: time.monotonic() > quiet_until)
    future = client.submit(hold_gil, 3 if quick else 10, pure=False)
    worst = largest_age(future.done)
    return {
        "lateness_ms": max(0.0, worst - interval) * 1e3,
        "held_ms": future.result() * 1e3,
        "interval_ms": interval * 1e3,
    }
