"""A dask.array reduction that needs all of its data twice: ten times as much as memory.

Two workers of 1 GiB (quick: 512 MiB, three times as much data; importing dask.array may take 200
MiB of them). None may be ended for its size; the largest resident size
that any of them had is reported.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from benches.case import Target
from benches.systems import module_of

ORDER = 33
TITLE = "array reduction over 10 x memory, two workers"
METRICS = {"seconds": "s", "peak_of_limit": "x", "workers_ended": ""}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (
    Target("must", 1.0, "distributed"),
    Target("must", 0.95, metric="peak_of_limit"),
    Target("must", 0, metric="workers_ended"),
)

MIB = 1024 * 1024


def peak_bytes(pid):
    """The largest resident size that the process had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} does not tell its size")


def client(client, quick):
    import dask.array as da
    from dask.config import set as configure

    module = module_of(client)
    limit = (512 if quick else 1024) * MIB
    rows = (3 if quick else 10) * 2 * limit // (8 * 1024)
    chunk = limit // 32 // (8 * 1024)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-memory-"))
        cluster = stack.enter_context(
            module.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                memory_limit=limit,
                local_directory=directory,
                dashboard_address=None,
            )
        )
        own = stack.enter_context(module.Client(cluster))
        stack.enter_context(configure(scheduler=own))
        before = own.run(os.getpid)
        da.ones((10, 10), chunks=5).sum().compute(scheduler=own.get)
        x = da.random.random((rows, 1024), chunks=(chunk, 1024))
        begin = time.perf_counter()
        result = float(((x - x.mean(axis=0)) ** 2).mean().compute(scheduler=own.get))
        duration = time.perf_counter() - begin
        if abs(result - 1 / 12) > 1e-3:
            raise RuntimeError(f"the variance is {result}, not 1/12")
        pids = own.run(os.getpid)
        peak = max(peak_bytes(pid) for pid in pids.values())
        ended = len(set(before.values()) - set(pids.values()))
    return {
        "seconds": duration,
        "peak_of_limit": peak / limit,
        "workers_ended": ended,
        "peak_mib": peak / MIB,
        "data_mib": rows * 8 * 1024 / MIB,
    }
