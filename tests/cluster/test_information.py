"""What a client can ask about the cluster."""

import pytest

from tests import tasks
from tests.support import wait_until


def test_scheduler_info_describes_every_worker(client):
    info = client.scheduler_info()
    assert info["address"].startswith("tcp://127.0.0.1:")
    assert len(info["workers"]) == 2
    for address, worker in info["workers"].items():
        assert address.startswith("tcp://127.0.0.1:")
        assert worker["nthreads"] == 1
        assert worker["memory_limit"] > 0
        assert isinstance(worker["resources"], dict)
    assert {worker["name"] for worker in info["workers"].values()} == {0, 1}


def test_nthreads_counts_threads(client):
    assert set(client.nthreads().values()) == {1}
    assert client.ncores() == client.nthreads()
    (address, _) = client.nthreads()
    assert client.nthreads([address]) == {address: 1}


def test_who_has_and_has_what_agree(client):
    futures = client.map(tasks.inc, range(10))
    client.gather(futures)
    who_has = client.who_has(futures)
    assert set(who_has) == {future.key for future in futures}
    has_what = client.has_what()
    assert set(has_what) == set(client.scheduler_info()["workers"])
    for key, addresses in who_has.items():
        assert addresses
        assert all(key in has_what[address] for address in addresses)


def test_who_has_knows_pending_keys(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    wait_until(lambda: future.key in client.who_has(), "the pending key is listed")
    assert not client.who_has()[future.key]
    flag.touch()
    future.result()


def test_processing_lists_what_is_assigned(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    wait_until(
        lambda: any(future.key in keys for keys in client.processing().values()), "it is assigned"
    )
    flag.touch()
    future.result()
    wait_until(lambda: not any(client.processing().values()), "nothing is assigned")


def test_nbytes_tells_sizes(client):
    future = client.submit(bytes, 100_000, key="hundred-thousand")
    future.result()
    assert client.nbytes(summary=False)["hundred-thousand"] >= 100_000
    assert sum(client.nbytes(summary=True).values()) >= 100_000


def test_call_stack_shows_where_a_task_is(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    wait_until(
        lambda: "wait_for_file" in str(client.call_stack([future])), "the stack names the function"
    )
    flag.touch()
    future.result()


def test_story_tells_how_a_key_came_to_its_state(client):
    future = client.submit(tasks.inc, 1, key="has-a-story")
    future.result()
    assert "memory" in str(client.story("has-a-story"))


def test_representations_name_the_address(client, cluster):
    address = client.scheduler_info()["address"]
    assert address in repr(client)
    assert cluster.scheduler_address == address
    assert isinstance(client._repr_html_(), str)


def test_progress_draws_a_bar(client, capsys):
    from taskloom import progress

    progress(client.map(tasks.inc, range(10)), notebook=False)
    assert "100%" in capsys.readouterr().out


def test_futures_of_finds_futures_in_anything(client):
    from taskloom import futures_of

    a, b = client.map(tasks.inc, range(2))
    assert set(futures_of([a, {"x": (b,)}, 5])) == {a, b}


@pytest.mark.parametrize("method", ["who_has", "nbytes", "has_what", "processing"])
def test_questions_about_nothing_have_answers(client, method):
    assert isinstance(getattr(client, method)(), dict)
