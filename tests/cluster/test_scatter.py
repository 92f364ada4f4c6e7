"""Data of the client, placed on workers."""

import pytest

from taskloom import Future
from tests import tasks
from tests.support import wait_until


def test_the_shape_of_the_futures_follows_the_data(client):
    assert isinstance(client.scatter(5), Future)
    as_list = client.scatter([1, 2, 3])
    assert isinstance(as_list, list)
    assert client.gather(as_list) == [1, 2, 3]
    as_tuple = client.scatter((1, 2))
    assert isinstance(as_tuple, tuple)
    as_dict = client.scatter({"x": 1, "y": [2]})
    assert set(as_dict) == {"x", "y"}
    assert as_dict["x"].key == "x"
    assert client.gather(as_dict) == {"x": 1, "y": [2]}
    as_set = client.scatter({1, 2})
    assert isinstance(as_set, set)
    assert client.gather(client.scatter(range(3))) == [0, 1, 2]


def test_scattered_data_is_an_input_like_any_other(client):
    (future,) = client.scatter([{"rows": list(range(1000))}])
    assert client.submit(lambda d: len(d["rows"]), future).result() == 1000
    assert client.submit(tasks.keywords, deep=[future]).result()[1]["deep"][0]["rows"][:2] == [0, 1]


def test_equal_data_has_equal_keys_unless_hash_is_off(client):
    a, b = client.scatter([[1, 2], [1, 2]])
    assert a.key == b.key
    c = client.scatter("text", hash=False)
    d = client.scatter("text", hash=False)
    assert c.key != d.key


def test_broadcast_puts_a_copy_on_every_worker(client):
    (future,) = client.scatter([b"x" * 100_000], broadcast=True)
    wait_until(lambda: len(client.who_has([future])[future.key]) == 2, "two copies")


def test_scatter_goes_to_the_named_workers(client):
    first, second = client.scheduler_info()["workers"]
    for address in (first, second):
        (future,) = client.scatter([f"for {address}"], workers=[address])
        assert list(client.who_has([future])[future.key]) == [address]


def test_large_arrays_come_back_equal(client):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(3_000_000, dtype="f8").reshape(1000, 3000)
    (future,) = client.scatter([array])
    assert (client.gather(future) == array).all()
    assert client.submit(numpy.sum, future).result() == array.sum()


def test_numpy_results_of_all_layouts_come_back_equal(client):
    numpy = pytest.importorskip("numpy")
    arrays = [
        numpy.arange(10)[::2],
        numpy.asfortranarray(numpy.ones((300, 40))),
        numpy.zeros((0, 3)),
        numpy.array("scalar"),
        numpy.array([{"a": 1}, None], dtype=object),
        numpy.array([b"x", b"yy"]),
        numpy.float32(1.5),
        numpy.ma.masked_array([1, 2], mask=[0, 1]),
    ]
    for array in arrays:
        found = client.submit(tasks.identity, array, pure=False).result()
        assert type(found) is type(array)
        assert numpy.array_equal(found, array)


def test_frames_come_back_equal(client):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(1000), "b": ["x", None] * 500})
    (future,) = client.scatter([frame])
    found = client.submit(tasks.identity, future).result()
    pandas.testing.assert_frame_equal(found, frame)


def test_scattering_many_values_at_once_works(client):
    futures = client.scatter(list(range(5000)), hash=False)
    assert client.submit(tasks.total, futures).result() == sum(range(5000))
