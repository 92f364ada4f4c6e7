"""The client's constructor and small methods: forms of addresses, settings, current clients."""

import asyncio
import json
import threading
from datetime import timedelta

import pytest

import taskloom
from taskloom import Client, Future
from tests import tasks
from tests.support import wait_until


def test_an_address_may_be_a_cluster_a_text_or_a_file(cluster, tmp_path):
    path = tmp_path / "scheduler.json"
    with Client(cluster) as client:
        client.write_scheduler_file(str(path))
    assert json.loads(path.read_text())["address"] == cluster.scheduler_address
    for keywords in (
        {"address": cluster},
        {"address": cluster.scheduler_address},
        {"scheduler_file": str(path)},
        {"scheduler_file": path},
    ):
        with Client(**keywords) as client:
            assert client.submit(tasks.inc, 1).result() == 2


def test_a_scheduler_file_may_come_late(cluster, tmp_path):
    path = tmp_path / "late.json"
    path.touch()
    writer = threading.Timer(
        0.1, lambda: path.write_text(json.dumps({"address": cluster.scheduler_address}))
    )
    writer.start()
    with Client(scheduler_file=str(path), timeout="20s") as client:
        assert client.submit(tasks.inc, 1).result() == 2
    writer.join()


def test_a_file_that_is_no_scheduler_file_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"other\.json is no scheduler file"):
        Client(scheduler_file=str(path), timeout=0)
    with pytest.raises(FileNotFoundError):
        Client(scheduler_file=str(tmp_path / "none.json"), timeout="10 ms")


async def test_an_asynchronous_client_waits_for_its_file_beside_the_loop(cluster, tmp_path):
    path = tmp_path / "late.json"
    client = Client(scheduler_file=str(path), asynchronous=True)
    starting = asyncio.ensure_future(client.start())
    await asyncio.sleep(0)
    path.write_text(json.dumps({"address": cluster.scheduler_address}))
    assert await starting is client
    assert await client.submit(tasks.inc, 1) == 2
    await client.close()


def test_an_address_and_a_file_are_one_too_many(cluster, tmp_path):
    with pytest.raises(ValueError, match="not both"):
        Client(cluster, scheduler_file=str(tmp_path / "f"))


@pytest.mark.parametrize(
    ("keywords", "names"),
    [
        ({"security": object()}, "TASKLOOM_TOKEN"),
        ({"serializers": ["pickle"]}, "one wire format"),
        ({"deserializers": ["pickle"]}, "one wire format"),
        ({"extensions": {"x": object}}, "plugins"),
    ],
)
def test_what_is_not_offered_is_an_error_that_names_the_way(cluster, keywords, names):
    with pytest.raises(NotImplementedError, match=names):
        Client(cluster, **keywords)


@pytest.mark.parametrize("timeout", [20, "20s", "20000 ms", timedelta(seconds=20), None])
def test_a_timeout_may_be_a_number_a_text_or_a_timedelta(cluster, timeout):
    with Client(cluster.scheduler_address, timeout=timeout) as client:
        future = client.submit(tasks.inc, 1)
        assert future.result(timeout=timeout) == 2
        assert taskloom.wait([future], timeout=timeout).done == {future}
        assert client.gather(client.scatter([1], timeout=timeout)) == [1]


def test_the_time_to_connect_is_dask_setting(monkeypatch):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "50 ms"}):
        assert Client._parse_timeout(None) == 0.05
        assert Client._parse_timeout("2s") == 2.0
    assert Client._parse_timeout(None) == 30.0


def test_defaults_of_another_package_are_nobodys_choice():
    import dask
    import distributed  # noqa: F401 - registers defaults of its own

    from taskloom._config import setting

    assert dask.config.get("distributed.scheduler.worker-ttl") == "5 minutes"
    assert setting("distributed.scheduler.worker-ttl", "ours") == "ours"
    with dask.config.set({"distributed.scheduler.worker-ttl": "7s"}):
        assert setting("distributed.scheduler.worker-ttl", "ours") == "7s"


