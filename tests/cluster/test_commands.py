"""The command line: scheduler and workers as processes of their own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from taskloom import Client
from tests import tasks
from tests.proxy import Proxy
from tests.support import alive, command, wait_until


def pids(client):
    return [worker["pid"] for worker in client.scheduler_info()["workers"].values()]


def environment_variable(name):
    return os.environ.get(name)


@pytest.fixture(scope="module", autouse=True)
def hopeless_worker():
    """A worker whose scheduler never comes: it tries for half a minute, beside the other tests."""
    with command("worker", "tcp://127.0.0.1:1", "--no-nanny") as process:
        yield process


@pytest.fixture
def scheduler(tmp_path):
    """A stand-alone scheduler; gives its address, file and process."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
    with command("scheduler", *options, "--no-dashboard") as process:
        wait_until(file.exists, "the scheduler file is there")
        yield json.loads(file.read_text())["address"], file, process


def test_a_scheduler_and_two_workers_over_tcp(scheduler):
    address, file, _ = scheduler
    with command("worker", address, "--name", "a", "--nthreads", "2", "--no-nanny"):
        with command("worker", "--scheduler-file", str(file), "--name", "b", "--no-nanny"):
            with Client(address) as client:
                client.wait_for_workers(2, timeout=30)
                workers = client.scheduler_info()["workers"].values()
                assert {(w["name"], w["nthreads"]) for w in workers} >= {("a", 2)}
                assert client.gather(client.map(tasks.inc, range(100))) == list(range(1, 101))
            with Client(scheduler_file=str(file)) as client:
                assert client.submit(tasks.inc, 1).result() == 2


def test_a_supervised_worker_is_started_again(scheduler):
    address, _, _ = scheduler
    with command("worker", address, "--nanny"), Client(address) as client:
        client.wait_for_workers(1, timeout=30)
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: set(pids(client)) - {pid}, "a new process")
        assert client.submit(tasks.inc, 1).result(timeout=20) == 2


def test_sigterm_ends_the_scheduler_and_its_workers(scheduler):
    address, _, process = scheduler
    with command("worker", address, "--no-nanny") as worker, Client(address) as client:
        client.wait_for_workers(1, timeout=30)
        process.terminate()
        assert process.wait(20) == 0
        worker.wait(60)


def test_a_worker_that_is_terminated_costs_no_result(scheduler):
    address, _, _ = scheduler
    with command("worker", address, "--no-nanny", "--name", "stays"), Client(address) as client:
        client.wait_for_workers(1, timeout=30)
        with command("worker", address, "--no-nanny", "--name", "goes") as worker:
            client.wait_for_workers(2, timeout=30)
            options = {"workers": ["goes"], "allow_other_workers": True}
            futures = [client.submit(bytes, 5000 + i, **options) for i in range(5)]
            client.gather(futures)
            worker.terminate()
            worker.wait(30)
        assert [len(value) for value in client.gather(futures)] == [5000 + i for i in range(5)]


def test_workers_keep_the_directory_and_the_environment_they_were_given(scheduler, tmp_path):
    address, _, _ = scheduler
    options = ["--no-nanny", "--local-directory", str(tmp_path / "scratch"), "--memory-limit", "0"]
    with command("worker", address, *options, SOME_VARIABLE="some value"):
        with Client(address) as client:
            client.wait_for_workers(1, timeout=30)
            (value,) = client.run(environment_variable, "SOME_VARIABLE").values()
            assert value == "some value"


def test_results_pass_a_relay(scheduler):
    """A worker talks to the scheduler at the address that it was given."""
    address, _, _ = scheduler
    with Proxy(address) as relay, command("worker", relay.address, "--no-nanny"):
        with Client(address) as client:
            client.wait_for_workers(1, timeout=60)
            assert client.submit(tasks.inc, 1).result(timeout=60) == 2
            assert relay.connections


def test_unknown_options_and_commands_are_errors_that_help():
    for arguments in (["worker", "--no-such-option"], ["no-such-command"], ["worker"]):
        done = subprocess.run(
            [sys.executable, "-m", "taskloom", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2, arguments
        assert "Usage" in done.stderr


def test_help_and_version_are_there():
    for arguments in (["--help"], ["scheduler", "--help"], ["worker", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-m", "taskloom", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert "taskloom" in done.stdout.lower()


def test_the_command_runs_inside_a_python_process_too():
    program = "import runpy, sys; sys.argv = ['taskloom', '--version']; \
runpy.run_module('taskloom', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert "taskloom" in done.stdout.lower()


def test_a_nanny_that_is_terminated_takes_its_worker_along(scheduler):
    address, _, _ = scheduler
    with command("worker", address, "--nanny") as nanny, Client(address) as client:
        client.wait_for_workers(1, timeout=30)
        (pid,) = client.run(os.getpid).values()
        nanny.terminate()
        nanny.wait(30)
        wait_until(lambda: not alive(pid), "the worker ended too")


def test_a_worker_whose_scheduler_never_comes_says_so(hopeless_worker):
    out, _ = hopeless_worker.communicate(timeout=90)
    assert hopeless_worker.returncode != 0
    assert "127.0.0.1:1" in out
