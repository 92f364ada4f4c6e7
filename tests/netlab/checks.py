"""What must hold after every round, when all faults are over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netlab.cluster import WORKERS, Lab, wait_for

#: How long a cluster may take to be whole again: the time-outs of all parties, and starts.
HEAL_S = 60
#: How far the scheduler's memory may be above what it was after its first workload.
MEMORY_SLACK = 30_000_000
#: Open files beyond the first count; connections come and go.
FILE_SLACK = 12
#: Outcomes of futures that are no broken promise: the right value, or an error with a name.
BROKEN = ("wrong", "pending")


@dataclass
class Baseline:
    """What a scheduler's process used when it was new and had done something."""

    pid: int = 0
    resident_bytes: int = 0
    files: int = 0


def judge_ends(ends: dict[str, int], faults_harm_client: bool) -> list[str]:
    """How a client's futures ended."""
    problems = [f"{n} futures ended {end}" for end, n in ends.items() if end in BROKEN]
    problems += [f"{n} x {end}" for end, n in ends.items() if end.startswith("unexplained")]
    errors = {end: n for end, n in ends.items() if end not in ("right", "eaten")}
    if not faults_harm_client and errors and not problems:
        problems.append(f"errors although neither scheduler nor client was harmed: {errors}")
    return problems


def wait_until_whole(lab: Lab) -> dict[str, Any]:
    """Until all workers are there and no task is left; the scheduler's facts then."""
    seen: dict[str, Any] = {}

    def is_whole() -> bool:
        lab.restore()
        facts = lab.probe()
        seen.clear()
        seen.update(facts or {"probe": "no answer"})
        return bool(facts) and set(facts["workers"]) == set(WORKERS) and not facts["tasks"]

    try:
        wait_for("the cluster is whole, and no task is left", is_whole, HEAL_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; at last: {seen}") from None
    return seen


def check_processes(lab: Lab) -> list[str]:
    """A supervisor and a worker on each host, the scheduler, and nothing else."""
    expected = {"sched": 1, "client": 0, **dict.fromkeys(WORKERS, 2)}
    found = {host: len(lab.network.pids(host)) for host in expected}
    return [
        f"{n} processes on {host}, not {expected[host]}"
        for host, n in found.items()
        if n != expected[host]
    ]


def check_scheduler(lab: Lab, facts: dict[str, Any], baseline: Baseline) -> list[str]:
    """Its counters, and its memory and files against the first round of the same process."""
    problems = []
    if facts["counters"].get("illegal_transitions"):
        problems.append(f"illegal transitions: {facts['counters']}")
    resident_bytes, files = lab.scheduler_use()
    pid = lab.main_pid("sched")
    if baseline.pid != pid:
        baseline.pid, baseline.resident_bytes, baseline.files = pid, resident_bytes, files
    if resident_bytes > baseline.resident_bytes + MEMORY_SLACK:
        problems.append(
            f"the scheduler's memory grew from {baseline.resident_bytes} to {resident_bytes} bytes"
        )
    if files > baseline.files + FILE_SLACK:
        problems.append(f"the scheduler's open files grew from {baseline.files} to {files}")
    return problems


def shared_memory(directory: Path) -> list[int]:
    """Processes of the laboratory in that directory that have values in shared memory: segments
    have no names, and live as long as somebody has them."""
    processes = Path("/proc").glob("[0-9]*")
    return sorted(int(path.name) for path in processes if has_segment(path, str(directory)))


def has_segment(process: Path, directory: str) -> bool:
    try:
        is_of_laboratory = directory in (process / "environ").read_text(errors="replace")
        return is_of_laboratory and "/memfd:taskloom" in (process / "maps").read_text()
    except OSError:
        return False


def left_files(directory: Path) -> list[str]:
    """What the ended processes left on their hosts.

    Not logs, and not the tables of supervisors that were killed: the next supervisor that starts
    a minute later removes those.
    """
    files = [path for path in directory.rglob("*") if path.is_file() or path.is_socket()]
    kept = [path for path in files if path.name == "log" or path.name.startswith("executing-")]
    return sorted(str(path.relative_to(directory)) for path in files if path not in kept)
