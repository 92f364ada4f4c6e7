"""Dask graphs in all forms that dask hands over."""

import gc

import pytest

from tests import tasks
from tests.support import wait_until

dask = pytest.importorskip("dask")


def test_legacy_dict_graphs(client):
    graph = {"a": 1, "b": (tasks.inc, "a"), ("c", 0): (tasks.total, ["a", "b"]), "d": "b"}
    assert client.get(graph, ["a", "b", ("c", 0), "d"]) == [1, 2, 3, 2]
    assert client.get(graph, [["a"], ["b", [("c", 0)]]]) == [[1], [2, [3]]]
    assert client.get(graph, "a") == 1
    assert client.get({}, []) == []


def test_task_spec_graphs(client):
    from dask._task_spec import Alias, DataNode, List, Task, TaskRef

    graph = {
        "x": DataNode("x", 5),
        "y": Task("y", tasks.inc, TaskRef("x")),
        "z": Task("z", tasks.total, List(TaskRef("x"), TaskRef("y"))),
        "w": Alias("w", "z"),
        "k": Task("k", tasks.keywords, TaskRef("x"), named={"deep": [TaskRef("y")]}),
    }
    assert client.get(graph, ["z", "w"]) == [11, 11]
    assert client.get(graph, "y") == 6


def test_futures_inside_graphs_are_inputs(client):
    future = client.submit(tasks.inc, 1)
    assert client.get({"a": (tasks.add, future, 10)}, "a") == 12
    assert dask.delayed(tasks.add)(future, [future][0]).compute() == 4
    nested = dask.delayed(tasks.total)([future, {"x": 1}["x"], 3])
    assert nested.compute() == 6


def test_get_without_sync_gives_futures(client):
    future = client.get({"a": (tasks.inc, 1)}, "a", sync=False)
    assert future.result() == 2


def test_dask_compute_uses_the_client(client):
    where = dask.delayed(tasks.pid)(1).compute()
    assert where in client.run(tasks.pid).values()


def test_delayed_calls_of_all_shapes(client):
    inc, add = dask.delayed(tasks.inc), dask.delayed(tasks.add)
    x = inc(1)
    total = add(x, inc(x))
    assert dask.compute(x, total, 5, {"k": [x]}) == (2, 5, 5, {"k": [2]})
    pair = dask.delayed(divmod, nout=2)(7, 2)
    a, b = pair
    assert dask.compute(a, b) == (3, 1)
    assert inc(1).real.compute() == 2
    assert (inc(1) + inc(2)).compute() == 5


def test_compute_gives_one_future_for_a_collection(client):
    import dask.array as da

    x = da.ones((100, 100), chunks=(30, 30))
    future = client.compute(x.sum())
    assert future.result() == 10_000
    futures = client.compute([x.sum(), x.mean(), 7])
    assert client.gather(futures[:2]) == [10_000, 1]
    assert futures[2] == 7
    assert client.compute(x.sum(), sync=True) == 10_000


def test_persist_keeps_the_kind_and_holds_the_parts(client):
    import dask.array as da

    x = da.arange(1000, chunks=100)
    y = client.persist(x + 1)
    assert type(y) is type(x)
    assert y.npartitions == 10
    wait_until(lambda: sum(bool(v) for v in client.who_has().values()) >= 10, "parts are held")
    assert (y.compute() == range(1, 1001)).all()
    (z,) = dask.persist(y.sum())
    assert z.compute() == sum(range(1, 1001))
    assert y.persist().sum().compute() == z.compute()


def test_persisted_parts_go_with_the_collection(client):
    import dask.array as da

    x = da.ones(1000, chunks=100).persist()
    x.sum().compute()
    del x
    gc.collect()
    wait_until(lambda: not client.who_has(), "no part is left")


def test_frames_and_bags_compute(client):
    import dask.bag as db
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame({"key": list("abcab") * 20, "value": range(100)})
    ddf = dd.from_pandas(frame, npartitions=5)
    found = ddf.groupby("key").value.sum().compute().sort_index()
    pd.testing.assert_series_equal(found, frame.groupby("key").value.sum(), check_index_type=False)
    merged = ddf.merge(ddf, on="key").shape[0].compute()
    assert merged == len(frame.merge(frame, on="key"))
    shuffled = ddf.set_index("value").index.compute()
    assert list(shuffled) == list(range(100))
    counts = dict(db.from_sequence("abracadabra", npartitions=3).frequencies().compute())
    assert counts == {"a": 5, "b": 2, "r": 2, "c": 1, "d": 1}


def test_array_algebra_equals_numpy(client):
    import dask.array as da
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.random((300, 40)), rng.random((40, 300))
    x, y = da.from_array(a, chunks=(100, 20)), da.from_array(b, chunks=(20, 100))
    np.testing.assert_allclose(x.dot(y).compute(), a @ b)
    np.testing.assert_allclose(x.std(axis=0).compute(), a.std(axis=0))
    np.testing.assert_allclose(x.T[5:, ::2].compute(), a.T[5:, ::2])
    q, r = da.linalg.qr(x.rechunk((100, 40)))
    np.testing.assert_allclose((q @ r).compute(), a)


def test_an_error_in_a_graph_is_the_callers(client):
    with pytest.raises(ValueError, match="boom"):
        dask.delayed(tasks.inc)(dask.delayed(tasks.fail)("boom")).compute()


def test_a_failed_graph_leaves_nothing_behind(client):
    graph = {"bad": (tasks.fail,), "good": (tasks.inc, 1), "both": (tasks.add, "bad", "good")}
    with pytest.raises(ValueError):
        client.get(graph, "both")
    gc.collect()
    wait_until(lambda: not client.who_has(), "the scheduler has forgotten the graph")


def test_several_graphs_run_at_once(client):
    import concurrent.futures

    def work(start):
        graph = {f"{start}-{i}": (tasks.slow_inc, start + i, 0.001) for i in range(50)}
        graph[f"{start}-sum"] = (tasks.total, list(graph))
        return client.get(graph, f"{start}-sum")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(0, 400, 100)))
    assert found == [sum(range(s + 1, s + 51)) for s in range(0, 400, 100)]


def test_graphs_of_wide_shuffles_are_right(client):
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"k": rng.integers(0, 50, 2000), "v": rng.random(2000)})
    ddf = dd.from_pandas(frame, npartitions=12)
    shuffled = ddf.shuffle("k", npartitions=12).compute()
    assert shuffled.v.sum() == pytest.approx(frame.v.sum())
    found = ddf.groupby("k").v.agg(["mean", "std"]).compute().sort_index()
    pd.testing.assert_frame_equal(
        found, frame.groupby("k").v.agg(["mean", "std"]), check_index_type=False
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda future: dask.delayed(future), 2),
        (lambda future: dask.delayed([future, 3]), [2, 3]),
        (lambda future: dask.delayed({"a": [future]}), {"a": [2]}),
        (lambda future: dask.delayed(future).real, 2),
        (lambda future: dask.delayed(sum)([future, future]), 4),
    ],
)
def test_a_future_in_delayed_data_stands_for_its_result(client, make, expected):
    assert make(client.submit(tasks.inc, 1)).compute() == expected


def test_a_bag_is_made_of_futures(client):
    bag = pytest.importorskip("dask.bag")
    future = client.submit(list, (5,))
    assert bag.from_delayed([future, dask.delayed(list)((3,))]).compute() == [5, 3]
