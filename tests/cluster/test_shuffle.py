"""The native shuffle of dask.dataframe: every row arrives, as it was, whatever happens."""

import glob
import os
import threading

import pytest

from taskloom.errors import ShuffleError
from tests import frames
from tests.support import kill_worker, wait_until, worker_pids

dask = pytest.importorskip("dask")
pytest.importorskip("pyarrow")
dd = pytest.importorskip("dask.dataframe")
np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def _p2p():
    # Texts stay as pandas has them.
    with dask.config.set({"dataframe.shuffle.method": "p2p", "dataframe.convert-string": False}):
        yield


def by_rows(frame):
    """The rows in an order that does not depend on partitions."""
    return frame.sort_values(["n"]).reset_index(drop=True)


def written(local_directory):
    """How many files of shuffles there are."""
    return len(glob.glob(f"{local_directory}/taskloom-scratch-*/worker-shards-*/*"))


def test_every_row_arrives_once_with_its_index_and_types(client):
    plain = frames.awkward(400)
    parts = dd.from_pandas(plain, npartitions=7)
    shuffled = parts.shuffle("key", npartitions=5)
    found = shuffled.compute()
    pd.testing.assert_frame_equal(found.sort_values("n"), plain, check_freq=False)
    assert found.index.name == plain.index.name


def test_rows_of_one_key_are_in_one_partition_in_the_order_of_the_inputs(client):
    parts = dd.from_pandas(frames.awkward(300), npartitions=6).shuffle("key", npartitions=4)
    partitions = [parts.partitions[number].compute() for number in range(4)]
    homes = {}
    for number, partition in enumerate(partitions):
        for key, rows in partition.groupby("key"):
            assert homes.setdefault(key, number) == number
            assert rows["n"].is_monotonic_increasing
    assert sum(map(len, partitions)) == 300


def test_the_result_is_the_same_as_by_tasks(client):
    parts = dd.from_pandas(frames.awkward(200), npartitions=5)
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        by_tasks = parts.shuffle("key", npartitions=5).compute()
    pd.testing.assert_frame_equal(parts.shuffle("key", npartitions=5).compute(), by_tasks)


def test_partitions_without_rows_are_no_trouble(client):
    plain = frames.awkward(50)
    empty = plain.iloc[:0]
    parts = dd.from_map(frames.pick, [empty, plain, empty], meta=empty)
    found = parts.shuffle("key", npartitions=40).compute()
    pd.testing.assert_frame_equal(found.sort_values("n"), plain, check_freq=False)
    nothing = dd.from_map(frames.pick, [empty, empty], meta=empty).shuffle("key").compute()
    pd.testing.assert_frame_equal(nothing, empty, check_freq=False)


def test_partitions_with_other_types_than_announced_are_mixed_as_pandas_does(client):
    whole = pd.DataFrame({"key": [1, 2, 3], "n": [0, 1, 2]})
    broken = pd.DataFrame({"key": [1.0, np.nan, 3.0], "n": [3, 4, 5]})
    parts = dd.from_map(frames.pick, [whole, broken], meta=whole.iloc[:0])
    found = parts.shuffle("key", npartitions=2).compute()
    expected = pd.concat([whole, broken], ignore_index=True)
    pd.testing.assert_frame_equal(by_rows(found), expected, check_dtype=False)


def test_categories_that_differ_by_partition_are_united(client):
    def part(letters, start):
        letters = pd.Categorical(letters)
        return pd.DataFrame({"letter": letters, "n": range(start, start + len(letters))})

    pieces = [part(list("abca"), 0), part(list("xbx"), 4), part(list("abca"), 7)]
    parts = dd.from_map(frames.pick, pieces, meta=pieces[0].iloc[:0])
    found = by_rows(parts.shuffle("n", npartitions=3).compute())
    assert list(found["letter"]) == list("abcaxbxabca")
    assert isinstance(found["letter"].dtype, pd.CategoricalDtype)


