"""dask.dataframe: two frames of many partitions, merged on a column."""

from benches.case import Target
from benches.cases._frames import count_rows, make_frame
from benches.cases._timing import seconds

ORDER = 41
TITLE = "dask.dataframe merge, 2 x 24 partitions of 40,000 rows"
METRICS = {"p2p": "s", "tasks": "s"}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
ONLY = {"dask-threads": ("2x1",)}
TARGETS = (
    Target("must", 1, "distributed", "p2p"),
    Target("must", 1, "distributed", "tasks"),
    Target("aim", 1 / 5, "distributed", "p2p"),
)


def merged(parts, rows, seed):
    left, right = make_frame(parts, rows, seed), make_frame(parts, rows, seed + 1)
    # Every fourth row meets its like on the other side: the result stays as large as the inputs.
    return left.merge(right[right.y % 4 == 0], on="key")


def run(quick, methods):
    import dask

    parts, rows = (8, 5_000) if quick else (24, 40_000)
    found = {}
    for metric in methods:
        with dask.config.set({"dataframe.shuffle.method": metric}):
            count_rows(merged(4, 100, 0))
            found[metric] = seconds(lambda: count_rows(merged(parts, rows, 1)))
    return found


def client(client, quick):
    return run(quick, ("p2p", "tasks"))


def dask_threads(get, quick):
    return run(quick, ("tasks",))
