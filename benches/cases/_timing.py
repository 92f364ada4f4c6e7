"""Timing helpers of the cases."""

from __future__ import annotations

import time
from collections.abc import Callable


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def each_us(call: Callable[[int], object], count: int, warm_up: int) -> list[float]:
    """Duration of each of `count` calls, in us, after `warm_up` calls that do not count."""
    for i in range(warm_up):
        call(-1 - i)
    durations = []
    for i in range(count):
        begun = time.perf_counter()
        call(i)
        durations.append((time.perf_counter() - begun) * 1e6)
    return durations


def latency(durations: list[float]) -> dict[str, float]:
    return {"p50_us": percentile(durations, 0.5), "p99_us": percentile(durations, 0.99)}


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