def test_objects_of_any_kind_come_back_as_they_were():
    from taskloom._shuffle import tasks as steps

    objects = [{"a": 1}, None, (1, 2), np.nan, "text", b"bytes", {1, 2}, 10**30]
    plain = pd.DataFrame({"n": range(8), "thing": pd.Series(objects, dtype=object)})
    plain["complex"] = np.arange(8) * 1j
    plain["period"] = pd.period_range("2020", periods=8, freq="M")
    numbered = plain.assign(p=plain["n"] % 2)
    files = [steps.transfer(part, "p", 2, None) for part in (numbered[:3], numbered[3:])]
    manifest = steps.barrier(*files)
    found = by_rows(pd.concat([steps.unpack(manifest, 0), steps.unpack(manifest, 1)]))
    for name in plain:
        assert found[name].dtype == plain[name].dtype
    assert found["thing"].drop(index=3).tolist() == plain["thing"].drop(index=3).tolist()
    assert np.isnan(found["thing"][3])
    assert (found["complex"] == plain["complex"]).all()


def test_frames_may_have_several_levels_and_labels_of_any_kind():
    from taskloom._shuffle import tasks as steps

    index = pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]], names=["letter", None])
    plain = pd.DataFrame({("x", 1): range(6), ("y", 2): list("uvwxyz")}, index=index)
    plain.columns = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["one", "two"])
    numbered = plain.copy()
    numbered[("p", 0)] = [0, 1, 0, 1, 0, 1]
    file = steps.transfer(numbered, ("p", 0), 2, None)
    manifest = steps.barrier(file)
    pd.testing.assert_frame_equal(steps.unpack(manifest, 1), plain.iloc[[1, 3, 5]])
    file = steps.transfer(numbered[:0], ("p", 0), 2, None)
    pd.testing.assert_frame_equal(steps.unpack(steps.barrier(file), 0), plain[:0])


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer"])
def test_merges_are_those_of_pandas(client, how):
    left, right = frames.awkward(200), frames.awkward(150, seed=1)[["key", "x"]]
    merged = dd.from_pandas(left, npartitions=6).merge(
        dd.from_pandas(right, npartitions=5), on="key", how=how, indicator=how == "outer"
    )
    expected = left.merge(right, on="key", how=how, indicator=how == "outer")
    names = ["n", "key", "x_x", "x_y"]
    found = merged.compute().sort_values(names).reset_index(drop=True)
    expected = expected.sort_values(names).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_categorical=False)


def test_merges_on_an_index_and_a_column(client):
    left = frames.awkward(120)
    right = pd.DataFrame({"z": range(20)}, index=pd.Index(range(20), name="k"))
    parts = dd.from_pandas(right, npartitions=3).clear_divisions()
    merged = dd.from_pandas(left, npartitions=4).merge(parts, left_on="key", right_index=True)
    expected = left.merge(right, left_on="key", right_index=True)
    pd.testing.assert_frame_equal(by_rows(merged.compute()), by_rows(expected))


def test_set_index_sorts(client):
    plain = frames.awkward(300).assign(x=lambda frame: frame["x"].fillna(2))
    found = dd.from_pandas(plain, npartitions=5).set_index("x").compute()
    expected = plain.set_index("x").sort_index()
    assert found.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(
        found.sort_values("n"), expected.sort_values("n"), check_freq=False
    )


def test_groupby_apply_sees_whole_groups(client):
    plain = frames.awkward(300)
    parts = dd.from_pandas(plain, npartitions=5)
    found = parts.groupby("key").apply(frames.span, meta=("n", "int64")).compute()
    expected = plain.groupby("key").apply(frames.span)
    assert found.sort_index().to_dict() == expected.sort_index().to_dict()


def test_single_partitions_of_a_shuffle_can_be_asked_for(client):
    parts = dd.from_pandas(frames.awkward(200), npartitions=5).shuffle("key", npartitions=6)
    whole = [parts.partitions[n].compute() for n in range(6)]
    pd.testing.assert_frame_equal(parts.partitions[[4]].compute(), whole[4])
    pd.testing.assert_frame_equal(parts.compute(), pd.concat(whole))


