"""Time-outs and cancelled runs: what is interrupted, and what is not."""

import asyncio
import os
import random
import threading
import time

import dask
import pytest

from taskloom import CancelledError, Client, Retry, TaskCancelled, TaskTimeout, get_client, wait
from tests import tasks
from tests.support import wait_until


def spin(log, seconds=30):
    """Run Python code until the time is over; tell what ended it."""
    try:
        tasks.append_line(log, "started")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sum(range(1000))
    except BaseException as error:
        tasks.append_line(log, type(error).__name__)
        raise
    return "ran to its end"


async def sleep_async(log, seconds=30):
    tasks.append_line(log, "started")
    try:
        await asyncio.sleep(seconds)
    except BaseException as error:
        tasks.append_line(log, type(error).__name__)
        raise
    return "slept to its end"


def make_coroutine(log):
    """A plain function that gives a coroutine."""
    return sleep_async(log)


@pytest.fixture(autouse=True)
def loaded(client):
    """Workers that have imported this module: that takes time, and would count."""
    client.run(short, 1)


def has_line(path, text):
    return lambda: path.exists() and text in path.read_text().splitlines()


def partial_result():
    """Give what there is when the time is over."""
    steps = 0
    try:
        while True:
            steps += 1
            time.sleep(0.001)
    except TaskTimeout:
        return steps > 0


def ask_for_another(flag):
    return get_client().submit(tasks.wait_for_file, flag).result()


def hold_the_interpreter():
    """C code that neither returns nor lets others in: only the process's end helps."""
    return sum(range(10**13))


def swallow(log, flag):
    """Catch every interrupt, wherever it comes, and go on."""
    is_told = False
    while True:
        try:
            if not is_told:
                tasks.append_line(log, "started")
                is_told = True
            while not os.path.exists(flag):
                time.sleep(0.01)
            return "went on"
        except BaseException as error:  # noqa: BLE001
            tasks.append_line(log, type(error).__name__)


# Time-outs ----------------------------------------------------------------------------------

#: Seconds after which a run of these tests is in the midst of its function on any machine: what
#: ends a run before its function has begun, the function can neither note nor catch.
IN_THE_RUN = 1.5


def test_a_task_beyond_its_timeout_gets_an_exception(client, tmp_path):
    log = tmp_path / "log"
    future = client.with_options(timeout=IN_THE_RUN).submit(spin, str(log), key="slow-one")
    with pytest.raises(
        TaskTimeout, match=r"slow-one took longer than its timeout of 1\.5 s"
    ) as info:
        future.result(timeout=20)
    assert isinstance(info.value, TimeoutError)
    assert (info.value.key, info.value.limit, info.value.hard) == ("slow-one", IN_THE_RUN, False)
    assert log.read_text().split()[-1] == "TaskTimeout"


@pytest.mark.parametrize("function", [sleep_async, make_coroutine])
def test_a_coroutine_beyond_its_timeout_is_cancelled(client, tmp_path, function):
    log = tmp_path / "log"
    future = client.with_options(timeout=IN_THE_RUN).submit(function, str(log))
    with pytest.raises(TaskTimeout, match=r"timeout of 1\.5 s"):
        future.result(timeout=20)
    assert log.read_text().split() == ["started", "CancelledError"]


def test_a_task_may_use_the_exception_to_return_what_it_has(client):
    view = client.with_options(timeout=IN_THE_RUN)
    assert view.submit(partial_result).result(timeout=30) is True


def test_a_task_in_time_is_not_touched(client):
    view = client.with_options(timeout=30, hard_timeout=60)
    assert client.gather(view.map(tasks.inc, range(200))) == list(range(1, 201))


def test_time_in_queues_does_not_count(client, tmp_path):
    flag = tmp_path / "go"
    blockers = [client.submit(tasks.wait_for_file, str(flag), pure=False) for _ in range(4)]
    future = client.with_options(timeout=2).submit(tasks.inc, 1)
    with pytest.raises(TimeoutError, match="not done"):
        future.result(timeout=2.2)
    flag.touch()
    assert future.result(timeout=20) == 2
    client.gather(blockers)


def test_a_timed_out_attempt_is_tried_again(client, tmp_path):
    log = tmp_path / "log"
    policy = Retry(2, on=TimeoutError)
    future = client.with_options(timeout=IN_THE_RUN, retries=policy).submit(spin, str(log))
    with pytest.raises(TaskTimeout):
        future.result(timeout=20)
    assert log.read_text().split().count("TaskTimeout") == 2


