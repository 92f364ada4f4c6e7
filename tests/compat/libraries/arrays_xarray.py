"""xarray: chunked datasets opened, computed, and written to netCDF and Zarr under locks."""

import dask
import numpy as np
import xarray as xr
from xarray.backends.locks import get_dask_scheduler, get_write_lock


def main(client, directory, note):
    note("scheduler", get_dask_scheduler(), type(get_write_lock("x")).__name__)
    values = np.arange(4 * 30 * 20, dtype="f8").reshape(4, 30, 20)
    source = xr.Dataset(
        {"t": (("time", "y", "x"), values), "mask": (("y", "x"), values[0] % 3 == 0)},
        coords={"time": np.arange(4)},
    )
    chunked = source.chunk({"time": 1, "y": 10})
    note("mean", float(chunked.t.where(chunked.mask).mean().compute()))
    chunked.to_netcdf(f"{directory}/all.nc")
    with xr.open_dataset(f"{directory}/all.nc", chunks={"time": 2}) as opened:
        note("netcdf", bool((opened.t == source.t).all().compute()), opened.t.chunks[0])
    delayed = [
        chunked.isel(time=[i]).to_netcdf(f"{directory}/part{i}.nc", compute=False) for i in range(4)
    ]
    dask.compute(*delayed)
    with xr.open_mfdataset(f"{directory}/part*.nc", parallel=True) as opened:
        note("parts", bool((opened.t == source.t).all().compute()), opened.sizes["time"])
    chunked.to_zarr(f"{directory}/all.zarr", mode="w")
    opened = xr.open_zarr(f"{directory}/all.zarr")
    note("zarr", opened.t.chunks[1], float(opened.t.sum().compute()))
    persisted = opened.persist()
    groups = persisted.t.groupby("time").map(lambda x: x.max())
    note("groups", groups.compute().values.tolist())
