"""With a client there, dask's arrays, frames and delayed calls run on it by themselves."""

import dask
import dask.array as da

from taskloom import Client


@dask.delayed
def half(x: float) -> float:
    return x / 2


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1):
        x = da.ones((2000, 2000), chunks=(500, 500))
        total = (x + x.T).sum()
        print("sum:", total.compute())
        print("half of it:", half(total).compute())