def test_a_wait_for_another_task_ends_with_the_timeout(client, tmp_path):
    flag = tmp_path / "never"
    future = client.with_options(timeout=0.2).submit(ask_for_another, str(flag))
    with pytest.raises(TaskTimeout):
        future.result(timeout=30)
    flag.touch()


def test_annotations_of_graphs_set_timeouts(client, tmp_path):
    with dask.annotate(timeout="100 ms"):
        slow = dask.delayed(spin, pure=False)(str(tmp_path / "log"))
        future = client.submit(spin, str(tmp_path / "other"))
    with pytest.raises(TaskTimeout):
        client.compute(slow).result(timeout=20)
    with pytest.raises(TaskTimeout):
        future.result(timeout=20)
    view = client.with_options(timeout="100 ms")
    with pytest.raises(TaskTimeout):
        view.compute(dask.delayed(spin, pure=False)(str(tmp_path / "third"))).result(timeout=20)


def test_a_hard_timeout_replaces_the_process_and_spares_the_innocent(start, tmp_path):
    client = start(n_workers=1, threads_per_worker=2)
    before = set(client.run(os.getpid).values())
    innocent = client.submit(tasks.touch_and_wait, str(tmp_path / "in"), str(tmp_path / "go"))
    wait_until((tmp_path / "in").exists, "the innocent task runs")
    guilty = client.with_options(hard_timeout=0.3).submit(hold_the_interpreter, key="guilty")
    with pytest.raises(TaskTimeout, match=r"guilty ran for .* hard_timeout of 0\.3 s") as info:
        guilty.result(timeout=30)
    assert info.value.hard
    (tmp_path / "go").touch()
    assert innocent.result(timeout=30) == str(tmp_path / "go")
    assert client.explain(innocent)["suspicions"] == 0
    assert not before & set(client.run(os.getpid).values())


def test_a_hard_timeout_where_no_process_can_be_replaced_gives_the_thread_up(tmp_path):
    with Client(processes=False, n_workers=1, threads_per_worker=1) as client:
        log, flag = tmp_path / "log", tmp_path / "go"
        view = client.with_options(hard_timeout=0.2)
        with pytest.raises(TaskTimeout, match="its thread is given up"):
            view.submit(swallow, str(log), str(flag)).result(timeout=20)
        assert client.submit(tasks.inc, 1).result(timeout=20) == 2
        flag.touch()


# Cancelling ---------------------------------------------------------------------------------


def test_cancelling_interrupts_a_thread(client, tmp_path):
    log = tmp_path / "log"
    future = client.submit(spin, str(log))
    wait_until(has_line(log, "started"), "the task runs")
    client.cancel(future, msg="not needed")
    with pytest.raises(CancelledError, match="not needed"):
        future.result(timeout=20)
    wait_until(has_line(log, "TaskCancelled"), "the thread is interrupted")


@pytest.mark.parametrize("function", [sleep_async, make_coroutine])
def test_cancelling_interrupts_a_coroutine(client, tmp_path, function):
    log = tmp_path / "log"
    future = client.submit(function, str(log))
    wait_until(has_line(log, "started"), "the task runs")
    future.cancel()
    wait_until(has_line(log, "CancelledError"), "the coroutine is cancelled")


def test_a_released_task_runs_on(client, tmp_path):
    log = tmp_path / "log"
    future = client.submit(spin, str(log), 0.5)
    wait_until(has_line(log, "started"), "the task runs")
    del future
    client.submit(tasks.inc, 1).result(timeout=20)
    assert log.read_text().split() == ["started"]


def test_a_run_that_another_client_wants_is_not_interrupted(client, cluster, tmp_path):
    with Client(cluster, set_as_default=False) as other:
        log, flag = tmp_path / "log", tmp_path / "go"
        mine = client.submit(swallow, str(log), str(flag), key="shared-run")
        theirs = other.submit(swallow, str(log), str(flag), key="shared-run")
        wait_until(has_line(log, "started"), "the task runs")
        # Answered after what `other` has said before.
        assert "shared-run" in other.who_has()
        client.cancel(mine)
        flag.touch()
        assert theirs.result(timeout=20) == "went on"
        assert log.read_text().split() == ["started"]


