"""The processes of a cluster on the laboratory's hosts."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.netlab.network import ROOT, Network
from tests.netlab.smallness import SmallDisk, SmallMemory

PORT = 8786
WORKERS = ["w0", "w1", "w2", "w3"]
HOSTS = ["sched", *WORKERS, "client"]
#: The host whose supervisor and worker share a small memory.
SMALL, SMALL_BYTES = "w0", 400_000_000
#: The host whose worker may use little memory, and writes the rest to a small disk.
SMALL_DISK, LITTLE_BYTES = "w1", 400_000_000
#: Silence after which a worker is lost: faults are shorter or longer than this.
TTL_S = 3
#: How long workers and clients may be away: longer than any fault. What a killed client wanted
#: goes as late as this, and a round ends no earlier.
GRACE_S = 8


class Lab:
    """Scheduler, four supervised workers of one thread, and programs of a client."""

    def __init__(self, network: Network, directory: Path, disk: SmallDisk) -> None:
        self.network = network
        self.directory = directory
        #: Where the worker on `SMALL_DISK` writes what does not fit into its memory.
        self.disk = disk
        self._token = secrets.token_hex(16)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._small = SmallMemory(f"tlab-{os.getpid()}", SMALL_BYTES)
        for host in HOSTS:
            for name in ["run", "tmp"]:
                (directory / host / name).mkdir(parents=True, mode=0o700, exist_ok=True)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            self._end(process)
        self._small.remove()

    @property
    def has_small_memory(self) -> bool:
        """Whether the kernel bounds the memory of the host `SMALL`."""
        return self._small.path is not None

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def address(self) -> str:
        return f"tcp://{self.network.address('sched')}:{PORT}"

    # Processes.

    def start(self, host: str, *words: str, capture: bool = False) -> subprocess.Popen[str]:
        """``python -m WORDS`` on a host."""
        home = self.directory / host
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "TASKLOOM_TOKEN": self._token,
            "XDG_RUNTIME_DIR": str(home / "run"),
            "TMPDIR": str(home / "tmp"),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        with (home / "log").open("a") as log:
            out = subprocess.PIPE if capture else log
            joining = self._small.join_command() if host == SMALL else []
            command = [*joining, sys.executable, "-m", *words]
            return self.network.start(host, *command, env=environment, stdout=out, stderr=log)

    def start_scheduler(self) -> None:
        host = self.network.address("sched")
        times = ["--worker-ttl", str(TTL_S), "--reconnect-timeout", str(GRACE_S)]
        options = ["--port", str(PORT), *times, "--no-dashboard", "--allow-insecure-network"]
        words = ["taskloom", "scheduler", "--host", host, *options]
        self._processes["sched"] = self.start("sched", *words)

    def ensure_scheduler(self) -> None:
        if not self.is_up("sched"):
            self.start_scheduler()

    def ensure_worker(self, host: str) -> None:
        if not self.is_up(host):
            self.start_worker(host)

    def start_worker(self, host: str) -> None:
        own = ["--host", self.network.address(host), "--allow-insecure-network", "--name", host]
        scratch = self.disk.path if host == SMALL_DISK else self.directory / host / "tmp"
        local = ["--local-directory", str(scratch), "--nthreads", "1"]
        if host == SMALL_DISK:
            local += ["--memory-limit", str(LITTLE_BYTES)]
        words = ["taskloom", "worker", self.address, *own, *local, "--no-dashboard"]
        self._processes[host] = self.start(host, *words)

    def start_client(self, *what: str) -> subprocess.Popen[str]:
        return self.start("client", "tests.netlab.workload", self.address, *what, capture=True)

    def is_up(self, host: str) -> bool:
        process = self._processes.get(host)
        return process is not None and process.poll() is None

    def restore(self) -> list[str]:
        """Start again what has ended; returns the hosts where that was."""
        ended = [host for host in ["sched", *WORKERS] if not self.is_up(host)]
        for host in ended:
            self.start_scheduler() if host == "sched" else self.start_worker(host)
        return ended

    def renew_worker(self, host: str) -> None:
        """A new supervisor: one whose worker has died often pauses before it starts another."""
        self._end(self._processes[host])
        self.start_worker(host)

    def main_pid(self, host: str) -> int:
        """The scheduler's, or a worker's supervisor's."""
        return self._processes[host].pid

    def worker_pids(self, host: str) -> list[int]:
        """The process that runs tasks; none while it is started again."""
        return [pid for pid in self.network.pids(host) if pid != self.main_pid(host)]

    def signal_main(self, host: str, number: int) -> None:
        if self.is_up(host):
            self._processes[host].send_signal(number)
            if number == signal.SIGKILL:
                self._processes[host].wait()

    def signal_worker(self, host: str, number: int) -> None:
        for pid in self.worker_pids(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # Questions.

    def probe(self) -> dict[str, Any] | None:
        """What the scheduler knows; None when it does not answer."""
        process = self.start("client", "tests.netlab.probe", self.address, capture=True)
        try:
            out, _ = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None
        return json.loads(out) if process.returncode == 0 else None

    def scheduler_use(self) -> tuple[int, int]:
        """Resident bytes and open files of the scheduler's process."""
        pid = self.main_pid("sched")
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))

    def log_of(self, host: str, lines: int = 15) -> str:
        log = self.directory / host / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(what: str, condition: Any, timeout_s: float) -> Any:
    """Look again until there is an answer that counts."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s:g} s: {what}")
        time.sleep(0.1)
    return found
