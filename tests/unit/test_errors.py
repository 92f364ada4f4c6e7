"""The tree of exceptions, and where it meets those of the library."""

import asyncio
import concurrent.futures

import taskloom


def test_cancelled_errors_are_those_of_concurrent_futures():
    assert issubclass(taskloom.CancelledError, concurrent.futures.CancelledError)
    assert issubclass(taskloom.FutureCancelledError, taskloom.CancelledError)
    assert issubclass(taskloom.FuturesCancelledError, taskloom.CancelledError)


def test_time_outs_are_the_builtin_one():
    assert issubclass(taskloom.TimeoutError, TimeoutError)
    assert issubclass(taskloom.TimeoutError, asyncio.TimeoutError)


def test_a_closed_client_is_a_runtime_error():
    assert issubclass(taskloom.ClosedClientError, RuntimeError)


def test_own_errors_have_one_root():
    for error in (taskloom.KilledWorker, taskloom.ClosedClientError, taskloom.KeyCollisionError):
        assert issubclass(error, taskloom.TaskloomError)


def test_collision_warnings_can_be_turned_into_errors_by_category():
    assert issubclass(taskloom.KeyCollisionWarning, UserWarning)


def test_cancelled_errors_survive_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(taskloom.CancelledError("gone")))
    assert isinstance(error, taskloom.CancelledError)
    assert "gone" in str(error)
