"""What an object occupies in memory, roughly and quickly.

The figure steers placement and memory limits; a wrong one costs time, never a result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

#: Of containers this many items are looked at.
_SAMPLE = 10


def size_of(value: Any) -> int:
    """Bytes of ``value``, as its type tells, or else as ``dask.sizeof`` or ``sys`` estimate."""
    size = getattr(value, "nbytes", None)
    if type(size) is int and not _is_spread(value, size):
        return max(size, 0)
    estimate = _dask_sizeof()
    if estimate is not None:
        return max(int(estimate(value)), 0)
    return _plain_size(value)


def _is_spread(value: Any, size: int) -> bool:
    """Whether a large array repeats its elements: it occupies less than ``nbytes``."""
    return size > 1_000_000 and 0 in getattr(value, "strides", ())


def _dask_sizeof() -> Callable[[Any], Any] | None:
    """Dask's estimator, if the task's code uses dask anyway: importing it takes too long."""
    module = sys.modules.get("dask.sizeof")
    return getattr(module, "sizeof", None)


def _plain_size(value: Any) -> int:
    size = sys.getsizeof(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + _sampled(list(_first(value)), len(value))
    if isinstance(value, dict):
        return size + _sampled(
            [part for pair in _first(value.items()) for part in pair], 2 * len(value)
        )
    usage = getattr(value, "memory_usage", None)
    if usage is not None and hasattr(value, "dtypes"):
        total = usage(deep=False)
        return int(total.sum()) if hasattr(total, "sum") else int(total)
    return size


def _first(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_SAMPLE), strict=False)]


def _sampled(sample: list[Any], total: int) -> int:
    if not sample:
        return 0
    known = sum(getattr(item, "nbytes", None) or sys.getsizeof(item) for item in sample)
    return int(known / len(sample) * total)