def test_two_shuffles_at_once_do_not_meet(client):
    plain = frames.awkward(200)
    results = {}

    def run(name, column):
        parts = dd.from_pandas(plain, npartitions=6)
        results[name] = parts.shuffle(column, npartitions=6).compute()

    threads = [
        threading.Thread(target=run, args=(number, column))
        for number, column in enumerate(["key", "x", "key", "n"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        pd.testing.assert_frame_equal(by_rows(results[number]), by_rows(plain))


def test_nothing_is_left_of_a_shuffle_once_its_result_is_there(client):
    parts = dd.from_pandas(frames.awkward(200), npartitions=6)
    assert len(parts.shuffle("key").compute()) == 200
    wait_until(lambda: not any(client.run(frames.shard_files).values()), "all files are gone")


def test_a_worker_killed_in_the_middle_changes_no_result(start, tmp_path):
    client = start(local_directory=str(tmp_path))
    plain = frames.awkward(400)
    parts = dd.from_pandas(plain, npartitions=16).map_partitions(frames.slowly)
    future = client.compute(parts.shuffle("key", npartitions=16).map_partitions(frames.slowly))
    wait_until(
        lambda: written(tmp_path) >= 6,
        "some shards are written",
    )
    kill_worker(client, min(worker_pids(client)))
    pd.testing.assert_frame_equal(by_rows(future.result(timeout=90)), by_rows(plain))


def test_only_what_a_lost_worker_had_is_written_again(start, tmp_path):
    client = start(local_directory=str(tmp_path))
    log = tmp_path / "log"
    log.mkdir()
    plain = frames.awkward(400)
    parts = dd.from_pandas(plain, npartitions=12).map_partitions(
        frames.noted, str(log), meta=plain[:0]
    )
    gate = tmp_path / "gate"
    shuffled = parts.shuffle("key", npartitions=12).map_partitions(
        frames.behind, str(gate), meta=plain[:0]
    )
    future = client.compute(shuffled)
    # given: all inputs are written, and nothing is read to the end
    wait_until(lambda: len(os.listdir(log)) == 12, "all inputs were made")
    wait_until(
        lambda: written(tmp_path) >= 12,
        "all are written",
    )
    victim = min(worker_pids(client))
    kill_worker(client, victim)
    gate.touch()
    pd.testing.assert_frame_equal(by_rows(future.result(timeout=90)), by_rows(plain))
    # then: what the other worker had was not made again
    assert 12 < len(os.listdir(log)) < 24


def test_a_full_disk_is_an_error_that_says_so(monkeypatch):
    from taskloom._shuffle import tasks as steps

    real = os.open

    def full(path, *rest):
        descriptor = real(path, *rest)
        if len(os.path.basename(path)) == 32:
            os.dup2(real("/dev/full", os.O_WRONLY), descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(ShuffleError, match=r"no room .* local_directory") as caught:
        steps.transfer(frames.awkward(20).assign(p=0), "p", 1, None)
    assert caught.value.kind == "disk-full"
    assert frames.shard_files() == []


def test_an_input_that_cannot_be_written_fails_the_shuffle_and_later_ones_go_on(client):
    parts = dd.from_pandas(frames.awkward(200), npartitions=4)
    client.run(frames.limit_files, 10_000)
    try:
        with pytest.raises(ShuffleError, match="no room"):
            parts.map_partitions(frames.larger).shuffle("key").compute()
    finally:
        client.run(frames.limit_files, None)
    assert len(parts.shuffle("key").compute()) == 200


def test_persisted_results_are_made_again_after_their_worker_was_lost(start):
    client = start()
    plain = frames.awkward(200)
    parts = client.persist(dd.from_pandas(plain, npartitions=6).shuffle("key", npartitions=6))
    assert len(parts.compute()) == 200
    kill_worker(client, min(worker_pids(client)))
    pd.testing.assert_frame_equal(by_rows(parts.compute()), by_rows(plain))


def test_workers_on_different_hosts_read_over_the_data_plane(start):
    client = start(n_workers=3)
    client.run(frames.pretend_to_be_far, True)
    plain = frames.awkward(300)
    reader, *writers = sorted(worker_pids(client))
    from taskloom._shuffle import tasks as steps

    files = [
        client.submit(steps.transfer, part.assign(p=part["n"] % 3), "p", 3, None, workers=[home])
        for part, home in zip((plain[:100], plain[100:200], plain[200:]), writers * 2, strict=False)
    ]
    manifest = client.submit(steps.barrier, *files, workers=[reader])
    found = [client.submit(steps.unpack, manifest, n, workers=[reader]) for n in range(3)]
    pd.testing.assert_frame_equal(by_rows(pd.concat(client.gather(found))), by_rows(plain))


def test_shards_that_somebody_removed_are_an_error_that_says_so(client):
    from taskloom._shuffle import tasks as steps

    reader, writer = sorted(worker_pids(client))
    file = client.submit(
        steps.transfer, frames.awkward(20).assign(p=0), "p", 1, None, workers=[writer]
    )
    manifest = client.submit(steps.barrier, file, workers=[reader])
    manifest.result()
    client.run(frames.remove_shards)
    with pytest.raises(ShuffleError, match="has it no more") as caught:
        client.submit(steps.unpack, manifest, 0, workers=[reader]).result()
    assert caught.value.kind == "lost"


def test_files_of_killed_processes_are_removed_by_the_next_worker(start, tmp_path):
    client = start(local_directory=str(tmp_path))
    plain = frames.awkward(100)
    parts = dd.from_pandas(plain, npartitions=6).shuffle("key")
    gate = tmp_path / "gate"
    future = client.compute(parts.map_partitions(frames.behind, str(gate), meta=plain[:0]))
    wait_until(
        lambda: written(tmp_path) >= 6,
        "all are written",
    )
    victim = min(worker_pids(client))
    own = client.run(frames.shard_directory, workers=[victim])[victim]
    kill_worker(client, victim)
    wait_until(lambda: not os.path.exists(own), "the next worker has swept")
    gate.touch()
    assert len(future.result(timeout=60)) == 100


@pytest.mark.parametrize("chunks", [(7, 100), (-1, 10), (40, 40), (13, 1)])
def test_arrays_are_rechunked(client, chunks):
    pytest.importorskip("distributed")
    da = pytest.importorskip("dask.array")
    plain = np.arange(10_000).reshape(100, 100)
    array = da.from_array(plain, chunks=(30, 30)) + 1
    found = array.rechunk(chunks, method="p2p")
    assert found.chunks == da.core.normalize_chunks(chunks, plain.shape)
    np.testing.assert_array_equal(found.compute(), plain + 1)
    np.testing.assert_array_equal(
        (found[:3] * 2).sum(axis=1).compute(), ((plain + 1)[:3] * 2).sum(axis=1)
    )


@pytest.mark.parametrize("dtype", ["M8[ms]", "S3", "f4,i8", "O", "?"])
def test_arrays_of_all_types_are_rechunked(client, dtype):
    pytest.importorskip("distributed")
    da = pytest.importorskip("dask.array")
    plain = np.zeros((12, 9), "i8" if dtype == "M8[ms]" else dtype).astype(dtype)
    if dtype == "O":
        plain[:] = [[str(n)] * 9 for n in range(12)]
    found = da.from_array(plain, chunks=(5, 5)).rechunk((12, 2), method="p2p").compute()
    assert found.dtype == plain.dtype
    np.testing.assert_array_equal(found, plain)


def test_what_dask_lowers_itself_is_translated(client):
    pytest.importorskip("distributed")
    from dask import delayed

    plain = frames.awkward(100)
    shuffled = dd.from_pandas(plain, npartitions=4).shuffle("key", npartitions=3)
    other = dd.from_pandas(plain[["key", "x"]], npartitions=3)
    merged = dd.from_pandas(plain[["n", "key"]], npartitions=4).merge(other, on="key")
    with pytest.warns(UserWarning, match="mixed collections"):
        found, both, one = dask.compute(shuffled, merged, delayed(abs)(-1))
    pd.testing.assert_frame_equal(by_rows(found), by_rows(plain))
    assert len(both) == len(plain[["n", "key"]].merge(plain[["key", "x"]], on="key"))
    assert one == 1
