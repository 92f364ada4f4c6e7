"""joblib's own backend `dask`, also nested, and scikit-learn under it."""

import os
import time

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV


def nested(n):
    return sum(Parallel()(delayed(pow)(i, 2) for i in range(n)))


def pid_beside_another(directory):
    """Goes on once two processes have run this."""
    open(os.path.join(directory, f"pid-{os.getpid()}"), "w").close()
    while sum(name.startswith("pid-") for name in os.listdir(directory)) < 2:
        time.sleep(0.01)
    return os.getpid()


def fail(i):
    if i == 3:
        raise ZeroDivisionError(f"item {i}")


def total(data, i):
    return float(data.sum()) + i


def main(client, directory, note):
    with joblib.parallel_config(backend="dask"):
        note(Parallel()(delayed(abs)(-i) for i in range(10)))
        note(Parallel()(delayed(nested)(i) for i in range(5)))
        note(sorted(Parallel(return_as="generator_unordered")(delayed(abs)(i) for i in range(9))))
        pids = set(Parallel()(delayed(pid_beside_another)(directory) for _ in range(9)))
        note(os.getpid() in pids, len(pids))
        try:
            Parallel()(delayed(fail)(i) for i in range(20))
        except ZeroDivisionError as error:
            note("raised", error)
        data = np.ones(100_000)
        note(Parallel()(delayed(total)(data, i) for i in range(5)))
    with joblib.parallel_config(backend="dask", scatter=[data]):
        note(Parallel()(delayed(total)(data, i) for i in range(5)))
        x, y = make_classification(n_samples=200, n_features=8, random_state=0)
        model = RandomForestClassifier(n_estimators=5, random_state=0)
        search = GridSearchCV(model, {"max_depth": [2, 4]}, cv=3).fit(x, y)
        note(search.best_params_, round(search.best_score_, 4))
