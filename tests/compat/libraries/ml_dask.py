"""dask-ml: scaling, k-means, a grid search, a parallel wrapper."""

import warnings

import dask.array as da
import numpy as np
from dask_ml.cluster import KMeans
from dask_ml.model_selection import GridSearchCV
from dask_ml.preprocessing import StandardScaler
from dask_ml.wrappers import ParallelPostFit
from sklearn.linear_model import LogisticRegression

warnings.simplefilter("ignore")


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    return da.from_array(x, chunks=(200, 4)), da.from_array(y, chunks=200)


def main(client, directory, note):
    x, y = data()
    scaled = StandardScaler().fit_transform(x)
    note("scaled", round(float(scaled.mean().compute()), 6), round(float(scaled.std()), 6))
    model = ParallelPostFit(LogisticRegression()).fit(x.compute(), y.compute())
    note("wrapped", bool((model.predict(x) == y).mean().compute() > 0.95))
    centers = KMeans(n_clusters=2, random_state=0, max_iter=5).fit(x).cluster_centers_
    note("clusters", centers.shape)
    grid = GridSearchCV(LogisticRegression(), {"C": [0.001, 1.0]}, cv=3)
    grid.fit(x.compute(), y.compute())
    note("grid", grid.best_params_, round(grid.best_score_, 3))
