"""Durations, sizes, layouts, containers: the small rules of the public layer."""

import collections
import datetime
import threading

import pytest

from taskloom import cluster
from taskloom._default import _stack
from taskloom._nesting import replace_futures
from taskloom._options import make_options, worker_names
from taskloom._remote_errors import cut, dump_error, frames_of, load_error
from taskloom.errors import RemoteError
from taskloom.utils import parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100 ms", 0.1),
        ("60s", 60),
        ("1.5 hours", 5400),
        ("2", 2),
        (3, 3),
        (None, None),
        ("us", 1e-6),
    ],
)
def test_durations_are_read_as_dask_writes_them(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


def test_a_timedelta_is_a_duration():
    assert parse_seconds(datetime.timedelta(minutes=1)) == 60


@pytest.mark.parametrize("text", ["soon", "1 parsec", "1 2 s", "--3"])
def test_what_is_no_duration_is_refused_with_the_text(text):
    with pytest.raises(ValueError, match=text):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("4 GB", 4 * 10**9), ("1MiB", 2**20), ("10", 10), (7, 7), ("1e3 kB", 10**6)]
)
def test_sizes_are_read_as_dask_writes_them(text, size):
    assert parse_bytes(text) == size


def test_what_is_no_size_is_refused():
    with pytest.raises(ValueError, match="heap"):
        parse_bytes("a heap")


@pytest.mark.parametrize(
    ("cores", "given", "expected"),
    [
        (2, (None, None, True), (2, 1)),
        (4, (None, None, True), (4, 1)),
        (32, (None, None, True), (8, 4)),
        (8, (None, None, False), (1, 8)),
        (8, (2, None, True), (2, 4)),
        (8, (None, 2, True), (4, 2)),
        (2, (3, None, True), (3, 1)),
        (8, (0, None, True), (0, 1)),
    ],
)
def test_workers_and_threads_are_laid_out_as_in_dask(monkeypatch, cores, given, expected):
    monkeypatch.setattr(cluster, "cpu_count", lambda: cores)
    assert cluster.default_layout(*given) == expected


def test_the_memory_limit_is_a_share_unless_it_is_given(monkeypatch):
    monkeypatch.setattr(cluster, "cpu_count", lambda: 4)
    monkeypatch.setattr(cluster, "total_memory", lambda: 4000)
    assert cluster.worker_memory("auto", 1) == 1000
    assert cluster.worker_memory("auto", 8) == 4000
    assert cluster.worker_memory(None, 1) == cluster.worker_memory(0, 1) == 0
    assert cluster.worker_memory(0.5, 1) == 2000
    assert cluster.worker_memory("1 kB", 1) == 1000


def test_workers_find_the_modules_that_the_program_finds(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/given/by/the/user")
    parts = cluster.python_path().split(":")
    assert str(tmp_path) in parts
    assert parts[-1] == "/given/by/the/user"
    assert not any("site-packages" in part for part in parts)


def test_containers_without_futures_stay_themselves():
    point = collections.namedtuple("point", "x y")
    value = {"a": [1, (2, {3})], "b": point(1, 2)}
    assert replace_futures(value, lambda future: None) is value


def test_options_that_are_all_default_are_none():
    assert make_options(None, False, None, None, 0) is None
    assert make_options(["a"], False, {"GPU": 1}, 2, -3) is not None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ((None, True, None, None, 0), ValueError),
        ((["a"], "yes", None, None, 0), TypeError),
        ((None, False, "GPU", None, 0), TypeError),
        ((None, False, {"GPU": -1}, None, 0), ValueError),
        ((None, False, None, -1, 0), ValueError),
        (([], False, None, None, 0), None),
        (((), False, None, None, 0), ValueError),
        (([object()], False, None, None, 0), TypeError),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, error):
    if error is None:
        assert make_options(*options) is None
        return
    with pytest.raises(error):
        make_options(*options)


def test_workers_are_named_by_address_number_or_object():
    class Worker:
        worker_address = "tcp://127.0.0.1:1"

    assert worker_names("a") == ["a"]
    assert worker_names([0, "b", Worker()]) == ["0", "b", "tcp://127.0.0.1:1"]
    assert worker_names(None) == []


def test_there_is_no_default_client_before_the_first():
    assert _stack == [] or all(client.status == "running" for client in _stack)


# Exceptions ----------------------------------------------------------------------------------


def raised(error):
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any kind
        return caught


def there_and_back(error):
    return load_error(*dump_error(raised(error)))


def test_an_exception_keeps_type_text_and_frames():
    error = there_and_back(KeyError("x"))
    assert type(error) is KeyError
    assert error.args == ("x",)
    assert [name for _, _, name in frames_of(error.__traceback__)] == ["raised"]


def test_an_exception_that_cannot_be_pickled_becomes_text():
    class Local(Exception):
        def __init__(self, text):
            super().__init__(text)
            self.lock = threading.Lock()

    error = there_and_back(Local("words"))
    assert type(error) is RemoteError
    assert (error.type_name, error.message) == ("Local", "words")
    assert "raised" in error.traceback_text


def test_an_exception_whose_text_raises_is_described():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError("no")

    text = dump_error(raised(Silent()))[3]
    assert "Silent" in text
    assert "RuntimeError" in text


def test_of_a_deep_recursion_both_ends_are_kept():
    def dive(depth):
        return dive(depth - 1) if depth else 1 / 0

    try:
        dive(500)
    except ZeroDivisionError as error:
        frames = frames_of(error.__traceback__)
    assert len(frames) == 101
    assert "left out" in frames[50][0]


def test_damaged_bytes_are_no_reason_to_fail():
    error = load_error(b"garbage", b"garbage", "ValueError", "words", "text")
    assert isinstance(error, RemoteError)


def test_a_rebuilt_error_keeps_no_frame_of_the_program_that_asks_for_it():
    traceback = there_and_back(ValueError("x")).__traceback__
    while traceback is not None:
        assert traceback.tb_frame.f_back is None
        assert not traceback.tb_frame.f_locals
        traceback = traceback.tb_next


def test_long_texts_are_cut_in_the_middle():
    text = cut("a" * 100 + "b" * 100, 20)
    assert text.startswith("a" * 10)
    assert text.endswith("b" * 10)
    assert "180 characters" in text
