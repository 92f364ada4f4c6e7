"""What a million tasks leave behind: growth of resident memory, round by round.

The slope is the median of those between all pairs of rounds (Theil and Sen), the first third left
out: pools and tables fill up then.
"""

import gc
import itertools
import statistics

from benches.case import Target
from benches.processes import resident_bytes
from benches.systems import module_of
from benches.work import noop

ORDER = 34
TITLE = "memory left behind, per task, over 10^6 tasks"
METRICS = {"client_bytes": "B", "worker_bytes": "B"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (Target("must", 1.0), Target("must", 1.0, metric="worker_bytes"))


def slope(values, each):
    values = values[len(values) // 3 :]
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) / each for (i, a), (j, b) in pairs)


def worker_bytes():
    gc.collect()
    return resident_bytes()


def client(client, quick):
    is_ours = module_of(client).__name__ == "taskloom"
    total = 1_000_000 if is_ours else 20_000
    total //= 10 if quick else 1
    rounds = 30
    each = total // rounds
    here, there = [], []
    for number in range(rounds):
        client.gather(client.map(noop, range(number * each, (number + 1) * each)))
        gc.collect()
        here.append(resident_bytes())
        there.append(max(client.run(worker_bytes).values()))
    return {"client_bytes": slope(here, each), "worker_bytes": slope(there, each)}
