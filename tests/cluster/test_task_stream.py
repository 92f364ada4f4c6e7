"""Task streams, metadata of tasks, and performance reports."""

import asyncio
import threading
import time
from html.parser import HTMLParser

import pytest

import taskloom
from taskloom import Client, get_task_metadata, get_task_stream, performance_report
from tests import tasks
from tests.support import kill_worker, wait_until


def nap(seconds):
    time.sleep(seconds)
    return threading.get_ident()


async def async_nap(seconds):
    await asyncio.sleep(seconds)


def fail(x):
    raise ValueError(x)


class Loaded(HTMLParser):
    """What a page would load or run, and its bars."""

    def __init__(self, page):
        super().__init__()
        self.found, self.bars = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.bars += tag == "rect"
        runs = tag in ("script", "img", "link", "iframe", "object", "b")
        runs |= any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if runs:
            self.found.append((tag, attrs))


def by_key(records):
    return {record["key"]: record for record in records}


def test_the_runs_of_a_block_are_recorded_with_where_and_when(client):
    client.submit(nap, 0, key="before").result()
    begun = time.time()
    with get_task_stream(client) as stream:
        thread = client.submit(nap, 0.05, key="one").result()
        client.submit(nap, 0, key="two").result()
    client.submit(nap, 0, key="after").result()
    found = by_key(stream.data)
    assert sorted(found) == ["one", "two"]
    one = found["one"]
    assert (one["thread"], one["status"]) == (thread, "OK")
    assert one["worker"] in client.scheduler_info()["workers"]
    (part,) = one["startstops"]
    assert part["action"] == "compute"
    assert begun - 1 < part["start"] < part["stop"] - 0.04 < time.time()


def test_every_run_of_many_is_recorded_once(client):
    with get_task_stream() as stream:
        client.gather(client.map(abs, range(3000), key="many"))
    assert len(stream.data) == 3000
    assert len(by_key(stream.data)) == 3000
    ends = [record["startstops"][0]["stop"] for record in stream.data]
    assert ends == sorted(ends)


def test_failures_and_coroutines_are_recorded(client):
    with get_task_stream() as stream:
        client.submit(fail, 1, key="fails").exception()
        client.submit(async_nap, 0.01, key="coroutine").result()
    found = by_key(stream.data)
    assert found["fails"]["status"] == "error"
    assert found["coroutine"]["status"] == "OK"


def test_a_worker_that_joins_later_records_too(start, tmp_path):
    client = start(n_workers=1)
    with get_task_stream(client) as stream:
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=30)
        # They wait for each other: each worker has one.
        client.gather(client.map(tasks.meet, [str(tmp_path)] * 2, range(2), count=2))
    assert len({record["worker"] for record in stream.data}) == 2


def test_what_a_worker_ran_is_known_after_its_death(start):
    client = start(n_workers=1)
    client.get_task_stream()
    client.gather(client.map(abs, range(20)))

    def kept():
        events = [message for _, message in client.get_events("task-stream")]
        return sum(len(rows) for _, rows in events)

    wait_until(lambda: kept() == 20, "the rows are with the scheduler though nobody asked")
    (address,) = client.scheduler_info()["workers"]
    kill_worker(client, address)
    wait_until(lambda: address not in client.scheduler_info()["workers"], "it is gone")
    assert {record["worker"] for record in client.get_task_stream()} == {address}


def test_the_client_gives_records_by_time_and_number(start):
    client = start(n_workers=1)
    assert client.get_task_stream() == []
    for name in "abcd":
        client.submit(nap, 0, key=name).result()

    def keys(**options):
        return [record["key"] for record in client.get_task_stream(**options)]

    assert keys() == ["a", "b", "c", "d"]
    assert keys(count=2) == ["c", "d"]
    assert keys(start="60 s", count=2) == ["a", "b"]
    assert keys(start=0, stop="60 s") == []
    assert keys(stop=time.time() + 60, count=3) == ["b", "c", "d"]


