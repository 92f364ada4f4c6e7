"""dask.array: chunks of rows to chunks of columns, and a sum with the transposed.

Each is computed six times in one process. The first time pays for memory that the process has not
had before, which on a virtual machine depends more on what ran a second ago than on who asks for
it: it is shown by itself, and bounds are for the median of the others.
"""

import gc
import statistics

from benches.case import Target
from benches.cases._timing import seconds

ORDER = 42
TITLE = "dask.array rechunk of rows to columns, and x + x.T, 6,000 x 6,000"
METRICS = {
    "rechunk": "s",
    "rechunk_first": "s",
    "transpose": "s",
    "transpose_first": "s",
    "rechunk_p2p": "s",
    "rechunk_p2p_first": "s",
}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
ONLY = {"dask-threads": ("2x1",)}
TARGETS = (
    Target("must", 1.5, "dask-threads", "rechunk"),
    Target("must", 1.5, "dask-threads", "transpose"),
    Target("must", 1, "distributed", "rechunk_p2p"),
    Target("aim", 1.1, "dask-threads", "rechunk"),
    Target("aim", 1.1, "dask-threads", "transpose"),
)


def rechunked(side, method):
    import dask.array as da

    x = da.random.default_rng(1).random((side, side), chunks=(side // 12, side))
    return x.rechunk((side, side // 12), method=method).sum()


def transposed(side):
    import dask.array as da

    x = da.random.default_rng(1).random((side, side), chunks=(side // 12, side // 12))
    return (x + x.T).sum()


def timed(work, side):
    # A collection of everything that was imported takes as long as the work, and whether it falls
    # into it is chance.
    gc.collect()
    return seconds(lambda: work(side).compute())


def run(quick, with_p2p):
    side = 1200 if quick else 6000
    works = {"rechunk": lambda s: rechunked(s, "tasks"), "transpose": transposed}
    if with_p2p:
        works["rechunk_p2p"] = lambda s: rechunked(s, "p2p")
    found = {}
    for metric, work in works.items():
        work(120).compute()
        found[f"{metric}_first"] = timed(work, side)
        found[metric] = statistics.median(timed(work, side) for _ in range(5))
    return found


def client(client, quick):
    return run(quick, True)


def dask_threads(get, quick):
    return run(quick, False)
