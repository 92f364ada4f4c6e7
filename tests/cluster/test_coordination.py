"""Locks, semaphores and events between clients, tasks and processes that die."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from uuid import uuid4

import pytest

from taskloom import Client, Event, Lock, MultiLock, Queue, Semaphore, Variable, get_worker, secede
from tests.support import wait_until


def count_up(lock: Lock, name: str, times: int) -> None:
    """Adds to a variable by reading and writing it: updates are lost without the lock."""
    counter = Variable(name)
    for _ in range(times):
        with lock:
            counter.set(counter.get() + 1)


async def count_up_async(name: str, times: int) -> None:
    counter = Variable(name)
    for _ in range(times):
        async with Lock(name):
            await counter.set(await counter.get() + 1)


def hold_until(lock_name: str, queue_name: str, event_name: str) -> str:
    """Takes the lock, says who did, and waits."""
    with Lock(lock_name):
        Queue(queue_name).put(get_worker().address)
        Event(event_name).wait()
    return "released"


def take_and_fail(name: str) -> None:
    lock = Lock(name)
    lock.acquire()
    raise RuntimeError("on purpose")


def secedes_and_waits_for(name: str) -> bool:
    secede()
    return waits_for(name)


def waits_for(name: str) -> bool:
    return Event(name).wait()


def sets(name: str) -> None:
    Event(name).set()


def highest(semaphore: Semaphore, name: str) -> int:
    with semaphore:
        return semaphore.get_value()


def test_many_tasks_count_without_losing_an_update(client):
    Variable("n").set(0)
    lock = Lock("n")
    tasks = [client.submit(count_up, lock, "n", 20, pure=False) for _ in range(10)]
    client.gather(tasks)
    assert Variable("n").get() == 200


def test_coroutine_tasks_count_without_losing_an_update(client):
    Variable("m").set(0)
    tasks = [client.submit(count_up_async, "m", 20, pure=False) for _ in range(5)]
    client.gather(tasks)
    assert Variable("m").get() == 100


def test_a_lock_excludes_other_objects_of_its_name(client):
    lock, other = Lock("x"), Lock("x")
    assert lock.acquire() is True
    assert lock.locked()
    assert other.acquire(timeout="10 ms") is False
    assert other.acquire(blocking=False) is False
    assert lock.release() is True
    assert not lock.locked()
    with other:
        assert lock.locked()


def test_a_lock_is_not_released_by_who_does_not_hold_it(client):
    with Lock("y"), pytest.raises(RuntimeError, match="Released too often"):
        Lock("y").release()
    with pytest.raises(ValueError, match="non-blocking"):
        Lock("y").acquire(blocking=False, timeout=1)


def test_a_lock_may_be_made_before_there_is_a_client(cluster):
    lock = Lock("early")
    with pytest.raises(RuntimeError, match="create a Client first"):
        lock.acquire()
    with Client(cluster), lock:
        assert lock.locked()


def test_a_lock_travels_without_its_lease(client):
    lock = Lock("travels")
    with lock:
        copy = pickle.loads(pickle.dumps(lock))
        assert copy.name == "travels"
        assert copy.acquire(blocking=False) is False


def test_the_lock_of_an_object_that_is_gone_is_free(client):
    lock = Lock("dropped")
    lock.acquire()
    waiting = client.submit(count_and_release, "dropped")
    del lock
    assert waiting.result(timeout=20)


def count_and_release(name: str) -> bool:
    with Lock(name) as lock:
        return lock.locked()


def test_the_lock_of_a_task_that_failed_is_free(client):
    with pytest.raises(RuntimeError, match="on purpose"):
        client.submit(take_and_fail, "failed").result()
    assert Lock("failed").acquire(timeout=20)


def test_a_dead_worker_frees_its_lock(start):
    client = start(n_workers=2)
    task = client.submit(hold_until, "l", "who", "go")
    first = Queue("who").get(timeout=20)
    os.kill(client.scheduler_info()["workers"][first]["pid"], signal.SIGKILL)
    # The task runs again, elsewhere or in the new process, and gets the lock.
    Queue("who").get(timeout=20)
    Event("go").set()
    assert task.result(timeout=20) == "released"


PROGRAM = """
import sys, time
from taskloom import Client, Lock, Queue
client = Client(sys.argv[1])
lock = Lock("shared")
lock.acquire()
Queue("ready").put("held")
time.sleep(1000)
"""


def test_a_dead_client_frees_its_lock(client):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, client.scheduler_address])
    try:
        assert Queue("ready").get(timeout=20) == "held"
        lock = Lock("shared")
        assert lock.acquire(timeout="50 ms") is False
        process.kill()
        assert lock.acquire(timeout=20) is True
    finally:
        process.kill()
        process.wait()


def test_tasks_that_secede_and_wait_leave_their_slots_to_others(client):
    # One thread for each worker: the waiting tasks would be in the way of the one that sets.
    waiting = [client.submit(secedes_and_waits_for, "slots", pure=False) for _ in range(4)]
    client.submit(sets, "slots").result(timeout=20)
    assert client.gather(waiting) == [True] * 4


def test_an_event_is_waited_for_set_and_cleared(client):
    event = Event("e")
    assert event.wait(timeout=0.01) is False
    assert event.is_set() is False
    event.set()
    assert event.is_set() is True
    assert Event("e").wait() is True
    event.clear()
    assert event.wait(timeout=0) is False


def test_a_semaphore_bounds_those_who_are_inside(client):
    semaphore = Semaphore(max_leases=2, name="s")
    counts = client.gather(client.map(highest, [semaphore] * 10, ["a"] * 10, pure=False))
    assert max(counts) <= 2
    assert semaphore.get_value() == 0
    assert semaphore.acquire()
    assert semaphore.acquire(timeout=0.1)
    assert semaphore.acquire(timeout=0.01) is False
    assert semaphore.release() is True
    assert semaphore.get_value() == 1
    semaphore.release()
    with pytest.raises(RuntimeError, match="Released too often"):
        semaphore.release()


def test_a_semaphore_has_one_size(client):
    Semaphore(2, "sized").register()
    with pytest.raises(ValueError, match="sized"):
        Semaphore(3, "sized").acquire()
    with pytest.raises(ValueError, match="max_leases"):
        Semaphore(0)


def test_a_closed_semaphore_is_refused_and_says_what_was_open(client):
    semaphore = Semaphore(2, "closing")
    semaphore.acquire()
    with pytest.warns(RuntimeWarning, match="1 unreleased"):
        semaphore.close()
    with pytest.raises(RuntimeError, match="closed"):
        semaphore.acquire()
    assert semaphore.release() is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Semaphore(2, "closing").close()


def test_several_locks_are_held_together(client):
    left, right = MultiLock(["a", "b"]), MultiLock(["b", "c"])
    with left:
        assert left.locked()
        assert right.acquire(timeout=0.01) is False
        assert right.acquire(num_locks=1) is True
        right.release()
    assert not left.locked()
    assert right.acquire() is True
    with pytest.raises(RuntimeError, match="already"):
        right.acquire()
    right.release()
    with pytest.raises(ValueError, match="not yet acquired"):
        right.release()
    with pytest.raises(ValueError, match="cannot acquire 3"):
        right.acquire(num_locks=3)
    with pytest.raises(ValueError, match="cannot acquire 0"):
        MultiLock([]).acquire()


def cross(names: list[str], times: int) -> int:
    for _ in range(times):
        with MultiLock(names):
            pass
    return times


def test_tasks_with_crossing_locks_all_end(client):
    rings = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "b", "c"]]
    assert sum(client.gather(client.map(cross, rings, [20] * 4))) == 80


def test_an_asynchronous_client_awaits(cluster):
    async def program() -> None:
        async with Client(cluster, asynchronous=True) as client:
            lock = await Lock("async")
            async with lock:
                assert await lock.locked()
                assert await Lock("async").acquire(timeout=0.01) is False
                with pytest.raises(TypeError, match="async with"), Lock("async"):
                    pass
            semaphore = await Semaphore(2, "async")
            assert await semaphore.acquire()
            assert await semaphore.get_value() == 1
            await semaphore.release()
            async with MultiLock(["a1", "a2"]):
                pass
            event = Event("async")
            waiting = asyncio.ensure_future(event.wait())
            await client.submit(sets, "async")
            assert await waiting
            assert await event.is_set()

    asyncio.run(program())


def test_a_cancelled_wait_leaves_no_lease_behind(cluster):
    async def program() -> None:
        async with Client(cluster, asynchronous=True):
            holder, other = Lock("cancelled"), Lock("cancelled")
            await holder.acquire()
            waiting = asyncio.ensure_future(other.acquire())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await holder.release()
            # Granted, and never taken.
            unused = holder.acquire()
            unused.close()
            assert await Lock("cancelled").acquire(timeout=20)

    asyncio.run(program())


def test_waits_that_time_out_here_leave_no_lease_behind(cluster):
    async def program() -> None:
        async with Client(cluster, asynchronous=True):
            lock = Lock("wait-for")
            for _ in range(200):
                try:
                    await asyncio.wait_for(lock.acquire(), 0.0002)
                except TimeoutError:
                    continue
                await lock.release()
            assert await Lock("wait-for").acquire(timeout=20)

    asyncio.run(program())


def test_a_closed_client_frees_its_locks(cluster, client):
    with Client(cluster, set_as_default=False) as other:
        lock = Lock("of-other", client=other)
        lock.acquire()
        assert Lock("of-other").locked()
    wait_until(lambda: not Lock("of-other").locked(), "the lock is free")


def test_a_lock_inside_a_lock_of_the_worker_process_does_not_hang(client):
    name = "inner-" + uuid4().hex
    futures = client.map(_locks_twice, range(8), [name] * 8, pure=False)
    assert client.gather(futures) == list(range(8))


_PROCESS_LOCK = threading.Lock()


def _locks_twice(number, name):
    # As libraries do that guard a file against threads and processes, in any order.
    locks = [_PROCESS_LOCK, Lock(name)]
    first, second = locks if number % 2 else reversed(locks)
    with first, second:
        return number
