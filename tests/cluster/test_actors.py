"""Actors: objects on a worker, called from clients, tasks and each other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading

import pytest

import taskloom
from taskloom import Actor, ActorFuture, ActorLostError, BaseActorFuture, Client
from tests import actors, tasks
from tests.support import kill_worker, wait_until, worker_pids


def make(client, cls, *args, **kwargs):
    return client.submit(cls, *args, actor=True, **kwargs).result(timeout=30)


# Calls ----------------------------------------------------------------------------------------


def test_methods_are_called_where_the_actor_lives_and_change_its_state(client):
    future = client.submit(actors.Counter, 5, actor=True)
    counter = future.result()
    assert isinstance(counter, Actor)
    assert repr(counter) == f"<Actor: Counter, key={future.key}>"
    call = counter.add(10)
    assert isinstance(call, ActorFuture)
    assert isinstance(call, BaseActorFuture)
    assert call.result() == 15
    assert call.done()
    assert call.result(timeout=0) == 15
    assert counter.n == 15
    pid, address = counter.where().result()
    assert worker_pids(client)[address] == pid


def test_attributes_are_read_remotely_also_those_that_only_the_object_has(client):
    counter = make(client, actors.Counter)
    assert (counter.n, counter.label) == (0, "mine")
    assert {"add", "fail", "n"} <= set(dir(counter))


def test_what_an_actor_does_not_have_is_an_attribute_error(client):
    counter = make(client, actors.Counter)
    with pytest.raises(AttributeError, match=r"Counter.*no_such_thing"):
        counter.no_such_thing  # noqa: B018
    with pytest.raises(AttributeError, match="_private"):
        counter._private  # noqa: B018
    assert not hasattr(counter, "__array__")


def test_an_exception_comes_back_with_its_traceback_and_the_actor_goes_on(client):
    counter = make(client, actors.Counter)
    call = counter.fail("on purpose")
    for _ in range(2):
        with pytest.raises(ValueError, match="on purpose") as caught:
            call.result()
    assert "fail" in [entry.name for entry in caught.traceback]
    assert counter.n == 1


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_call(client):
    counter = make(client, actors.Counter)
    with pytest.raises(TypeError, match="could not serialize"):
        counter.unpicklable().result()
    with pytest.raises(TypeError):
        counter.add(threading.Lock())
    assert counter.add(1).result() == 1


def test_calls_of_one_caller_run_one_at_a_time_in_the_order_sent(client):
    journal = make(client, actors.Journal)
    calls = [journal.write(i) for i in range(200)]
    assert [call.result() for call in calls] == [None] * 200
    assert journal.read().result() == list(range(200))


def test_calls_of_several_threads_do_not_run_at_the_same_time(client):
    journal = make(client, actors.Journal)

    def write(name):
        for number in range(30):
            journal.write((name, number)).result()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    lines = journal.read().result()
    for name in range(4):
        assert [line for line in lines if line[0] == name] == [(name, n) for n in range(30)]


def test_futures_and_proxies_among_arguments_are_resolved_on_the_worker(client):
    store = make(client, actors.Store)
    counter = make(client, actors.Counter)
    future = client.submit(tasks.inc, 1)
    assert store.keep(future, [future, {"x": future}], named=future).result() == 3
    assert store.get().result() == [2, [2, {"x": 2}], 2]
    failing = client.submit(tasks.fail, "no")
    with pytest.raises(Exception, match="no"):
        store.keep(failing).result()
    store.keep(counter).result()
    kept = store.get().result()[-1]
    assert kept.add(3).result() == 3


def test_large_arguments_and_results_travel_as_buffers(client):
    np = pytest.importorskip("numpy")
    store = make(client, actors.Store)
    array = np.arange(500_000.0)
    assert store.size(array).result() == array.nbytes
    store.keep(array, b"x" * 100_000).result()
    found = store.get().result()
    assert (found[0] == array).all()
    assert found[1] == b"x" * 100_000


def test_a_call_that_takes_too_long_times_out_and_goes_on(client, tmp_path):
    blocker = make(client, actors.Blocker)
    call = blocker.run(str(tmp_path / "go"))
    with pytest.raises(TimeoutError, match="run of actor"):
        call.result(timeout="50 ms")
    assert not call.done()
    (tmp_path / "go").touch()
    assert call.result(timeout=30) == "done"


def test_an_attribute_is_read_while_a_method_runs_and_the_worker_does_other_work(client, tmp_path):
    blocker = make(client, actors.Blocker, workers=0)
    other = make(client, actors.Counter, workers=0)
    call = blocker.run(str(tmp_path / "go"))
    wait_until(lambda: blocker.state == "running", "the method runs")
    assert other.add(1).result(timeout=30) == 1
    assert client.submit(tasks.inc, 1, workers=0, pure=False).result(timeout=30) == 2
    (tmp_path / "go").touch()
    assert call.result() == "done"


def test_two_waiters_in_one_thread_for_one_answer_both_get_it(cluster):
    # D33: each waits on its own.
    async def program():
        async with Client(cluster, asynchronous=True) as client:
            counter = await client.submit(actors.Counter, actor=True)
            call = counter.stuck(0.05)
            return await asyncio.gather(call, call, call)

    assert asyncio.run(program()) == ["awake"] * 3


def test_several_threads_wait_for_one_answer(client):
    counter = make(client, actors.Counter)
    call = counter.stuck(0.05)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: call.result(), range(4))) == ["awake"] * 4


# Coroutine methods, asynchronous clients -------------------------------------------------------


def test_coroutine_methods_run_beside_each_other(client):
    gate = make(client, actors.Gate)
    calls = [gate.wait() for _ in range(3)]
    wait_until(lambda: gate.waiting == 3, "all three wait")
    assert gate.open().result() == 3
    assert [call.result() for call in calls] == ["open"] * 3
    with pytest.raises(KeyError, match="async"):
        gate.fail().result()


def test_an_asynchronous_client_awaits_calls_and_attributes(cluster):
    async def program():
        async with Client(cluster, asynchronous=True) as client:
            counter = await client.submit(actors.Counter, 1, actor=True)
            assert await counter.add(2) == 3
            assert await counter.add(2).result() == 5
            assert await counter.n == 5
            with pytest.raises(AttributeError):
                await counter.no_such_thing
            with pytest.raises(AttributeError, match="no_such_thing"):
                counter.no_such_thing(1)
            with pytest.raises(TimeoutError):
                await counter.stuck(20).result(timeout=0.01)

    asyncio.run(program())


# Tasks, other clients, other actors ------------------------------------------------------------


def test_tasks_call_actors_that_they_get_as_future_or_as_proxy(client):
    future = client.submit(actors.Counter, actor=True)
    counter = future.result()
    assert client.submit(actors.add_by, future, 1).result(timeout=30) == 1
    assert client.submit(actors.add_by, counter, 10).result(timeout=30) == 11
    total = client.map(actors.add_by, [counter] * 20, range(20), pure=False)
    client.gather(total)
    assert counter.n == 11 + sum(range(20))
    amounts = client.submit(actors.add_by_coroutine, counter, 1).result(timeout=30)
    assert amounts[0] == counter.n == amounts[1]


def test_a_task_that_waits_for_an_actor_leaves_its_slot(client):
    counter = make(client, actors.Counter, workers=0)
    futures = client.map(actors.add_by, [counter] * 4, [1] * 4, workers=0, pure=False)
    assert sorted(client.gather(futures)) == [1, 2, 3, 4]


def test_a_proxy_that_a_task_returns_keeps_its_actor_alive(client):
    future = client.submit(actors.make_within, 1)
    value, counter = future.result(timeout=30)
    assert value == 2
    del future
    assert counter.add(1).result(timeout=30) == 3


def test_a_proxy_works_in_another_client_by_its_pickle(client, cluster):
    counter = make(client, actors.Counter, 7)
    with Client(cluster, set_as_default=False):
        same = pickle.loads(pickle.dumps(counter))
        assert same.add(1).result() == 8
    assert counter.n == 8


def test_an_actor_calls_itself_without_waiting_for_itself(client):
    counter = make(client, actors.Counter)
    assert counter.ask_oneself(counter).result(timeout=30) == (1, 1)
    gate = make(client, actors.Gate)
    assert gate.ask_oneself(gate).result(timeout=30) == "through"


@pytest.mark.parametrize("place", [0, 1])
def test_an_actor_calls_another_on_the_same_and_on_another_worker(client, place):
    first = make(client, actors.Counter, workers=0)
    second = make(client, actors.Counter, workers=place)
    assert first.ask(second).result(timeout=30) == 1


def test_an_actor_submits_tasks(client):
    counter = make(client, actors.Counter, 4)
    assert counter.run_task().result(timeout=30) == 7


def test_map_makes_actors_that_are_spread_over_the_workers(start, tmp_path):
    # They are made at the same time: what waits at a worker that is stuck is made elsewhere.
    client = start(threads_per_worker=2)
    paths = [str(tmp_path)] * 4
    counters = client.gather(client.map(actors.Meeting, paths, range(4), count=4, actor=True))
    assert [counter.n for counter in counters] == [0, 1, 2, 3]
    places = [counter.where().result()[1] for counter in counters]
    assert sorted(places.count(place) for place in set(places)) == [2, 2]


def test_two_equal_submissions_are_two_actors(client):
    futures = [client.submit(actors.Counter, actor=True) for _ in range(2)]
    first, second = client.gather(futures)
    first.add(1).result()
    assert (first.n, second.n) == (1, 0)


def test_actors_in_graphs(client):
    dask = pytest.importorskip("dask")
    counter = dask.delayed(actors.Counter)(3)
    made = client.compute(counter, actors=counter).result(timeout=30)
    assert made.add(1).result() == 4
    kept = client.persist(counter, actors=[counter])
    assert isinstance(client.compute(kept).result(timeout=30), Actor)
    got = client.get({"x": (actors.Counter, 8)}, "x", actors=["x"], sync=False).result()
    assert got.n == 8


# Life and death --------------------------------------------------------------------------------


def test_a_constructor_that_raises_is_an_error_of_the_future(client):
    future = client.submit(actors.Broken, actor=True)
    with pytest.raises(RuntimeError, match="cannot be made"):
        future.result(timeout=30)


def test_an_actor_ends_when_nobody_refers_to_it(client, tmp_path):
    path = tmp_path / "closed"
    future = client.submit(actors.Closing, str(path), actor=True)
    proxy = future.result()
    del future
    assert proxy.path == str(path)
    del proxy
    wait_until(path.exists, "the actor is dropped")


def test_calls_of_a_cancelled_actor_say_so(client):
    future = client.submit(actors.Counter, actor=True)
    counter = future.result()
    counter.add(1).result()
    future.cancel()
    with pytest.raises(ActorLostError, match="cancelled"):
        counter.add(1).result(timeout=30)


def test_calls_after_the_client_was_closed_raise(cluster):
    with Client(cluster) as client:
        counter = make(client, actors.Counter)
        call = counter.stuck(30)
    with pytest.raises(taskloom.ClosedClientError):
        call.result(timeout=30)
    with pytest.raises(taskloom.ClosedClientError):
        counter.add(1).result(timeout=30)


def test_pending_and_later_calls_of_a_lost_actor_name_key_worker_and_exit(start):
    client = start()
    future = client.submit(actors.Counter, actor=True)
    counter = future.result()
    _, address = counter.where().result()
    pending = [counter.stuck(60), counter.add(1)]
    kill_worker(client, address)
    for call in [*pending, counter.add(1)]:
        with pytest.raises(ActorLostError, match="SIGKILL") as caught:
            call.result(timeout=60)
        assert (caught.value.key, caught.value.worker) == (future.key, address)
        assert isinstance(caught.value, (RuntimeError, OSError))
    with pytest.raises(ActorLostError, match="SIGKILL"):
        future.result(timeout=60)
    assert future.status == "error"


def test_tasks_that_need_a_lost_actor_fail_with_its_error(start):
    client = start()
    future = client.submit(actors.Counter, actor=True)
    _, address = future.result().where().result()
    kill_worker(client, address)
    with pytest.raises(ActorLostError):
        client.submit(actors.add_by, future, 1).result(timeout=60)


def test_an_actor_whose_worker_leaves_in_order_is_lost_and_says_so(start):
    client = start()
    counter = make(client, actors.Counter)
    _, address = counter.where().result()
    client.retire_workers([address])
    with pytest.raises(ActorLostError):
        counter.add(1).result(timeout=60)


# Restarts --------------------------------------------------------------------------------------


def test_an_actor_with_a_snapshot_after_each_call_loses_no_answered_call(start):
    client = start()
    counter = make(client, actors.Durable, 100)
    for round_number in range(1, 4):
        for _ in range(10):
            counter.add(1).result(timeout=60)
        with pytest.raises(ActorLostError, match="restarted"):
            counter.die().result(timeout=60)
        assert counter.add(0).result(timeout=60) == 100 + 10 * round_number
        assert counter.n == 100 + 10 * round_number


def test_an_actor_without_later_snapshots_starts_again_as_it_was_made(start):
    client = start()
    future = client.submit(actors.Fresh, 5, actor=True)
    counter = future.result()
    assert counter.add(1).result() == 6
    with pytest.raises(ActorLostError):
        counter.die().result(timeout=60)
    assert counter.add(1).result(timeout=60) == 6
    assert client.submit(actors.add_by, future, 1).result(timeout=60) == 7


def test_hooks_say_what_is_saved_and_coroutine_methods_are_saved_too(start, tmp_path):
    client = start()
    hooked = make(client, actors.Hooked, str(tmp_path / "log"))
    assert hooked.write("a").result(timeout=60) == 1
    with pytest.raises(ActorLostError):
        hooked.die().result(timeout=60)
    assert hooked.write("b").result(timeout=60) == 2
    assert (tmp_path / "log").read_text() == "ab"


def test_an_actor_that_cannot_be_saved_says_so_at_once_or_at_the_call(client):
    with pytest.raises(taskloom.ActorSnapshotError, match="lock"):
        make(client, actors.NeverSaveable)
    counter = make(client, actors.Unsaveable)
    assert counter.add(1).result() == 1
    with pytest.raises(taskloom.ActorSnapshotError, match="lock"):
        counter.spoil().result()


def test_a_policy_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="restart=True"):
        taskloom.actor(snapshot_every=3)
    with pytest.raises(ValueError, match="at least 1"):
        taskloom.actor(restart=True, snapshot_every=0)
    with pytest.raises(TypeError, match="classes"):
        taskloom.actor(restart=True)(len)
    assert taskloom.actor(actors.Counter) is actors.Counter
    del actors.Counter.__taskloom_actor__
