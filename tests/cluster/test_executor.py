"""client.get_executor(): an ordinary concurrent.futures.Executor."""

import concurrent.futures as cf

import pytest

from tests import tasks
from tests.support import let_arrive, wait_until


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
    # The library calls back after it has woken those who wait.
    wait_until(lambda: seen, "it is called back")
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
        let_arrive(client)
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


def test_shutdown_can_cancel_what_has_not_ended(client, tmp_path):
    executor = client.get_executor()
    flag, log = str(tmp_path / "go"), str(tmp_path / "log")
    running = [executor.submit(tasks.wait_for_file, flag) for _ in range(2)]
    waiting = executor.submit(tasks.append_line, log, "ran")
    results = executor.map(tasks.append_line, [log] * 3, ["a", "b", "c"])
    executor.shutdown(wait=True, cancel_futures=True)
    assert waiting.cancelled()
    assert all(future.done() for future in running)
    with pytest.raises(cf.CancelledError):
        next(results)
    let_arrive(client)
    (tmp_path / "go").touch()
    assert client.submit(tasks.inc, 1, pure=False).result(timeout=20) == 2
    assert not (tmp_path / "log").exists()


def test_shutdown_waits_for_calls_of_map(client, tmp_path):
    log = tmp_path / "log"
    with client.get_executor() as executor:
        results = executor.map(tasks.append_line, [str(log)] * 4, "abcd")
    assert sorted(log.read_text().split()) == list("abcd")
    assert list(results) == list("abcd")


def test_shutdown_without_waiting_lets_calls_end(client):
    executor = client.get_executor()
    future = executor.submit(tasks.slow_inc, 1)
    executor.shutdown(wait=False)
    executor.shutdown(wait=False)
    assert future.result(timeout=20) == 2


def test_map_after_shutdown_is_refused(client):
    executor = client.get_executor()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(tasks.inc, [1])


def test_map_takes_iterators_and_ends_with_the_shortest(client):
    with client.get_executor() as executor:
        assert list(executor.map(tasks.add, iter([1, 2, 3]), iter([10, 20]))) == [11, 22]
        assert list(executor.map(tasks.inc, [])) == []
        assert list(executor.map(tasks.add, [1, 2, 3], [1, 1, 1], chunksize=2)) == [2, 3, 4]


def test_a_buffer_bounds_how_far_map_is_ahead(client):
    import itertools

    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    with client.get_executor() as executor:
        results = executor.map(tasks.inc, numbers(), buffersize=3)
        assert taken == [0, 1, 2]
        assert [next(results) for _ in range(5)] == [1, 2, 3, 4, 5]
        assert len(taken) == 8
        results.close()


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "3"}, TypeError),
        ({"colour": "blue"}, TypeError),
    ],
)
def test_bad_keywords_of_map_are_refused_before_anything_runs(client, keywords, error):
    with client.get_executor() as executor, pytest.raises(error):
        executor.map(tasks.inc, [1], **keywords)


def test_keywords_go_to_the_function_whatever_their_name(client):
    with client.get_executor() as executor:
        future = executor.submit(tasks.keywords, workers=1, key="k", pure=2, fn=3)
        assert future.result(timeout=20) == ((), {"workers": 1, "key": "k", "pure": 2, "fn": 3})


def test_callbacks_run_once_also_when_they_raise_or_come_late(client):
    seen = []

    def note(future):
        seen.append(future.result())
        raise ValueError("only logged")

    with client.get_executor() as executor:
        future = executor.submit(tasks.inc, 1)
        future.add_done_callback(note)
        cf.wait([future], timeout=20)
    # The library calls back after it has woken those who wait.
    wait_until(lambda: seen, "it is called back")
    future.add_done_callback(note)
    assert seen == [2, 2]


def test_wait_of_the_library_sees_the_first_exception(client, tmp_path):
    with client.get_executor() as executor:
        bad = executor.submit(tasks.fail)
        slow = executor.submit(tasks.wait_for_file, str(tmp_path / "go"))
        done, not_done = cf.wait([bad, slow], return_when=cf.FIRST_EXCEPTION, timeout=20)
        assert (done, not_done) == ({bad}, {slow})
        (tmp_path / "go").touch()


def test_a_task_that_is_cancelled_on_the_cluster_is_cancelled_here(client, tmp_path):
    with client.get_executor() as executor:
        future = executor.submit(tasks.wait_for_file, str(tmp_path / "go"))
        client.cancel(future._task)
        with pytest.raises(cf.CancelledError):
            future.result(timeout=20)
        assert future.cancelled()
        (tmp_path / "go").touch()


def test_a_result_that_cannot_be_unpickled_is_an_error_of_its_future(client):
    class Hopeless:
        def __reduce__(self):
            return (int, ("no number",))

    with client.get_executor() as executor:
        future = executor.submit(lambda: [Hopeless()])
        with pytest.raises(ValueError, match="no number"):
            future.result(timeout=20)


def test_calls_are_not_shared_unless_asked_for(client, tmp_path):
    log = tmp_path / "log"
    with client.get_executor() as executor:
        cf.wait([executor.submit(tasks.append_line, str(log), "ran") for _ in range(3)])
    assert log.read_text() == "ran\n" * 3
    with client.get_executor(pure=True) as executor:
        cf.wait([executor.submit(tasks.append_line, str(log), "pure") for _ in range(3)])
    assert log.read_text().count("pure") == 1
