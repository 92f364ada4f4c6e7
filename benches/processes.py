"""What the kernel says about a process and its descendants (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found.extend(int(word) for word in children.read_text().split())
            except OSError:
                continue
    return found


def proportional_bytes(pids: list[int]) -> int:
    """Memory of the processes, shared pages divided among those who share them (PSS)."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def cpu_seconds(pids: list[int]) -> float:
    """Processor time used so far, by the scheduler's books of each thread.

    The usual counters advance by ticks of 10 ms, which is more than an idle cluster uses in a
    second: they measure chance.
    """
    total_ns = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total_ns += int(path.read_text().split()[0])
            except OSError:
                continue
    return total_ns / 1e9


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