def test_force_replaces_the_process_of_a_run_that_does_not_end(start, tmp_path):
    client = start(n_workers=1)
    before = client.run(os.getpid)
    log, flag = tmp_path / "log", tmp_path / "never"
    # Long enough that the interrupt is noted before the process ends.
    view = client.with_options(cancel_grace="2 s")
    future = view.submit(swallow, str(log), str(flag))
    wait_until(has_line(log, "started"), "the task runs")
    client.cancel(future, force=True)
    wait_until(has_line(log, "TaskCancelled"), "it was interrupted first")
    addresses = lambda: set(client.scheduler_info()["workers"])  # noqa: E731
    wait_until(lambda: addresses() and not addresses() & set(before), "another process")
    assert client.submit(tasks.inc, 1).result(timeout=20) == 2


def test_without_a_grace_the_process_stays(client, tmp_path):
    pids = set(client.run(os.getpid).values())
    log, flag = tmp_path / "log", tmp_path / "go"
    future = client.submit(swallow, str(log), str(flag))
    wait_until(has_line(log, "started"), "the task runs")
    client.cancel(future)
    wait_until(has_line(log, "TaskCancelled"), "it was interrupted")
    assert client.gather(client.map(tasks.inc, range(10))) == list(range(1, 11))
    flag.touch()
    assert set(client.run(os.getpid).values()) == pids


def short(number):
    """A few instructions of Python, with room for an interrupt between any two."""
    total = 0
    for step in range(number % 50 * 20):
        total += step
    return number


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupt_never_meets_another_task_or_the_runtime(client, seed):
    """Thousands of short tasks, cancelled and timed out at any point of their lives."""
    chance = random.Random(seed)
    view = client.with_options(timeout=0.0005)
    timed_out = 0
    for round_ in range(40):
        first = (seed * 40 + round_) * 1000
        spared = client.map(short, range(first, first + 60))
        hunted = client.map(short, range(first + 100, first + 160))
        hasty = view.map(short, range(first + 200, first + 260))
        for future in chance.sample(hunted, 40):
            future.cancel()
        assert client.gather(spared) == list(range(first, first + 60))
        wait(hasty)
        for number, future in enumerate(hasty):
            error = future.exception()
            # Either its own time-out or its own result, and nothing else.
            if error is None:
                assert future.result() == first + 200 + number
            else:
                assert type(error) is TaskTimeout, repr(error)
                assert error.key == future.key
                timed_out += 1
        for number, future in enumerate(hunted):
            if not future.cancelled():
                assert future.result(timeout=20) == first + 100 + number
    for names in client.run(thread_names).values():
        assert any("executor" in name for name in names), "the executor threads live"


def thread_names():
    return [thread.name for thread in threading.enumerate()]


def test_a_cancelled_task_does_not_count_as_an_error_of_its_own_kind():
    assert issubclass(TaskCancelled, BaseException)
    assert not issubclass(TaskCancelled, Exception)


# Options ------------------------------------------------------------------------------------


def test_options_that_make_no_sense_are_refused(client):
    with pytest.raises(ValueError, match="timeout= must be more than 0"):
        client.with_options(timeout=0)
    with pytest.raises(ValueError, match=r"hard_timeout=1.0 must be more than timeout=2.0"):
        client.with_options(timeout=2, hard_timeout=1)
    with pytest.raises(ValueError, match="cancel_grace= must be a length of time"):
        client.with_options(cancel_grace=-1)
    with pytest.raises(TypeError, match="timeout= takes seconds"):
        client.with_options(timeout=True)
    with pytest.raises(TypeError, match="unexpected keyword"):
        client.with_options(timeuot=1)


def test_a_view_is_the_same_client(client):
    view = client.with_options(priority=3).with_options(timeout=5)
    assert isinstance(view, Client)
    assert view._given_options == {"priority": 3, "timeout": 5}
    assert client._given_options == {}
    assert view.id == client.id
    future = view.submit(tasks.inc, 1)
    assert future.client is client
    assert client.gather(future) == 2
    # The keywords of the user's function stay the user's.
    assert view.submit(tasks.keywords, timeout=3, window=4).result() == (
        (),
        {"timeout": 3, "window": 4},
    )


def test_closing_a_view_closes_the_client(cluster):
    client = Client(cluster)
    view = client.with_options(timeout=5)
    view.close()
    assert client.status == view.status == "closed"
