"""Plugins and uploaded files, on present and future workers."""

import asyncio
import importlib
import os
import shutil
import sys
import warnings
import zipfile

import pytest

from taskloom import (
    Client,
    Environ,
    NannyPlugin,
    PipInstall,
    SchedulerPlugin,
    UploadDirectory,
    WorkerPlugin,
    get_worker,
)
from tests import tasks
from tests.support import wait_until


class Marker(WorkerPlugin):
    """Leaves its value on the worker."""

    def __init__(self, value, name="marker"):
        self.value = value
        self.name = name

    def setup(self, worker):
        worker.data.setdefault("history", []).append(("setup", self.value))
        worker.data["value"] = self.value

    def teardown(self, worker):
        worker.data["history"].append(("teardown", self.value))


class AsyncMarker(WorkerPlugin):
    name = "async-marker"

    async def setup(self, worker):
        worker.data["async"] = True

    async def teardown(self, worker):
        worker.data["async"] = False


class Watcher(WorkerPlugin):
    name = "watcher"

    def setup(self, worker):
        worker.data["transitions"] = self.seen = []

    def transition(self, key, start, finish, **kwargs):
        self.seen.append((key, start, finish))


class Broken(WorkerPlugin):
    name = "broken"

    def setup(self, worker):
        raise RuntimeError("cannot set up")


class BrokenInNewProcesses(WorkerPlugin):
    name = "broken-later"

    def __init__(self):
        self.pids = set()

    def setup(self, worker):
        if os.getpid() not in self.pids:
            raise RuntimeError("not in a new process")


def data_of(dask_worker):
    return dict(dask_worker.data)


def value_here():
    return get_worker().data.get("value")


def environment(name):
    return os.environ.get(name)


def use_module(name):
    return __import__(name).answer()


def test_a_plugin_is_set_up_on_all_workers_and_torn_down(client):
    answer = client.register_plugin(Marker(1))
    assert set(answer) == set(client.scheduler_info()["workers"])
    assert all(data["value"] == 1 for data in client.run(data_of).values())
    client.unregister_worker_plugin("marker")
    for data in client.run(data_of).values():
        assert data["history"][-2:] == [("setup", 1), ("teardown", 1)]


def test_a_plugin_takes_the_place_of_one_of_its_name(client):
    client.register_plugin(Marker(1))
    client.register_plugin(Marker(2))
    for data in client.run(data_of).values():
        assert data["history"][-3:] == [("setup", 1), ("teardown", 1), ("setup", 2)]
    client.unregister_worker_plugin("marker")


def test_an_idempotent_plugin_is_registered_once(client):
    for value in (1, 2):
        plugin = Marker(value)
        plugin.idempotent = True
        client.register_plugin(plugin)
    assert {data["value"] for data in client.run(data_of).values()} == {1}
    client.unregister_worker_plugin("marker")


def test_coroutine_methods_of_plugins_are_awaited(client):
    client.register_plugin(AsyncMarker())
    assert all(data["async"] for data in client.run(data_of).values())
    client.unregister_worker_plugin("async-marker")
    assert not any(data["async"] for data in client.run(data_of).values())


def test_plugins_see_tasks_start_and_end(client):
    client.register_plugin(Watcher())
    client.submit(tasks.inc, 1, key="watched").result()
    seen = [row for data in client.run(data_of).values() for row in data["transitions"]]
    assert ("watched", "ready", "executing") in seen
    wait_until(
        lambda: any(
            ("watched", "executing", "memory") in data["transitions"]
            for data in client.run(data_of).values()
        ),
        "the end is told",
    )
    client.unregister_worker_plugin("watcher")


def test_a_plugin_whose_setup_raises_is_not_registered(client):
    with pytest.raises(RuntimeError, match="cannot set up"):
        client.register_plugin(Broken())
    with pytest.raises(ValueError, match="broken"):
        client.unregister_worker_plugin("broken")


def test_what_is_no_plugin_is_refused(client):
    with pytest.raises(TypeError, match="instance"):
        client.register_plugin(Marker)
    with pytest.raises(TypeError, match="WorkerPlugin"):
        client.register_plugin(object())
    with pytest.raises(ValueError, match="never-was"):
        client.unregister_worker_plugin("never-was")


