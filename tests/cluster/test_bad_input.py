"""Hostile and clumsy tasks: each gives the right exception at the caller, and the cluster lives.

Nothing here waits longer than `SOON`: a failure that takes longer is a hang.
"""

import pickle
import signal
import subprocess
import sys
import threading

import pytest

import taskloom
from taskloom import KilledWorker
from tests import tasks
from tests.support import worker_pids

SOON = 20


@pytest.fixture(autouse=True)
def cluster_lives(client):
    """Every test leaves the workers that it found, alive and working."""
    before = worker_pids(client)
    yield
    assert client.submit(tasks.inc, 1, pure=False).result(timeout=SOON) == 2
    assert worker_pids(client) == before


def test_an_unpicklable_argument_is_a_type_error(client):
    with pytest.raises((TypeError, pickle.PicklingError)):
        client.submit(tasks.identity, threading.Lock()).result(timeout=SOON)
    with pytest.raises((TypeError, pickle.PicklingError)):
        client.gather(client.map(tasks.identity, [threading.Lock()]))


def test_an_unpicklable_function_is_a_type_error(client):
    lock = threading.Lock()
    with pytest.raises((TypeError, pickle.PicklingError)):
        client.submit(lambda: lock).result(timeout=SOON)


def test_an_unpicklable_result_is_a_type_error_that_names_its_type(client):
    with pytest.raises(TypeError, match="lock"):
        client.submit(tasks.return_lock).result(timeout=SOON)


def test_an_unpicklable_result_is_usable_on_its_worker(client):
    future = client.submit(tasks.return_lock, pure=False)
    kind = client.submit(lambda lock: type(lock).__name__, future)
    assert kind.result(timeout=SOON) == "lock"


def test_an_unpicklable_exception_keeps_its_name_and_text(client):
    future = client.submit(tasks.raise_unpicklable)
    error = future.exception(timeout=SOON)
    assert isinstance(error, Exception)
    text = f"{type(error).__name__}: {error}"
    assert "UnpicklableError" in text
    assert "this and that" in text


def test_an_exception_whose_text_raises_is_survived(client):
    error = client.submit(tasks.raise_str_raises).exception(timeout=SOON)
    assert isinstance(error, Exception)
    assert "StrRaises" in type(error).__name__ or "StrRaises" in str(error)


def test_an_exception_whose_unpickling_raises_is_survived(client):
    error = client.submit(tasks.raise_unpickling_raises).exception(timeout=SOON)
    assert isinstance(error, Exception)
    assert "UnpicklingRaises" in type(error).__name__ or "UnpicklingRaises" in str(error)


def test_infinite_recursion_is_a_recursion_error(client):
    with pytest.raises(RecursionError):
        client.submit(tasks.recurse).result(timeout=SOON)


def test_sys_exit_ends_the_task_not_the_worker(client):
    error = client.submit(tasks.exit_python).exception(timeout=SOON)
    assert isinstance(error, SystemExit) or "SystemExit" in f"{type(error).__name__} {error}"


def test_keyboard_interrupt_in_a_task_is_the_tasks_error(client):
    def interrupt():
        raise KeyboardInterrupt

    error = client.submit(interrupt).exception(timeout=SOON)
    assert "KeyboardInterrupt" in f"{type(error).__name__} {error}"


def test_a_result_that_cannot_be_unpickled_is_an_error_at_the_caller(client):
    class Bomb:
        def __reduce__(self):
            return (int, ("not a number",))

    with pytest.raises(ValueError, match="invalid literal"):
        client.submit(Bomb).result(timeout=SOON)


def test_an_argument_that_cannot_be_unpickled_is_a_task_error(client):
    class Bomb:
        def __reduce__(self):
            return (int, ("not a number",))

    with pytest.raises(ValueError, match="invalid literal"):
        client.submit(tasks.identity, Bomb()).result(timeout=SOON)


def run_out_of_memory():
    # 2**60 bytes: no machine has them, so the allocation itself is refused.
    return bytes(1 << 60)


class TooLarge:
    """Unpickling it runs out of memory."""

    def __reduce__(self):
        return (run_out_of_memory, ())


def test_memory_that_runs_out_while_a_value_is_decoded_is_an_error(client):
    """D36: the message was once lost, and its task with it."""
    with pytest.raises(MemoryError):
        client.submit(tasks.identity, TooLarge()).result(timeout=SOON)
    made = client.submit(TooLarge)
    with pytest.raises(MemoryError):
        made.result(timeout=SOON)
    holder = client.who_has([made])[made.key][0]
    (other,) = set(client.nthreads()) - {holder}
    with pytest.raises(MemoryError):
        client.submit(tasks.identity, made, workers=[other]).result(timeout=SOON)
    assert made.status == "finished"


