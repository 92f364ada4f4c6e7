"""Helpers of the cases that move large values."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable
from typing import Any

from benches.cases._timing import seconds as timed


def median_ms(step: Callable[[int], float], count: int) -> float:
    """Median of `count` durations that `step` gives in seconds, after one that does not count."""
    step(-1)
    return statistics.median(step(i) for i in range(count)) * 1e3


__all__ = ["addresses", "median_ms", "timed", "wait"]


def wait(future: Any) -> Any:
    """Until the result is there, without bringing it."""
    importlib.import_module(type(future).__module__.split(".")[0]).wait([future], timeout=60)
    return future


def addresses(client: Any) -> list[str]:
    return list(client.scheduler_info(n_workers=-1)["workers"])
