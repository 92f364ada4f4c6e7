"""asynchronous=True under asyncio and tornado, from several loops and threads."""

import asyncio
import concurrent.futures

import pytest
import pytest_asyncio

from taskloom import CancelledError, Client, LocalCluster, as_completed, wait
from tests import tasks


@pytest_asyncio.fixture
async def aclient(cluster):
    async with Client(cluster.scheduler_address, asynchronous=True) as client:
        await client.wait_for_workers(2)
        yield client


async def test_futures_are_awaitable(aclient):
    future = aclient.submit(tasks.inc, 1)
    assert await future == 2
    assert await future.result() == 2
    assert await future.exception() is None
    assert aclient.asynchronous


async def test_errors_are_raised_by_await(aclient):
    future = aclient.submit(tasks.fail, "async boom")
    with pytest.raises(ValueError, match="async boom"):
        await future
    assert isinstance(await future.exception(), ValueError)


async def test_gather_scatter_and_wait_are_awaitable(aclient):
    futures = aclient.map(tasks.inc, range(100))
    assert await aclient.gather(futures) == list(range(1, 101))
    scattered = await aclient.scatter([1, 2, 3])
    assert await aclient.gather(aclient.map(tasks.inc, scattered)) == [2, 3, 4]
    done, not_done = await wait(futures)
    assert len(done) == 100
    assert not not_done


async def test_many_awaits_at_once_are_all_answered(aclient):
    async def one(i):
        return await aclient.submit(tasks.inc, i)

    assert await asyncio.gather(*(one(i) for i in range(500))) == list(range(1, 501))


async def test_as_completed_is_an_async_iterator(aclient):
    seen = []
    async for _future, result in as_completed(aclient.map(tasks.inc, range(20)), with_results=True):
        seen.append(result)
    assert sorted(seen) == list(range(1, 21))
    batches = as_completed(aclient.map(tasks.double, range(20)))
    count = 0
    async for batch in batches.batches():
        count += len(batch)
    assert count == 20


async def test_a_cancelled_future_raises_at_await(aclient, tmp_path):
    flag = tmp_path / "go"
    future = aclient.submit(tasks.wait_for_file, str(flag))
    await future.cancel()
    with pytest.raises((CancelledError, asyncio.CancelledError)):
        await future
    flag.touch()


async def test_cancelling_an_await_leaves_the_task_alone(aclient, tmp_path):
    flag = tmp_path / "go"
    future = aclient.submit(tasks.wait_for_file, str(flag))

    async def waiting():
        return await future

    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    flag.touch()
    assert await future == str(flag)


async def test_a_timeout_of_asyncio_works_on_a_future(aclient, tmp_path):
    flag = tmp_path / "go"
    future = aclient.submit(tasks.wait_for_file, str(flag))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(future.result()), 0.05)
    flag.touch()
    assert await asyncio.wait_for(future.result(), 20) == str(flag)


async def test_the_loop_runs_on_while_tasks_are_awaited(aclient, tmp_path):
    flag = tmp_path / "go"
    future = aclient.submit(tasks.wait_for_file, str(flag))
    turns = 0

    async def turn():
        nonlocal turns
        while turns < 20:
            turns += 1
            await asyncio.sleep(0)
        flag.touch()

    results = await asyncio.gather(future.result(), turn())
    assert results[0] == str(flag)
    assert turns == 20


async def test_questions_are_awaitable(aclient):
    future = aclient.submit(tasks.inc, 1)
    await future
    assert list(await aclient.who_has([future])) == [future.key]
    assert len(await aclient.has_what()) == 2
    assert sum((await aclient.nthreads()).values()) == 2
    assert len(await aclient.run(tasks.pid)) == 2
    assert len(aclient.scheduler_info()["workers"]) == 2


async def test_a_whole_cluster_lives_in_an_async_block():
    async with (
        LocalCluster(n_workers=1, threads_per_worker=1, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert await client.submit(tasks.inc, 1) == 2


async def test_a_client_is_awaitable_and_closed_by_await(cluster):
    client = await Client(cluster.scheduler_address, asynchronous=True)
    assert await client.submit(tasks.inc, 1) == 2
    await client.close()
    assert client.status == "closed"


async def test_dask_collections_compute_asynchronously(aclient):
    import dask.array as da

    total = da.ones((100, 100), chunks=(50, 50)).sum()
    assert await aclient.compute(total) == 10_000
    (persisted,) = aclient.persist([total])
    assert await aclient.compute(persisted) == 10_000


def test_several_event_loops_use_several_clients(cluster):
    async def work(start):
        async with Client(
            cluster.scheduler_address, asynchronous=True, set_as_default=False
        ) as client:
            futures = client.map(tasks.inc, range(start, start + 100))
            return sum(await client.gather(futures))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        totals = list(pool.map(lambda s: asyncio.run(work(s)), range(0, 400, 100)))
    assert totals == [sum(range(s + 1, s + 101)) for s in range(0, 400, 100)]


def test_one_client_is_awaited_from_two_event_loops(client):
    """A synchronous client's futures may be awaited, on any loop."""

    async def work(x):
        return await client.submit(tasks.inc, x)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda x: asyncio.run(work(x)), range(10))) == list(range(1, 11))


def test_tornado_coroutines_yield_clients_and_futures(cluster):
    from tornado import gen, ioloop

    @gen.coroutine
    def work():
        client = yield Client(cluster.scheduler_address, asynchronous=True)
        value = yield client.submit(tasks.inc, 1)
        values = yield client.gather(client.map(tasks.inc, range(5)))
        yield client.close()
        return value, values

    loop = ioloop.IOLoop(make_current=False)
    try:
        assert loop.run_sync(work) == (2, [1, 2, 3, 4, 5])
    finally:
        loop.close()


def test_a_tornado_server_awaits_tasks(cluster):
    import tornado.httpclient
    import tornado.httpserver
    import tornado.netutil
    import tornado.web

    async def serve():
        class Handler(tornado.web.RequestHandler):
            async def get(self, n):
                self.write(str(await client.submit(tasks.fib, int(n))))

        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            server = tornado.httpserver.HTTPServer(tornado.web.Application([(r"/(\d+)", Handler)]))
            sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            http = tornado.httpclient.AsyncHTTPClient()
            base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            answers = await asyncio.gather(*(http.fetch(f"{base}/{n}") for n in range(15)))
            server.stop()
            return [int(answer.body) for answer in answers]

    assert asyncio.run(serve()) == [tasks.fib(n) for n in range(15)]


def test_a_blocking_client_works_inside_a_running_loop(client):
    async def work():
        return client.submit(tasks.inc, 1).result(timeout=20)

    assert asyncio.run(work()) == 2


def test_ctrl_c_interrupts_a_wait(cluster, tmp_path):
    import os
    import signal
    import subprocess
    import sys

    # A process started in the background may have inherited that it ignores the signal.
    program = f"""
import signal
import sys
from taskloom import Client
from tests import tasks
signal.signal(signal.SIGINT, signal.default_int_handler)
with Client({cluster.scheduler_address!r}) as client:
    future = client.submit(tasks.wait_for_file, {str(tmp_path / "go")!r}, pure=False)
    try:
        print("waiting", flush=True)
        future.result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(5)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    (tmp_path / "go").touch()
    assert out == "interrupted\n"
    assert process.returncode == 5
