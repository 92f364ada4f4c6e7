"""Actors whose workers leave in order move with all that was answered."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from taskloom import ActorLostError
from tests import actors
from tests.support import wait_until


def make(client):
    counter = client.submit(actors.Seldom, actor=True).result(timeout=30)
    return counter, *counter.where().result(timeout=30)


def assert_moved(counter, address):
    _, new_address = counter.where().result(timeout=60)
    assert new_address != address


def retire(client, pid, address):
    client.retire_workers([address])


def terminate(client, pid, address):
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: address not in client.scheduler_info()["workers"], "the worker has left")


@pytest.mark.parametrize("leave", [retire, terminate])
def test_an_actor_whose_worker_leaves_in_order_keeps_all_calls(start, leave):
    client = start()
    counter, pid, address = make(client)
    for _ in range(10):
        counter.add(1).result(timeout=30)
    leave(client, pid, address)
    assert counter.n == 10
    assert_moved(counter, address)
    assert counter.add(1).result(timeout=60) == 11


@pytest.mark.parametrize("method", ["add_when", "add_later"])
def test_what_has_begun_ends_first_and_what_waits_behind_it_is_run_elsewhere(
    start, tmp_path, method
):
    client = start()
    counter, _, address = make(client)
    counter.add(1).result(timeout=30)
    begun = getattr(counter, method)(str(tmp_path / "go"))
    behind = [counter.add(1) for _ in range(20)]

    async def retire_meanwhile():
        leaving = asyncio.to_thread(client.retire_workers, [address])
        task = asyncio.ensure_future(leaving)
        later = [counter.add(1) for _ in range(20)]
        (tmp_path / "go").touch()
        await task
        return later

    later = asyncio.run(retire_meanwhile())
    values = [call.result(timeout=60) for call in [*behind, *later]]
    assert values == sorted(values)
    assert 2 <= begun.result(timeout=60) <= 42
    assert counter.n == 42
    assert_moved(counter, address)


def test_a_state_that_cannot_be_saved_falls_back_to_the_last_one_with_a_warning(start):
    client = start()
    counter, _, address = make(client)
    counter.add(5).result(timeout=30)
    assert counter.spoil().result(timeout=30) == "spoiled"
    client.retire_workers([address])
    assert counter.add(1).result(timeout=60) == 1
    logs = [text for _, text in client.get_scheduler_logs()]
    assert any("lock" in text and "Seldom" in text for text in logs), logs


def test_calls_while_a_worker_retires_lose_nothing_and_happen_once(start):
    client = start()
    counter, _, address = make(client)
    calls = [counter.add(1) for _ in range(300)]
    client.retire_workers([address])
    calls += [counter.add(1) for _ in range(300)]
    failed = 0
    values = []
    for call in calls:
        try:
            values.append(call.result(timeout=60))
        except ActorLostError:
            failed += 1
    assert (failed, values) == (0, list(range(1, 601)))


def test_large_answers_on_their_way_arrive_before_the_worker_closes(start):
    client = start()
    counter, _, address = make(client)
    calls = [counter.add_and_read(8) for _ in range(12)]
    calls[0].result(timeout=30)
    client.retire_workers([address])
    answers = [call.result(timeout=60) for call in calls]
    assert [number for number, _ in answers] == list(range(1, 13))
    assert {len(value) for _, value in answers} == {8_000_000}
    assert_moved(counter, address)


def adapt(client, pid, address):
    """Scales down to one worker; the other one has what cannot be spared."""
    client.cluster.adapt(minimum=1, maximum=1, interval="20ms", wait_count=1)


@pytest.mark.parametrize("leave", [retire, adapt])
def test_a_call_that_goes_on_for_too_long_does_not_keep_its_worker(start, tmp_path, leave):
    client = start(scheduler_kwargs={"hand_over_timeout": 0.5})
    counter, pid, address = make(client)
    survivor = next(a for a in client.scheduler_info()["workers"] if a != address)
    kept = client.scatter(b"x" * 100_000, workers=[survivor])
    counter.add(1).result(timeout=30)
    endless = counter.add_when(str(tmp_path / "never"))
    wait_until(lambda: counter.n == 1, "the call is behind the first one")
    leave(client, pid, address)
    with pytest.raises(ActorLostError, match="not known"):
        endless.result(timeout=60)
    assert counter.add(1).result(timeout=60) == 1
    logs = [text for _, text in client.get_scheduler_logs()]
    assert any("within 0.5 s" in text and "Seldom" in text for text in logs), logs
    assert len(kept.result()) == 100_000
