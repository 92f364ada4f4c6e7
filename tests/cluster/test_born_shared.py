"""Arrays that tasks make are in shared memory from the start, and readers see no change."""

import gc
import os

import pytest

from tests.cluster.test_shared_memory import LENGTH, array, change, is_mapped, segments, total
from tests.support import wait_until

numpy = pytest.importorskip("numpy")

KEPT = []


def ready(client):
    """The workers, once their threads make arrays in shared memory."""
    workers = list(client.scheduler_info()["workers"])
    for worker in workers:
        wait_until(lambda at=worker: _makes_mapped(client, at), "NumPy is there")
    return workers


def _makes_mapped(client, worker):
    return client.submit(made_here_is_mapped, workers=[worker], pure=False).result()


def made_here_is_mapped():
    return is_mapped(array(1))


def identity(values):
    return values


def kept(fill):
    """An array that this process holds on to."""
    KEPT[:] = [array(fill)]
    return KEPT[-1]


def change_kept(fill):
    KEPT[-1][:] = fill
    return KEPT[-1].sum()


def test_a_result_is_made_in_the_memory_that_its_readers_map(client):
    source, target = ready(client)
    future = client.submit(array, 2, workers=[source])
    values = client.gather(future)
    assert is_mapped(values)
    assert values.flags.writeable
    assert values.flags.aligned
    assert (values == 2).all()
    assert client.submit(is_mapped, future, workers=[target]).result()
    assert client.submit(total, future, workers=[target]).result() == 2 * LENGTH


def test_a_later_task_that_changes_its_input_changes_nothing_for_readers(client):
    source, target = ready(client)
    future = client.submit(array, 3, workers=[source])
    before = client.gather(future)
    elsewhere = client.submit(identity, future, workers=[target])
    changed = client.submit(change, future, 5, workers=[source])
    assert changed.result() == 5 * LENGTH
    assert (before == 3).all()
    assert (client.gather(future) == 3).all()
    assert (client.gather(elsewhere) == 3).all()


def test_a_task_that_returns_its_changed_input_gives_the_changed_values(client):
    source, _ = ready(client)
    future = client.submit(array, 3, workers=[source])
    before = client.gather(future)
    result = client.submit(changed_itself, future, 8, workers=[source])
    assert (client.gather(result) == 8).all()
    assert (before == 3).all()


def changed_itself(values, fill):
    values[:] = fill
    return values


def test_an_array_that_user_code_keeps_and_changes_stays_as_it_was_for_readers(client):
    source, _ = ready(client)
    future = client.submit(kept, 4, workers=[source])
    before = client.gather(future)
    assert client.submit(change_kept, 6, workers=[source], pure=False).result() == 6 * LENGTH
    assert (before == 4).all()
    assert (client.gather(future) == 4).all()


