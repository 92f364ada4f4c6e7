"""XGBoost: training with its own tracker, several workers, and prediction by blocks."""

import dask.array as da
import numpy as np
import xgboost.dask as dxgb


def main(client, directory, note):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5))
    y = (x[:, 0] * 2 + x[:, 1] > 0).astype(int)
    dx, dy = da.from_array(x, chunks=(250, 5)), da.from_array(y, chunks=250)
    dtrain = dxgb.DaskDMatrix(client, dx, dy)
    output = dxgb.train(
        client,
        {"objective": "binary:logistic", "max_depth": 3, "eta": 0.5},
        dtrain,
        num_boost_round=10,
        evals=[(dtrain, "train")],
    )
    note("rounds", len(output["history"]["train"]["logloss"]))
    predicted = dxgb.predict(client, output, dx).compute() > 0.5
    note("accuracy", bool((predicted == y).mean() > 0.95))
    model = dxgb.DaskXGBClassifier(n_estimators=10, max_depth=3)
    model.client = client
    model.fit(dx, dy)
    note("classifier", bool((model.predict(dx).compute() == y).mean() > 0.95))
