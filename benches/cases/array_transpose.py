"""dask.array: chunks of rows to chunks of columns, and a sum with the transposed."""

from benches.case import Target
from benches.cases._timing import seconds

ORDER = 42
TITLE = "dask.array rechunk of rows to columns, and x + x.T, 6,000 x 6,000"
METRICS = {"rechunk": "s", "transpose": "s", "rechunk_p2p": "s"}
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


def run(quick, with_p2p):
    side = 1200 if quick else 6000
    works = {"rechunk": lambda s: rechunked(s, "tasks"), "transpose": transposed}
    if with_p2p:
        works["rechunk_p2p"] = lambda s: rechunked(s, "p2p")
    found = {}
    for metric, work in works.items():
        work(120).compute()
        found[metric] = seconds(lambda work=work: work(side).compute())
    return found


def client(client, quick):
    return run(quick, True)


def dask_threads(get, quick):
    return run(quick, False)
