"""``taskloom.distributed`` and ``taskloom.compat``: the names of distributed, and what is missing.

What changes the modules of a process runs in one of its own.
"""

import subprocess
import sys

import pytest
from taskloom.distributed.utils import log_errors

import taskloom
import taskloom.distributed as shim
from taskloom.distributed import _names


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


INSTALL = "import taskloom.compat\ntaskloom.compat.install()\n"


def test_every_name_that_taskloom_shares_with_distributed_is_offered():
    import distributed

    shared = set(distributed.__all__) & set(taskloom.__all__)
    assert shared <= set(dir(shim))
    for name in shared:
        assert getattr(shim, name) is getattr(taskloom, name)


def test_every_name_of_distributed_is_offered_or_says_that_it_is_not():
    import distributed

    for name in set(distributed.__all__) - set(dir(shim)) - {"dask"}:
        with pytest.raises(AttributeError, match=rf"taskloom does not offer distributed\.{name}"):
            getattr(shim, name)


def test_a_name_that_is_not_offered_is_an_import_error_with_the_reason():
    with pytest.raises(ImportError, match=r"not offer distributed\.SSHCluster: start `python -m"):
        from taskloom.distributed import SSHCluster  # noqa: F401
    with pytest.raises(AttributeError, match=r"not offer distributed\.Security: connections"):
        _ = shim.Security
    assert not hasattr(shim, "no_such_name")


def test_names_of_submodules_that_taskloom_has_are_those_of_distributed_too():
    import importlib

    for module, names in _names.SUBMODULES.items():
        offered = importlib.import_module(f"taskloom.distributed.{module}")
        reference = importlib.import_module(f"distributed.{module}")
        assert [name for name in dir(offered) if not hasattr(reference, name)] == [], module
        assert set(dir(offered)) <= set(names)


def test_star_imports_give_what_is_offered():
    names: dict = {}
    exec("from taskloom.distributed import *", names)
    assert names["Client"] is taskloom.Client
    assert set(shim.__all__) <= set(names)


def test_installing_makes_distributed_and_dask_distributed_taskloom():
    out = run(
        INSTALL + "import distributed, dask.distributed, taskloom\n"
        "import distributed.client as c\n"
        "from distributed.worker import get_client\n"
        "from dask.distributed import Client, wait\n"
        "print(distributed.Client is c.Client is Client is taskloom.Client)\n"
        "print(distributed.__name__, wait is taskloom.wait, taskloom.compat.is_installed())\n"
        "print(distributed.comm.get_address_host('tcp://10.0.0.1:80'))"
    )
    assert out == ["True", "taskloom.distributed True True", "10.0.0.1"]


def test_a_module_of_distributed_that_is_not_offered_is_not_taken_from_the_real_one():
    out = run(
        INSTALL + "try:\n    import distributed.shuffle\n"
        "except ModuleNotFoundError as error:\n    print(error.name, str(error)[:50])"
    )
    assert out == ["distributed.shuffle taskloom does not offer the module 'distributed.sh"]


def test_uninstalling_gives_the_real_one_back():
    out = run(
        "import os, distributed, dask.distributed\n"
        "real, client = distributed, distributed.Client\n" + INSTALL + "taskloom.compat.install()\n"
        "import distributed\nassert distributed.Client is not client\n"
        "taskloom.compat.uninstall()\ntaskloom.compat.uninstall()\n"
        "import distributed, dask.distributed, distributed.utils\n"
        "print(distributed is real, dask.distributed.Client is client)\n"
        "print(distributed.utils.__file__ is not None, taskloom.compat.is_installed())\n"
        "print(os.environ.get(taskloom.compat.ENVIRONMENT))"
    )
    assert out == ["True True", "True False", "None"]


def test_a_library_that_was_imported_before_is_named_in_a_warning():
    out = run(
        "import types, sys, warnings, distributed\n"
        "library = types.ModuleType('library'); library.distributed = distributed\n"
        "sys.modules['library'] = library\n"
        "warnings.simplefilter('error')\n"
        "import taskloom.compat\n"
        "try:\n    taskloom.compat.install()\n"
        "except UserWarning as warning:\n    print('library' in str(warning))"
    )
    assert out == ["True"]


def test_worker_processes_do_the_same_and_clusters_do_not_need_the_real_one():
    out = run(
        INSTALL + "from distributed import Client\n"
        "def names():\n"
        "    import distributed\n"
        "    return distributed.get_worker().name, distributed.__name__\n"
        "with Client(n_workers=1, threads_per_worker=1) as client:\n"
        "    print(client.submit(names).result())\n"
    )
    assert out == ["(0, 'taskloom.distributed')"]