def test_nothing_is_recorded_that_nobody_asked_for(start):
    client = start(n_workers=1)
    client.submit(nap, 0, key="x").result()
    client.get_task_stream()
    client.submit(nap, 0, key="y").result()
    assert list(by_key(client.get_task_stream())) == ["y"]
    client.unregister_worker_plugin("task-stream")
    client.submit(nap, 0, key="z").result()
    assert client.get_events("task-stream")[-1][1][1][-1][0] == "y"


def test_an_asynchronous_client_records_too(cluster):
    async def run():
        async with (
            Client(cluster, asynchronous=True) as client,
            get_task_stream(client) as stream,
        ):
            await client.submit(nap, 0, key="awaited")
        return stream.data

    assert list(by_key(asyncio.run(run()))) == ["awaited"]


def test_a_plot_is_a_page_that_loads_nothing_and_trusts_no_key(client, tmp_path):
    path = tmp_path / "stream.html"
    with get_task_stream(client, plot="save", filename=str(path)) as stream:
        client.submit(nap, 0, key="<script>alert(1)</script>").result()
        client.submit(fail, 1, key="bad-1").exception()
    page = path.read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert Loaded(page).bars == 2
    assert Loaded(page).found == []
    assert "<svg" in stream.figure._repr_html_()
    _, figure = client.get_task_stream(plot=True)
    assert "<svg" in figure.svg()


def test_a_plot_of_nothing_says_so(client):
    with get_task_stream(client, plot=True) as stream:
        pass
    assert "No task ran" in stream.figure.svg()


def test_a_plot_of_very_much_draws_the_longest(client):
    from taskloom._stream_plot import StreamPlot

    record = {"key": "x", "worker": "w", "thread": 1, "status": "OK", "nbytes": 0}
    spans = [{"action": "compute", "start": 0.0, "stop": 1.0 + n} for n in range(9000)]
    svg = StreamPlot([{**record, "startstops": [span]} for span in spans]).svg()
    assert svg.count("<rect") == 8000
    assert "1000 of 9000 runs" in svg


def test_what_became_of_tasks_is_told(client):
    with get_task_metadata() as told:
        client.submit(abs, -1, key="good").result()
        client.submit(fail, 1, key="bad").exception()
    assert told.state == {"good": "memory", "bad": "erred"}
    assert told.metadata["good"]["startstops"][0]["action"] == "compute"


def test_a_report_has_code_tasks_workers_and_loads_nothing(client, tmp_path):
    path = tmp_path / "report.html"
    with performance_report(path):
        client.gather(client.map(nap, [0.01] * 4, key=[("nap-group", n) for n in range(4)]))
        client.submit(fail, "<b>", key="<img>").exception()
    page = path.read_text()
    assert "test_a_report_has_code_tasks_workers_and_loads_nothing" in page
    assert "nap-group" in page
    assert "1 of them failed" in page
    assert all(address in page for address in client.scheduler_info()["workers"])
    assert "&lt;img&gt;" in page
    assert Loaded(page).bars == 5
    assert Loaded(page).found == []


def test_a_report_is_written_asynchronously_and_although_the_block_fails(cluster, tmp_path):
    path = tmp_path / "report.html"

    async def run():
        async with Client(cluster, asynchronous=True) as client:
            with pytest.raises(KeyError):
                async with performance_report(str(path)):
                    await client.submit(nap, 0, key="seen-here")
                    raise KeyError("mine")

    asyncio.run(run())
    assert "seen-here" in path.read_text()
    assert "async def run" in path.read_text()


def test_streams_need_a_client():
    with pytest.raises(ValueError, match="client"), get_task_stream():
        pass


def test_a_plugin_of_that_name_by_somebody_else_is_no_recorder(start):
    class Mine(taskloom.WorkerPlugin):
        name = "task-stream"

    client = start(n_workers=1)
    client.register_plugin(Mine())
    client.submit(nap, 0).result()
    wait_until(lambda: client.get_task_stream() == [], "nothing is recorded, nothing fails")
