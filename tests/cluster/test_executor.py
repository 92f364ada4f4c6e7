"""client.get_executor(): an ordinary concurrent.futures.Executor."""

import concurrent.futures as cf

import pytest

from tests import tasks


def test_submit_returns_a_real_future(client):
    with client.get_executor() as executor:
        future = executor.submit(tasks.add, 1, y=2)
        assert isinstance(future, cf.Future)
        assert future.result(timeout=20) == 3


def test_errors_and_callbacks_behave_as_in_the_library(client):
    seen = []
    with client.get_executor() as executor:
        bad = executor.submit(tasks.fail, "boom")
        bad.add_done_callback(seen.append)
        with pytest.raises(ValueError, match="boom"):
            bad.result(timeout=20)
    assert seen == [bad]


def test_wait_and_as_completed_of_the_library_accept_its_futures(client):
    with client.get_executor() as executor:
        futures = [executor.submit(tasks.inc, i) for i in range(20)]
        assert sorted(f.result() for f in cf.as_completed(futures, timeout=20)) == list(
            range(1, 21)
        )
        done, not_done = cf.wait(futures, timeout=20)
        assert (len(done), len(not_done)) == (20, 0)


def test_map_is_ordered_and_lazy_on_results(client):
    with client.get_executor() as executor:
        assert list(executor.map(tasks.add, range(10), range(10))) == [2 * i for i in range(10)]
        iterator = executor.map(tasks.fail_for, range(5), [3] * 5)
        assert [next(iterator) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="bad input 3"):
            next(iterator)


def test_map_gives_up_after_its_timeout(client, tmp_path):
    with client.get_executor() as executor:
        flag = tmp_path / "go"
        with pytest.raises(TimeoutError):
            list(executor.map(tasks.wait_for_file, [str(flag)], timeout=0.05))
        flag.touch()


def test_cancelling_cancels_the_task(client, tmp_path):
    with client.get_executor(pure=False) as executor:
        flag, log = tmp_path / "go", tmp_path / "log"
        blockers = [executor.submit(tasks.wait_for_file, str(flag)) for _ in range(2)]
        waiting = executor.submit(tasks.append_line, str(log), "ran")
        assert waiting.cancel()
        flag.touch()
        cf.wait(blockers, timeout=20)
        assert waiting.cancelled()
        assert executor.submit(tasks.inc, 1).result(timeout=20) == 2
    assert not log.exists()


def test_after_shutdown_new_work_is_refused(client):
    executor = client.get_executor()
    future = executor.submit(tasks.slow_inc, 1)
    executor.shutdown(wait=True)
    assert future.result() == 2
    with pytest.raises(RuntimeError):
        executor.submit(tasks.inc, 1)


def test_only_keywords_of_submit_are_accepted(client):
    client.get_executor(pure=False, retries=1, priority=2, workers=None).shutdown()
    with pytest.raises(TypeError):
        client.get_executor(colour="blue")