def test_dask_finds_the_client_by_the_name_distributed():
    out = run(
        INSTALL + "import dask.array as da\nfrom distributed import Client\n"
        "with Client(n_workers=1, threads_per_worker=1) as client:\n"
        "    print(da.ones(10, chunks=5).sum().compute(scheduler='distributed'))\n"
    )
    assert out == ["10.0"]


# On the thread of its own loop a client is asynchronous ------------------------------------


def test_coroutines_that_a_client_runs_may_await_its_calls(client):
    async def program(x):
        future = client.submit(abs, x)
        assert client.asynchronous
        await taskloom.wait([future])
        held = await client.who_has([future])
        return await future.result(), await client.gather([future]), len(held)

    assert not client.asynchronous
    assert client.sync(program, -5) == (5, [5], 1)


def test_a_coroutine_that_takes_too_long_is_a_time_out(client):
    import asyncio

    with pytest.raises(TimeoutError):
        client.sync(asyncio.sleep, 60, callback_timeout="50 ms")


def test_the_scheduler_may_be_asked_past_the_client(client):
    future = client.submit(abs, -3)
    future.result()

    async def ask():
        scheduler = client.scheduler
        identity = await scheduler.identity()
        who_has = await scheduler.who_has(keys=[future.key])
        return identity, who_has, await scheduler.ncores(), await scheduler.has_what()

    identity, who_has, threads, has_what = client.sync(ask)
    assert set(identity["workers"]) == set(threads) == set(has_what)
    assert who_has == client.who_has([future])
    assert client.scheduler.address == client.scheduler_address
    with pytest.raises(AttributeError, match=r"client\.scheduler\.restart is not offered"):
        _ = client.scheduler.restart


def test_a_completed_iteration_shows_what_is_pending_and_what_is_ready(client):
    iterator = taskloom.as_completed([client.submit(abs, -1)])
    taskloom.wait(list(iterator.futures.values()))
    assert iterator.has_ready()
    with iterator.lock:
        assert not iterator.futures
        assert not iterator.queue.empty()
        assert iterator.queue.get().result() == 1
        assert iterator.queue.empty()
    assert iterator.is_empty()


# Small helpers -----------------------------------------------------------------------------


def test_helpers_agree_with_those_of_distributed():
    import functools

    import distributed.comm
    import distributed.utils

    for address in ("tcp://127.0.0.1:80", "tls://[::1]:9", "1.2.3.4:5"):
        for name in ("parse_address", "get_address_host", "get_address_host_port"):
            ours = getattr(shim.comm, name)(address)
            assert ours == getattr(distributed.comm, name)(address), (name, address)
    assert shim.comm.parse_host_port("host", 7) == distributed.comm.parse_host_port("host", 7)
    with pytest.raises(ValueError, match="missing port"):
        shim.comm.get_address_host_port("tcp://host")
    assert shim.utils.has_keyword(lambda a, b: a, "b")

    async def coroutine():
        return None

    for function in (abs, coroutine, functools.partial(coroutine)):
        expected = distributed.utils.iscoroutinefunction(function)
        assert shim.utils.iscoroutinefunction(function) == expected
    assert shim.Status.running == "running"


def test_values_survive_the_protocols_functions():
    import numpy as np

    value = {"a": np.arange(10), "f": lambda x: x + 1}
    header, frames = shim.protocol.serialize(value)
    back = shim.protocol.deserialize(header, frames)
    assert back["a"].tolist() == list(range(10))
    assert back["f"](1) == 2
    assert len(frames) == 2
    assert shim.protocol.pickle.loads(shim.protocol.pickle.dumps("x")) == "x"


def test_logged_errors_go_on(caplog):
    @log_errors
    def fail():
        raise ValueError("words")

    with pytest.raises(ValueError, match="words"):
        fail()
    with pytest.raises(ValueError, match="other"), log_errors():
        raise ValueError("other")
    assert [record.message for record in caplog.records] == ["words", "other"]
    assert log_errors(unroll_stack=1)(abs)(-1) == 1


def test_the_state_of_the_thread_tells_whether_it_is_in_a_task(client):
    def inside():
        from taskloom.distributed.utils import thread_state

        return hasattr(thread_state, "execution_state"), thread_state.key

    future = client.submit(inside, key="inside-1")
    assert future.result() == (True, "inside-1")
    assert not hasattr(shim.utils.thread_state, "execution_state")