def test_new_workers_are_set_up_before_their_first_task(start):
    client = start(n_workers=1)
    client.register_plugin(Marker("first", name="a"))
    client.register_plugin(Marker("second", name="b"))
    client.cluster.scale(3)
    futures = [client.submit(value_here, pure=False) for _ in range(30)]
    client.wait_for_workers(3, timeout=30)
    futures += [client.submit(value_here, pure=False) for _ in range(30)]
    assert set(client.gather(futures)) == {"second"}
    for data in client.run(data_of).values():
        assert data["history"] == [("setup", "first"), ("setup", "second")]


def test_a_setup_that_fails_on_a_new_worker_is_told_and_the_worker_works(start):
    client = start(n_workers=1)
    plugin = BrokenInNewProcesses()
    plugin.pids = set(client.run(os.getpid).values())
    client.register_plugin(plugin)
    client.cluster.scale(2)
    # Any question shows what was told before it.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.wait_for_workers(2, timeout=30)
        events = client.get_events("all")
    texts = [str(warning.message) for warning in caught]
    assert any("broken-later failed on the new worker" in text for text in texts), texts
    failed = [event for _, event in events if event["action"] == "setup-failed"]
    assert "not in a new process" in failed[0]["error"]
    client.submit(tasks.inc, 1).result()
    assert len(client.run(os.getpid)) == 2


def test_worker_callbacks_are_called_on_new_workers_too(start):
    client = start(n_workers=1)
    client.register_worker_callbacks(lambda dask_worker: dask_worker.data.update(called=True))
    client.cluster.scale(2)
    client.wait_for_workers(2, timeout=30)
    assert [data["called"] for data in client.run(data_of).values()] == [True, True]


def test_environ_restarts_the_workers_with_their_variables(start):
    client = start(n_workers=2)
    before = set(client.run(os.getpid).values())
    client.register_plugin(Environ({"COLOUR_OF_TEST": 7}))
    after = set(client.run(os.getpid).values())
    assert not before & after
    assert set(client.run(environment, "COLOUR_OF_TEST").values()) == {"7"}


class Prepares(NannyPlugin):
    name = "prepares"

    def setup(self, nanny):
        nanny.env["PREPARED"] = f"{nanny.name} {nanny.worker_address} {nanny.local_directory}"


def test_a_nanny_plugin_runs_in_each_worker_process(client):
    client.register_plugin(Prepares())
    for address, text in client.run(environment, "PREPARED").items():
        assert address in text
    client.unregister_worker_plugin("prepares", nanny=True)


def test_an_uploaded_module_is_importable_also_when_it_changes(client, tmp_path):
    module = tmp_path / "uploaded_module.py"
    module.write_text("def answer():\n    return 1\n")
    client.upload_file(str(module))
    assert client.submit(use_module, "uploaded_module", pure=False).result() == 1
    module.write_text("def answer():\n    return 2\n")
    client.upload_file(str(module))
    futures = [client.submit(use_module, "uploaded_module", pure=False) for _ in range(4)]
    assert set(client.gather(futures)) == {2}


def test_an_uploaded_zip_is_importable(client, tmp_path):
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("packed_package/__init__.py", "def answer():\n    return 3\n")
    client.upload_file(str(archive))
    assert client.submit(use_module, "packed_package", pure=False).result() == 3


def test_an_upload_that_is_no_module_raises_unless_it_is_not_loaded(client, tmp_path):
    module = tmp_path / "no_module.py"
    module.write_text("this is no Python\n")
    with pytest.raises(SyntaxError):
        client.upload_file(str(module))
    client.upload_file(str(module), load=False)
    data = tmp_path / "plain.txt"
    data.write_text("text")
    client.upload_file(str(data))
    with pytest.raises(FileNotFoundError):
        client.upload_file(str(tmp_path / "absent.py"))


def test_uploaded_files_reach_new_workers(start, tmp_path):
    client = start(n_workers=1)
    module = tmp_path / "late_module.py"
    module.write_text("def answer():\n    return 4\n")
    client.upload_file(str(module))
    client.cluster.scale(2)
    client.wait_for_workers(2, timeout=30)
    assert set(client.run(use_module, "late_module").values()) == {4}


def test_an_uploaded_directory_is_a_package(client, tmp_path):
    package = tmp_path / "uploaded_package"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("from .part import answer\n")
    (package / "part.py").write_text("def answer():\n    return 5\n")
    (package / "tests" / "test_it.py").write_text("left out")
    client.register_plugin(UploadDirectory(str(package)))
    assert client.submit(use_module, "uploaded_package", pure=False).result() == 5
    with pytest.raises(NotADirectoryError):
        UploadDirectory(str(tmp_path / "absent"))


