"""What tasks write is kept with them."""

import logging
import os
import signal
import sys

from tests import tasks
from tests.support import wait_until


def talk(*words):
    print(*words)
    print("to stderr", file=sys.stderr)
    logging.getLogger("my.task").warning("number %d", len(words))
    return len(words)


async def talk_on_the_loop(word):
    import asyncio

    print("before", word)
    await asyncio.sleep(0)
    print("after", word)


def talk_and_fail():
    print("before the end")
    raise ValueError("the end")


def talk_and_die():
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def talk_and_wait(path):
    print("still running")
    return tasks.wait_for_file(path)


def flood(lines):
    for n in range(lines):
        print(f"line {n:8} ".ljust(99, "x"))


def text_of(records, stream="stdout"):
    return "".join(record.text for record in records if record.stream == stream)


def test_streams_and_log_records_of_a_task_are_kept_by_its_key(client):
    future = client.submit(talk, "a", "b")
    assert future.result() == 2
    records = client.get_task_logs(future)
    assert text_of(records) == "a b\n"
    assert "to stderr" in text_of(records, "stderr")
    (record,) = [record for record in records if record.stream == "log"]
    assert (record.logger, record.level, record.text) == ("my.task", logging.WARNING, "number 2")
    assert record.worker in client.scheduler_info()["workers"]
    assert record.attempt == 1
    assert client.get_task_logs(future.key) == records


def test_every_task_has_its_own_log(client):
    futures = [client.submit(talk, "number", n) for n in range(50)]
    client.gather(futures)
    logs = client.get_task_logs(futures)
    for n, future in enumerate(futures):
        assert text_of(logs[future.key]) == f"number {n}\n"


def test_a_task_that_writes_nothing_has_no_log(client):
    future = client.submit(tasks.inc, 1)
    future.result()
    assert client.get_task_logs(future) == []
    assert client.get_task_logs("no such key") == []


def test_coroutine_tasks_on_one_loop_keep_their_logs_apart(client):
    futures = client.map(talk_on_the_loop, ["a", "b", "c"])
    client.gather(futures)
    for word, future in zip("abc", futures, strict=True):
        assert text_of(client.get_task_logs(future)) == f"before {word}\nafter {word}\n"


def test_a_failed_task_has_its_log(client):
    future = client.submit(talk_and_fail)
    assert isinstance(future.exception(), ValueError)
    assert text_of(client.get_task_logs(future)) == "before the end\n"


def test_a_running_task_can_be_read(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(talk_and_wait, str(flag))
    wait_until(
        lambda: text_of(client.get_task_logs(future)) == "still running\n", "the line is there"
    )
    flag.touch()
    future.result()


def test_each_attempt_tells_which_it_was(client):
    future = client.submit(talk_and_fail, retries=2, key="three-attempts")
    future.exception()
    assert [record.attempt for record in client.get_task_logs(future)] == [1, 2, 3]


def test_logs_outlive_the_worker(start):
    client = start(n_workers=1, scheduler_kwargs={"allowed_failures": 0})
    future = client.submit(talk_and_die)
    assert "talk_and_die" in str(future.exception())
    (record,) = client.get_task_logs(future)
    assert record.text == "last words\n"
    assert record.worker not in client.scheduler_info()["workers"]


def test_a_task_that_writes_very_much_keeps_the_end(client):
    future = client.submit(flood, 20_000)
    future.result()
    records = client.get_task_logs(future)
    text = text_of(records)
    assert text.rstrip().rsplit("\n", 1)[-1].startswith("line    19999")
    assert len(text) < 1_000_000


def test_other_work_under_the_same_key_starts_a_new_log(client):
    client.submit(talk, "first", key="reused").result()
    wait_until(lambda: "reused" not in client.who_has(), "the first task is forgotten")
    assert text_of(client.get_task_logs("reused")) == "first\n"
    future = client.submit(talk, "second", "one", key="reused")
    future.result()
    assert text_of(client.get_task_logs("reused")) == "second one\n"


def test_the_workers_log_has_the_last_records(client):
    client.submit(talk, "x", pure=False).result()
    logs = client.get_worker_logs()
    assert set(logs) == set(client.scheduler_info()["workers"])
    assert ("WARNING", "number 1") in [line for lines in logs.values() for line in lines]
    assert all(len(lines) <= 1 for lines in client.get_worker_logs(n=1).values())


def test_the_schedulers_log_tells_of_workers(start):
    client = start(n_workers=1)
    client.submit(talk_and_die, retries=0)
    wait_until(
        lambda: any(level == "WARNING" for level, _ in client.get_scheduler_logs()),
        "the loss is noted",
    )
    assert any("add-worker" in text for _, text in client.get_scheduler_logs())
    assert len(client.get_scheduler_logs(n=1)) == 1
