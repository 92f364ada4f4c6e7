"""Four times a worker's memory is made, goes to disk, and is used again.

The same volume is written to a plain file and read in the same run, twice before and twice after:
what the disk, or the system's cache before it, gives to anybody. One such try takes up to four
times as long as another, by how much fresh memory the cache needs and what is still to be written
of earlier files, so their median counts.
"""

import contextlib
import os
import statistics
import tempfile
import time

from benches.case import Target
from benches.systems import module_of

ORDER = 32
TITLE = "spill of 4 x memory and read back"
METRICS = {"seconds": "s", "of_raw_disk": "x"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (
    Target("must", 1.0, "distributed"),
    Target("must", 1 / 0.6, metric="of_raw_disk"),
    Target("aim", 1 / 0.9, metric="of_raw_disk"),
)

MIB = 1024 * 1024
BLOCK = 16 * MIB


def make(number):
    import numpy as np

    return np.full(BLOCK // 8, number, dtype="f8")


def first(array):
    return float(array[0])


def raw_disk_s(directory, blocks):
    data = bytes(BLOCK)
    path = os.path.join(directory, "raw")
    begin = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(blocks):
            file.write(data)
    with open(path, "rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    duration = time.perf_counter() - begin
    os.unlink(path)
    return duration


def spill_s(module, directory, limit, blocks):
    """How long all was being made, and how long until all was used again, in seconds."""
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            module.LocalCluster(
                n_workers=1,
                threads_per_worker=1,
                memory_limit=limit,
                local_directory=directory,
                dashboard_address=None,
            )
        )
        own = stack.enter_context(module.Client(cluster))
        own.gather(own.map(first, own.map(make, range(2), pure=False)))
        begin = time.perf_counter()
        arrays = own.map(make, range(blocks), pure=False)
        module.wait(arrays)
        written = time.perf_counter() - begin
        numbers = own.gather(own.map(first, arrays))
        duration = time.perf_counter() - begin
        if numbers != [float(n) for n in range(blocks)]:
            raise RuntimeError("the values have changed")
    return written, duration


def client(client, quick):
    module = module_of(client)
    limit = (256 if quick else 1024) * MIB
    blocks = 4 * limit // BLOCK
    with tempfile.TemporaryDirectory(prefix="bench-spill-") as directory:
        raw = [raw_disk_s(directory, blocks) for _ in range(2)]
        written, duration = spill_s(module, directory, limit, blocks)
        raw += [raw_disk_s(directory, blocks) for _ in range(2)]
    raw_s = statistics.median(raw)
    return {
        "seconds": duration,
        "of_raw_disk": duration / raw_s,
        "make_s": written,
        "read_s": duration - written,
        "raw_s": raw_s,
        "raw_least_s": min(raw),
        "raw_most_s": max(raw),
        "mib": blocks * BLOCK / MIB,
    }
