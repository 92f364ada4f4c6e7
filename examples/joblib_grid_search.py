"""scikit-learn on a cluster: a grid search whose fits are tasks, by joblib's configuration."""

import joblib
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

import taskloom.joblib  # noqa: F401 - registers the backend "taskloom"
from taskloom import Client

if __name__ == "__main__":
    x, y = make_classification(n_samples=500, n_features=10, random_state=0)
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0, 10.0]}, cv=5)
    with Client(n_workers=2, threads_per_worker=1):
        with joblib.parallel_config(backend="taskloom"):
            search.fit(x, y)
    print("best parameters:", search.best_params_, "score:", round(search.best_score_, 3))
