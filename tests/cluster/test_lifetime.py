"""Keys: when two calls are one task, and when a result goes away."""

import gc
import warnings

import pytest

import taskloom
from taskloom import Client, fire_and_forget
from tests import tasks
from tests.support import wait_until


def held_keys(client):
    return [key for keys in client.has_what().values() for key in keys]


def test_equal_pure_calls_share_one_key_and_run_once(client, tmp_path):
    log = str(tmp_path / "log")
    futures = [client.submit(tasks.append_line, log, "ran") for _ in range(20)]
    client.gather(futures)
    assert len({future.key for future in futures}) == 1
    assert (tmp_path / "log").read_text() == "ran\n"


def test_impure_calls_run_every_time(client, tmp_path):
    log = str(tmp_path / "log")
    futures = [client.submit(tasks.append_line, log, "ran", pure=False) for _ in range(5)]
    futures += client.map(tasks.append_line, [log] * 3, ["ran"] * 3, pure=False)
    client.gather(futures)
    assert len({future.key for future in futures}) == 8
    assert (tmp_path / "log").read_text() == "ran\n" * 8


def test_different_calls_have_different_keys(client):
    calls = [(tasks.inc, 1), (tasks.inc, 2), (tasks.dec, 1), (tasks.inc, 1.0), (tasks.inc, True)]
    keys = {client.submit(function, argument).key for function, argument in calls}
    assert len(keys) == len(calls)
    assert client.submit(lambda x: x + 1, 1).key != client.submit(lambda x: x + 2, 1).key


def test_map_and_submit_of_equal_calls_run_once_each(client, tmp_path):
    log = str(tmp_path / "log")
    client.gather(client.map(tasks.append_line, [log] * 4, ["a", "b", "a", "b"]))
    assert sorted((tmp_path / "log").read_text().split()) == ["a", "b"]


def test_two_clients_share_a_key_and_its_result(client, cluster, tmp_path):
    log = str(tmp_path / "log")
    with Client(cluster, set_as_default=False) as other:
        mine = client.submit(tasks.append_line, log, "ran", key="shared-key")
        theirs = other.submit(tasks.append_line, log, "ran", key="shared-key")
        assert (mine.result(), theirs.result()) == ("ran", "ran")
        assert (tmp_path / "log").read_text() == "ran\n"
        mine.release()
        del mine
        assert other.submit(tasks.identity, theirs).result() == "ran"
        assert "shared-key" in other.who_has()


def test_results_go_when_the_last_future_goes(client):
    futures = client.map(tasks.inc, range(100))
    client.gather(futures)
    assert len(client.who_has()) >= 100
    del futures
    gc.collect()
    wait_until(lambda: not client.who_has(), "the scheduler forgets all keys")
    wait_until(lambda: not any(client.has_what().values()), "the workers drop all results")


def test_intermediate_results_go_as_soon_as_nobody_needs_them(client):
    a = client.submit(tasks.inc, 1, key="intermediate")
    b = client.submit(tasks.inc, a)
    del a
    gc.collect()
    assert b.result() == 3
    wait_until(lambda: not client.who_has().get("intermediate"), "nobody holds it")
    wait_until(lambda: held_keys(client) == [b.key], "only what is held lies there")


def test_a_dependent_keeps_its_input_alive(client, tmp_path):
    flag = tmp_path / "go"
    a = client.submit(tasks.inc, 1)
    b = client.submit(tasks.wait_for_file, str(flag))
    c = client.submit(tasks.keywords, a, b)
    del a, b
    gc.collect()
    flag.touch()
    assert c.result(timeout=20) == ((2, str(flag)), {})


def test_a_forgotten_key_may_name_other_work(client):
    first = client.submit(tasks.inc, 1, key="reused")
    assert first.result() == 2
    first.release()
    del first
    gc.collect()
    wait_until(lambda: "reused" not in client.who_has(), "the key is forgotten")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.submit(tasks.dec, 1, key="reused").result() == 0


def test_a_live_key_that_comes_back_with_other_work_warns_and_names_both(client):
    first = client.submit(tasks.inc, 1, key="taken")
    with pytest.warns(taskloom.KeyCollisionWarning, match="taken") as caught:
        second = client.submit(tasks.dec, 1, key="taken")
    text = " ".join(str(warning.message) for warning in caught)
    assert "inc" in text
    assert "dec" in text
    assert first.result() == second.result() == 2


def test_equal_work_under_a_live_key_does_not_warn(client):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        futures = [client.submit(tasks.inc, 1, key="same") for _ in range(3)]
        assert client.gather(futures) == [2, 2, 2]


def test_fire_and_forget_runs_without_a_future(client, tmp_path):
    log = str(tmp_path / "log")
    future = client.submit(tasks.append_line, log, "ran")
    fire_and_forget(future)
    del future
    gc.collect()
    wait_until(lambda: (tmp_path / "log").exists(), "the task ran")
    wait_until(lambda: not client.who_has(), "and was forgotten")


def test_keys_of_a_client_that_vanishes_are_forgotten(client, cluster):
    other = Client(cluster, set_as_default=False)
    future = other.submit(tasks.inc, 1, key="of-another")
    assert future.result() == 2
    other.close()
    wait_until(lambda: "of-another" not in client.who_has(), "the key is forgotten")


def test_unasked_outputs_of_a_graph_are_forgotten(client):
    graph = {"a": (tasks.inc, 1), "b": (tasks.inc, "a"), "unasked": (tasks.inc, "b")}
    assert client.get(graph, "b") == 3
    wait_until(lambda: not client.who_has(), "nothing is left of the graph")
    assert client.get({"unasked": (tasks.dec, 10)}, "unasked") == 9
