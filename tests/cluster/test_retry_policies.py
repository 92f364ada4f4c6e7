"""retries=Retry(…): pauses, which exceptions, where it may be given."""

import dask
import pytest

from taskloom import Backoff, Retry
from tests import tasks
from tests.support import wait_until


def test_a_policy_says_how_often(client, tmp_path):
    future = client.submit(tasks.fail_times, str(tmp_path / "a"), 2, retries=Retry(3))
    assert future.result(timeout=20) == 3
    future = client.submit(tasks.fail_times, str(tmp_path / "b"), 2, retries=Retry(2))
    with pytest.raises(OSError, match="run 2 fails"):
        future.result(timeout=20)


def test_the_scheduler_keeps_the_pause_and_says_so(client, tmp_path):
    policy = Retry(2, backoff="1 h")
    future = client.submit(tasks.fail_times, str(tmp_path / "a"), 1, retries=policy)
    wait_until(lambda: client.explain(future)["reason"] == "waiting-for-retry", "it is in a pause")
    explained = client.explain(future)
    assert explained["state"] == "waiting"
    assert 3200 < explained["retry_in_s"] < 3970
    # The slot is free meanwhile.
    assert client.submit(tasks.inc, 1).result(timeout=20) == 2
    future.cancel()


def test_a_growing_pause_ends(client, tmp_path):
    policy = Retry(4, backoff=Backoff("10 ms", factor=3, max="50 ms"), jitter=1)
    futures = client.map(
        tasks.fail_times, [str(tmp_path / name) for name in "abc"], [3] * 3, retries=policy
    )
    assert client.gather(futures) == [4, 4, 4]


class Odd(ValueError):
    pass


def odd(path, times):
    tasks.append_line(path, "run")
    with open(path) as file:
        runs = len(file.readlines())
    if runs <= times:
        raise Odd(f"run {runs}")
    return runs


@pytest.mark.parametrize(
    ("policy", "tries_again"),
    [
        (Retry(3, on=ValueError), True),
        (Retry(3, on="ValueError"), True),
        (Retry(3, on=[OSError, Odd]), True),
        (Retry(3, on="Odd", not_on=KeyError), True),
        (Retry(3, on=(OSError, "KeyError")), False),
        (Retry(3, not_on=Odd), False),
        (Retry(3, on=ValueError, not_on="tests.cluster.test_retry_policies.Odd"), False),
    ],
)
def test_only_some_exceptions_are_tried_again(client, tmp_path, policy, tries_again):
    future = client.submit(odd, str(tmp_path / "runs"), 1, retries=policy)
    if tries_again:
        assert future.result(timeout=20) == 2
    else:
        with pytest.raises(Odd, match="run 1"):
            future.result(timeout=20)


def test_a_policy_works_wherever_retries_can_be_given(client, tmp_path):
    policy = Retry(3, backoff=0.001)
    fail = dask.delayed(tasks.fail_times, pure=False)
    assert client.compute(fail(str(tmp_path / "a"), 2), retries=policy).result(timeout=20) == 3
    persisted = client.persist(fail(str(tmp_path / "b"), 2), retries=policy)
    assert persisted.compute() == 3
    with dask.annotate(retries=policy):
        annotated = fail(str(tmp_path / "c"), 2)
        future = client.submit(tasks.fail_times, str(tmp_path / "d"), 2)
    assert future.result(timeout=20) == 3
    with dask.config.set({"optimization.fuse.active": False}):
        assert client.compute(annotated).result(timeout=20) == 3
    view = client.with_options(retries=policy)
    assert view.submit(tasks.fail_times, str(tmp_path / "e"), 2).result(timeout=20) == 3
    assert view.compute(fail(str(tmp_path / "f"), 2)).result(timeout=20) == 3


def test_a_keyword_counts_more_than_an_option_of_the_view(client, tmp_path):
    view = client.with_options(retries=5)
    future = view.submit(tasks.fail_times, str(tmp_path / "a"), 2, retries=1)
    with pytest.raises(OSError, match="run 2 fails"):
        future.result(timeout=20)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Retry(0), ValueError, "max_attempts= must be at least 1"),
        (lambda: Retry("3"), TypeError, "max_attempts= must be an int"),
        (lambda: Retry(2, backoff=-1), ValueError, "backoff= must be a length of time"),
        (lambda: Retry(2, backoff="soon"), ValueError, "backoff="),
        (lambda: Retry(2, jitter=2), ValueError, "jitter= must be from 0 to 1"),
        (lambda: Retry(2, on=3), TypeError, "on= takes exception types or their names, not 3"),
        (lambda: Retry(2, not_on=[int]), TypeError, "not_on= takes exception types"),
        (lambda: Backoff(1, factor=0.5), ValueError, "factor= must be at least 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_policies_are_values():
    assert Retry(3, backoff=(1, 2)) == Retry(3, backoff=[1, "2 s"])
    assert Retry(3) != Retry(4)
    assert len({Retry(3, on=OSError), Retry(3, on=OSError), Retry(3, on=ValueError)}) == 2
    assert "Backoff(1.0" in repr(Retry(3, backoff=Backoff(1)))
