"""`import taskloom` is light, and has every public name."""

import subprocess
import sys

import pytest

NAMES = [
    "Client", "Future", "LocalCluster", "as_completed", "wait", "fire_and_forget",
    "futures_of", "default_client", "get_client", "get_worker", "worker_client", "secede",
    "rejoin", "Reschedule", "progress", "CancelledError", "FutureCancelledError",
    "FuturesCancelledError", "TimeoutError", "KilledWorker", "ClosedClientError",
    "TaskloomError", "KeyCollisionWarning", "KeyCollisionError",
]  # fmt: skip


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_starts_no_thread_and_no_process():
    out = run(
        "import taskloom, os\n"
        "print(len(os.listdir('/proc/self/task')))\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read())"
    )
    assert out.split() == ["1"]


def test_importing_loads_no_heavy_package():
    out = run("import sys, taskloom; print(*sys.modules)")
    loaded = {name.split(".")[0] for name in out.split()}
    assert not loaded & {
        "asyncio",
        "dask",
        "distributed",
        "numpy",
        "pandas",
        "tornado",
        "cloudpickle",
    }


def test_using_a_cluster_never_imports_distributed():
    out = run(
        "import sys, taskloom\n"
        "with taskloom.Client(n_workers=1, threads_per_worker=1) as client:\n"
        "    client.gather(client.map(abs, [-1, -2]))\n"
        "    workers = client.run(lambda: 'distributed' in sys.modules)\n"
        "print('distributed' in sys.modules, any(workers.values()))"
    )
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    import taskloom

    assert getattr(taskloom, name) is not None
    assert name in dir(taskloom)
    assert name in taskloom.__all__


def test_an_unknown_name_is_an_attribute_error():
    import taskloom

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = taskloom.no_such_name


def test_the_version_is_that_of_the_package():
    import importlib.metadata

    import taskloom

    assert taskloom.__version__ == importlib.metadata.version("taskloom")


def test_the_package_is_typed():
    import importlib.resources

    assert importlib.resources.files("taskloom").joinpath("py.typed").is_file()
