"""Versions, dumps, functions beside the tasks."""

import json

import pytest

from tests import tasks


def address_of(dask_scheduler):
    return dask_scheduler.address, sorted(dask_scheduler.workers)


async def in_coroutine(dask_scheduler):
    return len(dask_scheduler.tasks)


def test_versions_of_all_processes_agree(client):
    versions = client.get_versions(check=True, packages=["pytest"])
    assert set(versions["workers"]) == set(client.scheduler_info()["workers"])
    for worker in versions["workers"].values():
        assert worker["packages"] == versions["client"]["packages"]
    assert versions["scheduler"]["packages"]["taskloom"]


def test_versions_that_differ_are_named():
    from taskloom._versions import mismatches

    client = {"packages": {"python": "3.11.1.final.0", "taskloom": "1", "cloudpickle": "3"}}
    worker = {"packages": {"python": "3.11.2.final.0", "taskloom": "1", "cloudpickle": "2"}}
    scheduler = {"packages": {"taskloom": "1"}}
    versions = {"client": client, "workers": {"tcp://w": worker}, "scheduler": scheduler}
    text = mismatches(versions, [])
    assert "cloudpickle" in text
    assert "tcp://w" in text
    assert "python " not in text


def test_the_clusters_state_is_written_to_a_file(client, tmp_path):
    future = client.submit(tasks.inc, 1, key="in-the-dump")
    future.result()
    client.dump_cluster_state(str(tmp_path / "state"), exclude=["log"])
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["tasks"]["in-the-dump"]["state"] == "memory"
    assert set(state["workers"]) == set(client.scheduler_info()["workers"])
    assert "log" not in state
    client.dump_cluster_state(str(tmp_path / "state"), format="yaml")
    assert "in-the-dump" in (tmp_path / "state.yaml").read_text()


def test_a_dump_that_cannot_be_written_says_so(client, tmp_path):
    with pytest.raises(ValueError, match="format"):
        client.dump_cluster_state(str(tmp_path / "x"), format="xml")
    with pytest.raises(NotImplementedError, match="scheduler"):
        client.dump_cluster_state(str(tmp_path / "x"), write_from_scheduler=True)
    with pytest.raises(FileNotFoundError):
        client.dump_cluster_state(str(tmp_path / "absent" / "x"))


def test_functions_run_against_a_handle_of_the_scheduler(client):
    address, workers = client.run_on_scheduler(address_of)
    assert address == client.scheduler_info()["address"]
    assert workers == sorted(client.scheduler_info()["workers"])
    future = client.submit(tasks.inc, 1)
    future.result()
    assert client.run_on_scheduler(in_coroutine) >= 1
    assert client.run_on_scheduler(lambda a, b=0: a + b, 1, b=2) == 3


def test_what_the_handle_lacks_is_named(client):
    with pytest.raises(AttributeError, match="no Python runs"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition)


def test_run_coroutine_is_run(client):
    async def double(x):
        return 2 * x

    assert set(client.run_coroutine(double, 4).values()) == {8}
