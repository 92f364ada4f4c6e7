"""Helpers for tests: waiting for states, the processes behind a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Look again until `condition()` holds; fail with `what` when it does not in time.

    The time is a bound against hangs: processes that start on a busy machine take long.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s} s: {what}")
        time.sleep(0.01)


def let_arrive(client) -> None:
    """Return when all that `client` has sent has reached the workers, cancellations too.

    Cancelling does not wait for the workers, and messages keep their order: a question to every
    worker that is sent afterwards is answered afterwards.
    """
    client.run(os.getpid)


def worker_pids(client) -> dict[str, int]:
    """Process id of each worker, by address."""
    return client.run(os.getpid)


def kill_worker(client, address: str) -> None:
    """End one worker's process as the kernel would."""
    # Asked of this worker alone: another one may be dying.
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[subprocess.Popen]:
    """`python -m taskloom …` as a process that ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "taskloom", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout:
            process.stdout.close()
