"""Clusters whose workers are described one by one."""

import asyncio
import os
import sys

import pytest
from taskloom.distributed.deploy.spec import ProcessInterface

import taskloom
from taskloom import Client, SpecCluster
from taskloom.distributed import Nanny, Scheduler
from tests import tasks
from tests.support import alive, wait_until

SCHEDULER = {"cls": Scheduler, "options": {"dashboard_address": ":8787"}}


def nanny(**options):
    return {"cls": Nanny, "options": {"nthreads": 1, **options}}


def thread_worker(**options):
    return {"cls": taskloom.Worker, "options": {"nthreads": 1, **options}}


class Command(ProcessInterface):
    """A worker as a command, as a resource manager would start it."""

    def __init__(self, scheduler, name=None, nthreads=1):
        super().__init__(scheduler, name)
        self.nthreads = nthreads

    async def start(self):
        words = ["-m", "taskloom", "worker", self.scheduler, "--name", str(self.name)]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *words, "--nthreads", str(self.nthreads)
        )

    async def close(self):
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()
        await super().close()


class Broken(ProcessInterface):
    async def start(self):
        raise ConnectionError("no machine is free")


def facts(client):
    workers = client.scheduler_info()["workers"].values()
    return {worker["name"]: worker["nthreads"] for worker in workers}


def test_workers_of_several_kinds_are_one_cluster():
    workers = {
        "process": nanny(nthreads=2, env={"OF_THE_SPEC": "1"}),
        "thread": thread_worker(resources={"GPU": 1}),
    }
    with SpecCluster(workers, SCHEDULER) as cluster, Client(cluster) as client:
        assert facts(client) == {"process": 2, "thread": 1}
        assert client.submit(os.getpid, workers="thread").result() == os.getpid()
        assert client.submit(os.getenv, "OF_THE_SPEC", workers="process").result() == "1"
        assert client.submit(abs, -1, resources={"GPU": 1}).result() == 1
        assert cluster.plan == cluster.requested == cluster.observed == {"process", "thread"}
        assert cluster.workers["thread"].nthreads == 1
        pid = cluster.workers["process"]["pid"]
        assert "SpecCluster" in repr(cluster)
    wait_until(lambda: not alive(pid), "the process has ended")


def test_scaling_adds_workers_of_the_template_and_ends_the_newest():
    with SpecCluster(worker=thread_worker(), scheduler=SCHEDULER) as cluster:
        assert cluster.worker_spec == {}
        with Client(cluster) as client:
            cluster.scale(3)
            client.wait_for_workers(3, timeout=30)
            assert set(cluster.worker_spec) == {0, 1, 2}
            kept = client.scatter(5, workers=["2"])
            cluster.scale(1)
            wait_until(lambda: set(facts(client)) == {0}, "one is left")
            assert set(cluster.workers) == {0}
            # What only the ended worker held was given to the others.
            assert kept.result() == 5


def test_workers_of_an_own_class_are_started_and_closed():
    workers = {"job": {"cls": Command, "options": {"nthreads": 2}}}
    with SpecCluster(workers, asynchronous=False) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=30)
        assert facts(client) == {"job": 2}
        job = cluster.workers["job"]
        assert job.status == "running"
        cluster.scale(0)
        wait_until(lambda: not facts(client), "it has left")
    assert job.status == "closed"
    assert job.process.returncode is not None


def test_a_group_stands_for_several_names():
    class Pair(ProcessInterface):
        """Two workers of one job."""

        async def start(self):
            self.parts = [await Command(self.scheduler, f"{self.name}{e}") for e in ("-0", "-1")]

        async def close(self):
            for part in self.parts:
                await part.close()
            await super().close()

    spec = {"cls": Pair, "options": {}, "group": ["-0", "-1"]}
    with SpecCluster({"pair": spec}) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, timeout=30)
        assert cluster.plan == cluster.observed == {"pair-0", "pair-1"}
        cluster.scale(0)
        wait_until(lambda: not facts(client), "both have left")


def test_it_adapts(tmp_path):
    gate = tmp_path / "gate"
    with SpecCluster(worker=thread_worker()) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=0, maximum=2, interval="20 ms", wait_count=2)
        held = client.submit(tasks.wait_for_file, str(gate))
        assert client.gather(client.map(abs, range(20))) == list(range(20))
        assert 1 <= len(cluster.worker_spec) <= 2
        gate.touch()
        assert held.result(timeout=30) == str(gate)
        del held
        wait_until(lambda: not facts(client), "nobody needs them any more")
        wait_until(lambda: not cluster.worker_spec, "nor are they planned")


def test_it_is_awaited():
    async def run():
        async with SpecCluster({0: thread_worker()}, asynchronous=True) as cluster:
            async with Client(cluster, asynchronous=True) as client:
                return await client.submit(abs, -3)

    assert asyncio.run(run()) == 3


def test_a_worker_that_cannot_start_is_an_error_and_leaves_nothing():
    with pytest.raises(ConnectionError, match="no machine is free"):
        SpecCluster({0: thread_worker(), 1: {"cls": Broken}})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"workers": {0: 5}}, TypeError, "'cls'"),
        ({"workers": {0: nanny(colour="red")}}, TypeError, "colour"),
        ({"workers": {0: {"cls": Scheduler}}}, TypeError, "names a scheduler"),
        ({"scheduler": {"cls": Command}}, NotImplementedError, "taskloom scheduler"),
        ({"security": object()}, NotImplementedError, "security"),
        ({"scheduler": {"cls": Scheduler, "options": {"colour": 1}}}, TypeError, "colour"),
    ],
)
def test_bad_specs_say_what_is_wrong(options, error, words):
    with pytest.raises(error, match=words):
        SpecCluster(**options)


def test_scaling_without_a_template_says_what_is_missing():
    with SpecCluster() as cluster, pytest.raises(ValueError, match="worker="):
        cluster.scale(1)


@pytest.mark.parametrize("cls", [Nanny, Scheduler])
def test_the_names_of_kinds_start_nothing_by_themselves(cls):
    with pytest.raises(NotImplementedError, match="LocalCluster"):
        cls("tcp://127.0.0.1:8786")