def test_without_dask_settings_come_from_the_environment():
    import os
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from taskloom._config import setting\n"
        "print(setting('distributed.scheduler.allowed-failures'), setting('scheduler-address'))\n"
        "assert 'dask' not in sys.modules\n"
    )
    environment = {
        **os.environ,
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "7",
        "DASK_SCHEDULER_ADDRESS": "tcp://host:1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["7", "tcp://host:1"], done.stderr


def test_a_default_client_is_the_current_one_in_its_block(cluster):
    with Client(cluster) as first:
        assert Client.current(allow_global=False) is first
        with Client(cluster, set_as_default=False) as second:
            assert Client.current() is first
            with second.as_current():
                assert Client.current() is second
                assert taskloom.get_client() is second
            assert Client.current() is first
    with pytest.raises(ValueError):
        Client.current()


def test_clients_of_threads_have_each_their_own_current_one(cluster):
    found = {}
    barrier = threading.Barrier(2, timeout=20)

    def run(name):
        with Client(cluster) as client:
            barrier.wait()
            found[name] = Client.current() is client and client.submit(tasks.inc, 1).result()
            barrier.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == {"a": 2, "b": 2}


def test_event_loops_of_several_threads_use_one_cluster(cluster):
    found = []

    async def work(number):
        async with Client(cluster, asynchronous=True, set_as_default=False) as client:
            found.append(sum(await client.gather(client.map(tasks.inc, range(number)))))

    threads = [threading.Thread(target=asyncio.run, args=(work(n),)) for n in (5, 10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(found) == [15, 55]


async def test_a_blocking_client_works_where_another_loop_runs(cluster):
    with Client(cluster) as client:
        assert client.submit(tasks.inc, 1).result() == 2
        assert client.gather(client.map(tasks.inc, range(3))) == [1, 2, 3]


def test_sync_runs_a_coroutine_function_and_can_be_limited(client):
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert client.sync(double, 4) == 8
    with pytest.raises(TimeoutError):
        client.sync(asyncio.sleep, 60, callback_timeout="10 ms")


async def test_blocking_on_the_loop_that_runs_is_an_error(cluster):
    async with Client(cluster, asynchronous=True) as client:
        with pytest.raises(RuntimeError, match="await"):
            taskloom.sync(client.loop, asyncio.sleep, 0)


def test_a_future_is_made_from_its_key(client, cluster):
    first = client.submit(tasks.inc, 1, key="named")
    assert Future("named").result() == 2
    with Client(cluster, set_as_default=False) as other:
        future = Future("named", other)
        assert future.client is other
        assert future.result() == first.result()
        future.bind_client(client)
    with pytest.raises(TypeError):
        Future("named", 5)


def test_a_future_of_a_key_that_comes_later_waits_for_it(client, cluster):
    future = Future("comes-later", client)
    assert future.status == "pending"
    with Client(cluster, set_as_default=False) as other:
        theirs = other.submit(tasks.inc, 5, key="comes-later")
        assert future.result(timeout=20) == theirs.result() == 6


def test_a_normalized_collection_has_futures_for_what_is_held(client):
    import dask.array as da

    x = da.arange(6, chunks=3) + 1
    assert client.normalize_collection(x) is x
    held = client.persist(x)
    normal = client.normalize_collection(x)
    assert len(client.futures_of(normal)) == len(client.futures_of(held)) == 2
    assert normal.compute().tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(TypeError, match="collection"):
        client.normalize_collection(5)


def test_futures_of_two_clients_may_be_mixed(client, cluster):
    with Client(cluster, set_as_default=False) as other:
        mine, theirs = client.submit(tasks.inc, 1), other.submit(tasks.inc, 2)
        assert client.submit(tasks.add, mine, theirs).result() == 5
        assert client.gather([mine, theirs]) == [2, 3]
        assert taskloom.wait([mine, theirs]).not_done == set()


def test_closing_twice_and_in_a_block_is_harmless(cluster):
    with Client(cluster) as client:
        future = client.submit(tasks.inc, 1)
        client.close()
        client.close(timeout="1s")
    assert client.status == "closed"
    wait_until(lambda: future.cancelled(), "its futures are cancelled")
    with pytest.raises(taskloom.ClosedClientError):
        client.submit(tasks.inc, 1)