def test_a_failing_pip_install_says_what_pip_said(client):
    plugin = PipInstall(["/no/such/directory/at/all"], pip_options=["--no-index"])
    with pytest.raises(RuntimeError, match="no/such/directory"):
        client.register_plugin(plugin)
    with pytest.raises(TypeError, match="packages"):
        PipInstall("a-string")


def make_wheel(directory, version):
    """A package of one module, as a wheel that needs no index."""
    path = directory / f"taskloom_tiny-{version}-py3-none-any.whl"
    about = f"taskloom_tiny-{version}.dist-info"
    files = {
        "taskloom_tiny.py": f"VERSION = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: taskloom-tiny\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def tiny_version(directory):
    sys.path.insert(0, directory)
    try:
        return importlib.import_module("taskloom_tiny").VERSION
    finally:
        sys.path.remove(directory)


def test_pip_install_makes_a_package_importable_on_present_and_future_workers(start, tmp_path):
    client = start(n_workers=1)
    target = tmp_path / "site"
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(target)]
    wheel = make_wheel(tmp_path, "1.5")
    client.register_plugin(PipInstall([str(wheel)], pip_options=options))
    assert client.submit(tiny_version, str(target)).result() == "1.5"
    shutil.rmtree(target)
    client.cluster.scale(2)
    client.wait_for_workers(2, timeout=60)
    assert client.submit(tiny_version, str(target), workers=[1]).result() == "1.5"


def test_pip_install_can_start_the_workers_anew(start, tmp_path):
    client = start(n_workers=1)
    before = client.run(os.getpid)
    target = tmp_path / "site"
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(target)]
    wheel = make_wheel(tmp_path, "2.0")
    client.register_plugin(PipInstall([str(wheel)], options, restart_workers=True))
    assert not set(client.run(os.getpid).values()) & set(before.values())
    assert client.submit(tiny_version, str(target)).result() == "2.0"


class Recorder(SchedulerPlugin):
    name = "recorder"

    def __init__(self):
        self.heard = []

    def start(self, scheduler):
        self.heard.append(("start", scheduler.address))

    def transition(self, key, start, finish, *args, **kwargs):
        self.heard.append((key, start, finish))

    def add_worker(self, scheduler, worker):
        self.heard.append(("add_worker", worker in scheduler.workers))

    def remove_worker(self, scheduler, worker, **kwargs):
        self.heard.append("remove_worker")

    def close(self):
        self.heard.append("close")


def test_a_scheduler_plugin_watches_from_the_clients_process(start):
    client = start(n_workers=1)
    plugin = Recorder()
    client.register_plugin(plugin)
    assert plugin.heard == [("start", client.scheduler_info()["address"])]
    future = client.submit(tasks.inc, 1, key="seen")
    future.result()
    wait_until(lambda: ("seen", "processing", "memory") in plugin.heard, "the end is told")
    future.release()
    wait_until(lambda: ("seen", "released", "forgotten") in plugin.heard, "its going is told")
    client.cluster.scale(2)
    wait_until(lambda: ("add_worker", True) in plugin.heard, "the new worker is told")
    client.cluster.scale(1)
    wait_until(lambda: "remove_worker" in plugin.heard, "the worker's end is told")
    client.unregister_scheduler_plugin("recorder")
    assert plugin.heard[-1] == "close"
    with pytest.raises(ValueError, match="recorder"):
        client.unregister_scheduler_plugin("recorder")


def test_a_scheduler_plugin_that_wants_to_decide_is_refused(client):
    class Decides(SchedulerPlugin):
        def update_graph(self, scheduler, **kwargs):
            pass

    with pytest.raises(NotImplementedError, match="no Python runs"):
        client.register_plugin(Decides())


class AsyncRecorder(SchedulerPlugin):
    name = "async-recorder"

    def __init__(self):
        self.heard = []

    async def start(self, scheduler):
        self.heard.append(sorted(scheduler.workers))

    async def close(self):
        self.heard.append("closed")


def test_an_asynchronous_client_awaits_plugins(cluster):
    async def program():
        async with Client(cluster, asynchronous=True) as client:
            await client.register_plugin(AsyncMarker())
            found = await client.run(data_of)
            await client.unregister_worker_plugin("async-marker")
            plugin = AsyncRecorder()
            await client.register_plugin(plugin)
            await client.unregister_scheduler_plugin("async-recorder")
            return found, plugin.heard

    found, heard = asyncio.run(program())
    assert all(data["async"] for data in found.values())
    assert heard == [sorted(found), "closed"]
