"""dask.dataframe: rows of all partitions to all partitions, by a key."""

from benches.case import Target
from benches.cases._frames import count_rows, make_frame
from benches.cases._timing import seconds

ORDER = 40
TITLE = "dask.dataframe shuffle, 48 partitions of 40,000 rows"
METRICS = {"p2p": "s", "tasks": "s"}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
ONLY = {"dask-threads": ("2x1",)}
TARGETS = (
    Target("must", 1 / 2, "distributed", "p2p"),
    Target("must", 1, "distributed", "tasks"),
    Target("aim", 1 / 5, "distributed", "p2p"),
)


def shuffled(method, parts, rows, seed):
    frame = make_frame(parts, rows, seed)
    return frame.shuffle("key", shuffle_method=method, npartitions=parts)


def run(quick, methods):
    parts, rows = (12, 10_000) if quick else (48, 40_000)
    found = {}
    for metric, method in methods.items():
        # Imports on the workers do not count.
        count_rows(shuffled(method, 4, 100, 0))
        one = shuffled(method, parts, rows, 1)
        found[metric] = seconds(lambda one=one: count_rows(one))
    return found


def client(client, quick):
    return run(quick, {"p2p": "p2p", "tasks": "tasks"})


def dask_threads(get, quick):
    return run(quick, {"tasks": "tasks"})
