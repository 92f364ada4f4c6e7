"""Settings of dask's configuration that concern clusters."""

import os
import time
import warnings

import dask
import pytest

from taskloom import Client, KilledWorker, LocalCluster, NoValidWorkerError
from taskloom._cluster_settings import environment
from taskloom._config import packaged, setting

# Registers its defaults, which must not count.
pytest.importorskip("distributed")


def one_worker():
    return LocalCluster(n_workers=1, threads_per_worker=1)


def test_what_distributed_registers_by_itself_is_nobodys_choice():
    assert packaged("distributed.scheduler.allowed-failures") == 3
    assert setting("distributed.scheduler.allowed-failures") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_worker().close()
    assert packaged("distributed.nanny.pre-spawn-environ")
    assert environment() == {}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {"MINE": 1}}):
        assert environment() == {"MINE": "1"}


def test_failures_resources_and_environment_are_read():
    config = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.resources": {"GPU": 2},
        "distributed.nanny.environ": {"CHOSEN": "yes"},
    }
    with dask.config.set(config), one_worker() as cluster, Client(cluster) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["resources"] == {"GPU": 2.0}
        assert client.submit(os.getenv, "CHOSEN").result() == "yes"
        with pytest.raises(KilledWorker):
            client.submit(os._exit, 1).result()


def test_a_keyword_counts_more():
    config = {"distributed.worker.resources": {"GPU": 2}}
    with dask.config.set(config), LocalCluster(n_workers=1, resources={"TPU": 1}) as cluster:
        with Client(cluster) as client:
            (worker,) = client.scheduler_info()["workers"].values()
            assert worker["resources"] == {"TPU": 1.0}


def test_how_long_tasks_wait_for_a_worker_is_read():
    config = {"distributed.scheduler.no-workers-timeout": "100 ms"}
    with dask.config.set(config), one_worker() as cluster, Client(cluster) as client:
        with pytest.raises(NoValidWorkerError):
            client.submit(abs, -1, resources={"nothing has it": 1}).result(timeout=30)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("distributed.scheduler.idle-timeout", "1 hour"),
        ("distributed.worker.preload", ["my_module"]),
        ("distributed.worker.lifetime.duration", "1 hour"),
    ],
)
def test_what_is_not_honoured_is_warned_of(name, value):
    with dask.config.set({name: value}), pytest.warns(UserWarning, match=name):
        one_worker().close()


def test_encryption_that_is_demanded_and_missing_is_an_error():
    with dask.config.set({"distributed.comm.require-encryption": True}):
        with pytest.raises(NotImplementedError, match="require-encryption"):
            LocalCluster(n_workers=0)


@pytest.mark.parametrize("value", [-1, 256, "many", True])
def test_a_number_of_failures_that_cannot_be_meant_is_an_error(value):
    with pytest.raises(ValueError, match="allowed_failures"):
        LocalCluster(n_workers=0, scheduler_kwargs={"allowed_failures": value})


def test_unknown_keywords_of_the_scheduler_are_named():
    with pytest.raises(TypeError, match=r"colour.*known.*worker_ttl"):
        LocalCluster(n_workers=0, scheduler_kwargs={"colour": 1})


@pytest.mark.filterwarnings("ignore:.*failed on the new worker")
def test_a_setup_that_hangs_on_a_new_worker_does_not_keep_it_from_tasks():
    def hang_on_the_second(dask_worker):
        if dask_worker.name == 1:
            time.sleep(600)

    options = {"n_workers": 1, "threads_per_worker": 1}
    with LocalCluster(**options, scheduler_kwargs={"setup_timeout": "300 ms"}) as cluster:
        with Client(cluster) as client:
            client.register_worker_callbacks(hang_on_the_second)
            cluster.scale(2)
            client.wait_for_workers(2, timeout=30)
            assert client.submit(abs, -1, workers=[1]).result(timeout=30) == 1
            failed = [m for _, m in client.get_events("all") if m["action"] == "setup-failed"]
            assert "did not end within 0.3 s" in failed[0]["error"]
