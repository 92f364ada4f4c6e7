"""cancel, retry, retries=, Reschedule."""

import pytest

from taskloom import CancelledError, Client, Reschedule, wait
from tests import tasks
from tests.support import let_arrive, wait_until


def test_a_cancelled_future_says_so(client, tmp_path):
    flag = tmp_path / "go"
    blockers = [client.submit(tasks.wait_for_file, str(flag), pure=False) for _ in range(2)]
    future = client.submit(tasks.append_line, str(tmp_path / "log"), "ran")
    future.cancel()
    assert future.cancelled()
    assert future.status == "cancelled"
    with pytest.raises(CancelledError):
        future.result(timeout=20)
    let_arrive(client)
    flag.touch()
    client.gather(blockers)
    assert client.submit(tasks.inc, 1).result() == 2
    assert not (tmp_path / "log").exists()


def test_cancelling_tells_reason_and_message(client, tmp_path):
    flag = tmp_path / "go"
    future = client.submit(tasks.wait_for_file, str(flag))
    client.cancel([future], reason="changed-mind", msg="not needed any more")
    with pytest.raises(CancelledError, match="not needed any more"):
        future.result(timeout=20)
    flag.touch()


def test_dependents_of_a_cancelled_task_are_cancelled(client, tmp_path):
    flag = tmp_path / "go"
    a = client.submit(tasks.wait_for_file, str(flag))
    b = client.submit(tasks.identity, a)
    c = client.submit(tasks.identity, b)
    a.cancel()
    wait_until(lambda: b.cancelled() and c.cancelled(), "dependents are cancelled")
    flag.touch()


def test_a_cancelled_task_that_runs_on_holds_no_other_up(client, tmp_path):
    flag, log = tmp_path / "go", tmp_path / "log"
    running = client.submit(tasks.touch_and_wait, str(log), str(flag))
    wait_until(log.exists, "the task runs")
    running.cancel()
    futures = client.map(tasks.inc, range(20))
    try:
        wait(futures, timeout=20)
    finally:
        flag.touch()
    assert client.gather(futures) == list(range(1, 21))


def test_a_cancelled_key_can_be_submitted_again(client, tmp_path):
    log = tmp_path / "log"
    first = client.submit(tasks.touch_and_sleep, str(log), 0.2)
    wait_until(log.exists, "the task runs")
    first.cancel()
    again = client.submit(tasks.touch_and_sleep, str(log), 0.2)
    assert again.result(timeout=20) == str(log)


def test_cancel_spares_what_another_client_wants_unless_forced(client, cluster, tmp_path):
    with Client(cluster, set_as_default=False) as other:
        flag = tmp_path / "go"
        mine = client.submit(tasks.wait_for_file, str(flag), key="wanted-twice")
        theirs = other.submit(tasks.wait_for_file, str(flag), key="wanted-twice")
        wait_until(lambda: "wanted-twice" in other.who_has(), "both hold the key")
        client.cancel([mine])
        flag.touch()
        assert theirs.result(timeout=20) == str(flag)

        flag2 = tmp_path / "go2"
        mine = client.submit(tasks.wait_for_file, str(flag2), key="forced")
        theirs = other.submit(tasks.wait_for_file, str(flag2), key="forced")
        other.who_has()
        client.cancel([mine], force=True)
        wait_until(theirs.cancelled, "force cancels for all")
        flag2.touch()


def test_waiting_for_a_cancelled_future_ends(client, tmp_path):
    from taskloom import as_completed

    flag = tmp_path / "go"
    futures = [client.submit(tasks.wait_for_file, str(flag), pure=False) for _ in range(3)]
    client.cancel(futures[0])
    flag.touch()
    assert len(list(as_completed(futures))) == 3
    assert client.gather(futures, errors="skip") == [str(flag)] * 2


def test_retries_run_the_task_again(client, tmp_path):
    future = client.submit(tasks.fail_times, str(tmp_path / "a"), 2, retries=2)
    assert future.result(timeout=20) == 3
    future = client.submit(tasks.fail_times, str(tmp_path / "b"), 2, retries=1)
    with pytest.raises(OSError, match="run 2 fails"):
        future.result(timeout=20)
    futures = client.map(tasks.fail_times, [str(tmp_path / "c")], [1], retries=5)
    assert client.gather(futures) == [2]


def test_retry_runs_a_failed_task_and_its_dependents_again(client, tmp_path):
    bad = client.submit(tasks.fail_times, str(tmp_path / "a"), 1)
    dependent = client.submit(tasks.inc, bad)
    with pytest.raises(OSError, match="run 1 fails"):
        dependent.result(timeout=20)
    client.retry([dependent])
    assert dependent.result(timeout=20) == 3
    other = client.submit(tasks.fail_times, str(tmp_path / "b"), 1)
    wait_until(other.done, "failed once")
    other.retry()
    assert other.result(timeout=20) == 2


def test_reschedule_gives_the_task_back(client, tmp_path):
    path = str(tmp_path / "runs")

    def twice():
        tasks.append_line(path, "run")
        with open(path) as file:
            if len(file.readlines()) < 3:
                raise Reschedule
        return "done"

    assert client.submit(twice).result(timeout=20) == "done"
