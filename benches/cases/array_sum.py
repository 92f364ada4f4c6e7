"""dask.array: the sum over many small chunks."""

from benches.case import Target
from benches.cases._timing import seconds

ORDER = 8
TITLE = "dask.array sum over 4,096 chunks (about 5,400 tasks), compute"
METRICS = {"seconds": "s"}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
SHAPES = ("2x1", "1x2")
ONLY = {"dask-threads": ("1x2",)}
TARGETS = (
    Target("must", 1 / 4, "distributed"),
    Target("must", 1, "dask-threads", shape="1x2"),
    Target("aim", 1 / 8, "distributed"),
)


def total(quick, seed):
    import dask.array as da

    side = 32 if quick else 64
    x = da.full((side * 50, side * 50), float(seed), chunks=(50, 50))
    return (x + 1).sum()


def run(quick):
    # Imports of numpy and dask on the workers do not count.
    total(True, 0).compute()
    return {"seconds": seconds(lambda: total(quick, 1).compute())}


def client(client, quick):
    return run(quick)


def dask_threads(get, quick):
    return run(quick)