def parts(values):
    return [values, values[: LENGTH // 2], values.reshape(1000, -1).T, values[::2], {"x": values}]


def test_views_and_containers_have_the_right_elements(client):
    def counted():
        return numpy.arange(LENGTH, dtype=float)

    source, target = ready(client)
    future = client.submit(counted, workers=[source])
    made = client.submit(parts, future, workers=[source])
    expected = parts(counted())
    for found in (client.gather(made), client.submit(identity, made, workers=[target]).result()):
        assert all((a == b).all() for a, b in zip(found[:4], expected[:4], strict=True))
        assert (found[4]["x"] == expected[4]["x"]).all()
    transposed = client.submit(lambda x: x.reshape(1000, -1).T, future, workers=[source])
    assert (client.gather(transposed) == expected[2]).all()


def test_frames_have_the_right_elements(client):
    pandas = pytest.importorskip("pandas")

    def frame():
        number = numpy.arange(200_000)
        return pandas.DataFrame({"a": number, "b": number / 2, "c": number % 7, "d": "text"})

    _, target = ready(client)
    future = client.submit(frame)
    assert client.gather(future).equals(frame())
    assert client.submit(identity, future, workers=[target]).result().equals(frame())


def frame_is_mapped():
    pandas = pytest.importorskip("pandas")
    columns = {"a": numpy.arange(200_000), "b": numpy.linspace(0, 1, 200_000)}
    frame = pandas.DataFrame(columns).assign(c=lambda frame: frame.a * 2)
    return [is_mapped(frame[name].to_numpy()) for name in frame.columns]


def test_the_columns_of_a_frame_are_made_in_shared_memory(client):
    pytest.importorskip("pandas")
    ready(client)
    assert client.submit(frame_is_mapped).result() == [True, True, True]


def fork_and_write(values):
    """Whether a child and its parent see only what they write themselves."""
    fresh = array(9)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        right = (fresh == 9).all() and values[0] == values[-1] == 1
        fresh[:], values[:] = 0, 0
        os.write(writing, b"y" if right and not fresh.any() else b"n")
        os._exit(0)
    answer = os.read(reading, 1)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    return answer == b"y" and (fresh == 9).all() and (values == 1).all()


def test_a_forked_child_writes_into_its_own_memory(client):
    source, _ = ready(client)
    future = client.submit(array, 1, workers=[source])
    before = client.gather(future)
    assert client.submit(fork_and_write, future, workers=[source]).result()
    assert (before == 1).all()
    assert (client.gather(client.submit(array, 2, workers=[source])) == 2).all()


def make_many(count):
    """Descriptors and segments that are left of many arrays."""
    for n in range(count):
        values = numpy.empty(50_000 + n % 1000)
        values[0] = n
    zeros = [numpy.zeros(60_000) for _ in range(20)]
    assert not any(values.any() for values in zeros)
    del values, zeros
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(segments())


def test_a_hundred_thousand_arrays_leave_nothing_behind(client):
    source, _ = ready(client)
    before = client.submit(make_many, 100, workers=[source], pure=False).result()
    after = client.submit(make_many, 100_000, workers=[source], pure=False).result()
    assert all(now <= then + 8 for now, then in zip(after, before, strict=True))


def grown():
    """Arrays whose memory is made longer and shorter."""
    values = numpy.arange(100_000)
    values.resize(300_000, refcheck=False)
    right = (values[:100_000] == numpy.arange(100_000)).all() and not values[100_000:].any()
    values.resize(1000, refcheck=False)
    right &= (values == numpy.arange(1000)).all()
    values.resize(90_000, refcheck=False)
    return bool(right and (values[:1000] == numpy.arange(1000)).all() and not values[1000:].any())


def test_arrays_may_change_their_size(client):
    source, _ = ready(client)
    assert client.submit(grown, workers=[source]).result()


def test_an_array_with_gaps_is_mapped_by_its_readers_and_what_it_is_a_part_of_stays(client):
    source, target = ready(client)
    whole = client.submit(lambda: numpy.arange(LENGTH).reshape(1000, -1), workers=[source])
    part = client.submit(lambda x: x[:, :500], whole, workers=[source])
    expected = numpy.arange(LENGTH).reshape(1000, -1)
    for _ in range(2):
        found = client.gather(part)
        assert (found == expected[:, :500]).all()
        assert is_mapped(found)
        assert found.flags.c_contiguous
        assert found.flags.writeable
    assert client.submit(is_mapped, part, workers=[target]).result()
    assert (client.gather(whole) == expected).all()
    # Records, objects and subclasses are NumPy's own matter.
    odd = client.submit(odd_parts, workers=[source])
    assert repr(client.gather(odd)) == repr(odd_parts())


def odd_parts():
    """Results with gaps that are no plain numbers."""
    objects = numpy.arange(40_000).astype(object)[::2]
    masked = numpy.ma.masked_greater(numpy.arange(200_000), 100_000)[::3]
    records = numpy.zeros(50_000, dtype=[("a", "i8"), ("b", "f4")])["a"]
    return [objects, masked, records]