def test_a_function_of_a_module_that_workers_lack_is_an_import_error(client, tmp_path, monkeypatch):
    import importlib

    (tmp_path / "only_at_the_client.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("only_at_the_client")
    try:
        with pytest.raises(ImportError, match="only_at_the_client"):
            client.submit(module.f).result(timeout=SOON)
    finally:
        sys.modules.pop("only_at_the_client")


def test_a_cyclic_graph_is_refused_and_names_the_cycle(client):
    graph = {"a": (tasks.inc, "b"), "b": (tasks.inc, "c"), "c": (tasks.inc, "a")}
    with pytest.raises(RuntimeError, match=r"[Cc]ycl"):
        client.get(graph, "a")


def test_a_missing_dependency_is_refused_and_named(client):
    from dask._task_spec import Task, TaskRef

    graph = {"present": Task("present", tasks.inc, TaskRef("absent"))}
    with pytest.raises((KeyError, ValueError, RuntimeError), match="absent"):
        client.get(graph, "present")
    with pytest.raises((KeyError, ValueError), match="nowhere"):
        client.get({"a": (tasks.inc, 1)}, "nowhere")


def test_wrong_arguments_are_a_type_error_of_the_task(client):
    with pytest.raises(TypeError, match="inc"):
        client.submit(tasks.inc).result(timeout=SOON)


def test_a_cyclic_argument_arrives_as_a_cycle(client):
    cycle = [1]
    cycle.append(cycle)
    found = client.submit(tasks.identity, cycle).result(timeout=SOON)
    assert found[1] is found


def test_deeply_nested_arguments_arrive_or_are_refused_with_their_reason(client):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        client.submit(tasks.identity, deep).result(timeout=SOON)
    del deep


def test_100_mb_of_stdout_block_nothing():
    """In a process of its own, since a worker's output goes where the client's goes."""
    program = """
import sys
from taskloom import Client
from tests import tasks

def shout():
    line = "x" * 1023 + "\\n"
    for _ in range(100 * 1024):
        sys.stdout.write(line)
        sys.stderr.write("e" * 100 + "\\n")
    return "done"

if __name__ == "__main__":
    with Client(n_workers=1, threads_per_worker=2) as client:
        shouting = client.submit(shout)
        assert client.submit(tasks.inc, 1).result(timeout=60) == 2
        assert shouting.result(timeout=60) == "done"
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=100,
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("os._exit", "code 7"),
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("kill", "SIGKILL"),
    ],
)
def test_a_task_that_kills_its_process_is_a_killed_worker_with_the_reason(start, how, reason):
    import os

    client = start(n_workers=1)
    call = {
        "os._exit": (os._exit, 7),
        "segfault": (tasks.segfault,),
        "abort": (os.abort,),
        "kill": (tasks.kill_me, signal.SIGKILL),
    }[how]
    future = client.submit(*call, key=f"fatal-{how}")
    with pytest.raises(KilledWorker, match=reason) as caught:
        future.result(timeout=60)
    text = str(caught.value)
    assert f"fatal-{how}" in text
    assert "tcp://" in text
    client.wait_for_workers(1, timeout=30)
    assert client.submit(tasks.inc, 1).result(timeout=SOON) == 2


@pytest.mark.parametrize("name", ["profile", "amm", "benchmark_hardware"])
def test_what_only_dasks_client_has_names_the_alternative(client, name):
    assert not hasattr(client, name)
    with pytest.raises(NotImplementedError, match=f"Client.{name}: .*"):
        getattr(client, name)
    with pytest.raises(AttributeError, match="'colour'"):
        client.colour  # noqa: B018


def test_what_only_dasks_cluster_and_package_have_names_the_alternative(cluster):
    with pytest.raises(NotImplementedError, match=r"scale\(n\)"):
        cluster.plan  # noqa: B018
    with pytest.raises(NotImplementedError, match="TLS"):
        taskloom.Security  # noqa: B018


def test_retiring_by_a_choice_of_the_scheduler_is_refused(client):
    with pytest.raises(NotImplementedError, match=r"\['n'\].*adapt"):
        client.retire_workers(n=1)
    assert len(client.scheduler_info()["workers"]) == 2
