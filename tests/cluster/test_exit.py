"""An interpreter that ends is never held up, whatever it left open."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from taskloom import Client
from tests.support import command, wait_until

OPEN = """
from taskloom import Client, LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1)
client = Client(cluster)
"""

PROGRAMS = {
    "nothing is closed": OPEN
    + """
future = client.submit(abs, -1)
future.result()
""",
    "a task still runs": OPEN
    + """
import time
future = client.submit(time.sleep, 600)
""",
    "everything was opened in another thread": """
import threading
kept = []
def start():
    from taskloom import Client, LocalCluster
    cluster = LocalCluster(n_workers=1, threads_per_worker=1)
    client = Client(cluster)
    client.submit(abs, -1).result()
    kept.extend([cluster, client])
thread = threading.Thread(target=start)
thread.start()
thread.join()
""",
    "the cluster is closed before the client": OPEN
    + """
future = client.submit(abs, -1)
future.result()
cluster.close()
""",
    "only the client is closed": OPEN
    + """
client.close()
""",
    "a forked child ends first": OPEN
    + """
import os
client.submit(abs, -1).result()
child = os.fork()
if child == 0:
    raise SystemExit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert client.submit(abs, -2).result() == 2
""",
    "a forked child outlives its parent's cluster": OPEN
    + """
import os, time
child = os.fork()
if child == 0:
    time.sleep(1)
    raise SystemExit(0)
client.close()
cluster.close()
os.waitpid(child, 0)
""",
    "a daemon thread waits": OPEN
    + """
import threading, time
future = client.submit(time.sleep, 600)
threading.Thread(target=future.result, daemon=True).start()
time.sleep(0.2)
""",
    "daemon threads wait again and again": OPEN
    + """
import contextlib, threading, time
future = client.submit(time.sleep, 600)
def wait():
    while True:
        with contextlib.suppress(BaseException):
            future.result(timeout=0.0005)
for _ in range(4):
    threading.Thread(target=wait, daemon=True).start()
time.sleep(0.2)
""",
    "daemon threads submit": OPEN
    + """
import contextlib, threading, time
def work():
    with contextlib.suppress(BaseException):
        while True:
            client.submit(abs, -1, pure=False).result()
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""",
    "an exception ends it": OPEN
    + """
import sys
futures = client.map(abs, range(100))
sys.excepthook = lambda *args: None
raise ValueError("boom")
""",
    "the client's scheduler is gone for good": """
import json, os, signal, subprocess, sys, tempfile, time
from taskloom import Client
file = os.path.join(tempfile.mkdtemp(), "scheduler.json")
scheduler = subprocess.Popen(
    [sys.executable, "-m", "taskloom", "scheduler", "--port", "0", "--scheduler-file", file],
    stdout=subprocess.DEVNULL,
)
client = Client(scheduler_file=file, timeout=30)
future = client.submit(abs, -1)
scheduler.kill()
scheduler.wait()
""",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_the_process_ends(what, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAMS[what]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    try:
        # Half a minute is a hang: the longest of these takes some seconds on a busy machine.
        out, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        pytest.fail(f"it hangs when {what}:\n{out}")
    expected = 1 if what == "an exception ends it" else 0
    assert process.returncode == expected, out


def test_pytest_ends_when_a_test_leaves_a_cluster_open(tmp_path):
    program = tmp_path / "test_leaves_it_open.py"
    program.write_text(
        "def test_it():\n"
        "    from taskloom import Client, LocalCluster\n"
        "    global client\n"
        "    client = Client(LocalCluster(n_workers=1, threads_per_worker=1))\n"
        "    assert client.submit(abs, -1).result() == 1\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


#: A worker that drains for longer than any test takes.
PATIENT = """
from taskloom import _worker_main
from taskloom.__main__ import main
_worker_main._DRAIN_S = 600
main()
"""


def test_two_signals_end_a_worker_at_once(tmp_path):
    """The first drains: a task that runs is waited for. The second does not wait."""
    file = tmp_path / "scheduler.json"
    with command("scheduler", "--port", "0", "--scheduler-file", str(file)):
        wait_until(file.exists, "the scheduler listens")
        address = json.loads(file.read_text())["address"]
        start = [sys.executable, "-c", PATIENT, "worker", address, "--no-nanny"]
        with subprocess.Popen(start) as worker, Client(address) as client:
            client.wait_for_workers(1, timeout=30)
            mark = tmp_path / "mark"
            future = client.submit(_mark_and_sleep, str(mark))
            # What has not started is given back, and then there is nothing to wait for.
            wait_until(mark.exists, "it runs")
            worker.send_signal(signal.SIGTERM)
            wait_until(lambda: _is_leaving(client), "it drains")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 128 + signal.SIGTERM
            future.cancel()


def _mark_and_sleep(mark: str) -> None:
    open(mark, "w").close()
    time.sleep(600)


def _is_leaving(client) -> bool:
    """Whether the only worker gets no more work."""
    probe = client.submit(abs, -1, pure=False)
    time.sleep(0.1)
    return client.explain(probe)["state"] == "no-worker"
