"""What dask does differently for `distributed`: locks, `await`, `dask.wait`, the name of it."""

import asyncio
import os
import tempfile

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client
from dask.utils import get_scheduler_lock


def main(client, directory, note):
    lock = get_scheduler_lock()
    note("lock", type(lock).__name__, type(lock).__module__.split(".")[0] != "dask")
    x = da.arange(1000, chunks=100)
    target = np.memmap(tempfile.mktemp(), dtype=x.dtype, shape=x.shape, mode="w+")
    da.store(x + 1, target, lock=False)
    note("by name", x.sum().compute(scheduler="distributed"))
    with tempfile.TemporaryDirectory() as directory:
        frame = dd.from_pandas(pd.DataFrame({"a": range(50), "b": range(50)}), npartitions=3)
        frame.to_parquet(directory)
        note("parquet", len(os.listdir(directory)), dd.read_parquet(directory).a.sum().compute())
    note("shuffled", frame.shuffle("a").a.sum().compute())

    async def awaited():
        async with Client(client.scheduler.address, asynchronous=True) as other:
            y = await other.persist(x + 1)
            return await other.compute(y.sum())

    note("awaited", asyncio.run(awaited()))
