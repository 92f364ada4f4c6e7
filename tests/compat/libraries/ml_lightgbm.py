"""LightGBM: training over the workers' own sockets, and prediction by blocks."""

import dask.array as da
import lightgbm
import numpy as np


def main(client, directory, note):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5))
    y = (x[:, 0] * 2 + x[:, 1] > 0).astype(int)
    dx, dy = da.from_array(x, chunks=(250, 5)), da.from_array(y, chunks=250)
    model = lightgbm.DaskLGBMClassifier(n_estimators=20, num_leaves=7, verbose=-1)
    model.fit(dx, dy)
    predicted = model.predict(dx)
    note("accuracy", bool((predicted.compute() == y).mean() > 0.95))
    note("local", type(model.to_local()).__name__)
    regressor = lightgbm.DaskLGBMRegressor(n_estimators=20, verbose=-1).fit(dx, dx[:, 0])
    note("regression", bool(abs(regressor.predict(dx).compute() - x[:, 0]).mean() < 0.3))
