"""Small helpers of the public layer."""

from __future__ import annotations

import re

from taskloom._taskloom import key_split

__all__ = ["format_bytes", "key_split", "parse_bytes", "parse_seconds"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SECONDS = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "microsecond": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}

_BYTES = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "m": 10**6,
    "mb": 10**6,
    "g": 10**9,
    "gb": 10**9,
    "t": 10**12,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def _split(text: str) -> tuple[float, str] | None:
    match = re.fullmatch(r"\s*([0-9.]*(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None:
        return None
    number, unit = match.groups()
    try:
        return (float(number) if number else 1.0), unit.lower()
    except ValueError:
        return None


def parse_seconds(value: Any) -> float | None:
    """Seconds from a number, a ``timedelta``, ``None`` or a text such as ``'100 ms'``.

    Raises
    ------
    ValueError
        The text is no duration.
    """
    if value is None:
        return None
    if isinstance(value, str):
        parts = _split(value)
        if parts is None or parts[1] not in _SECONDS:
            raise ValueError(f"not a duration: {value!r}; write a number of seconds or '100 ms'")
        return parts[0] * _SECONDS[parts[1]]
    if hasattr(value, "total_seconds"):
        return float(value.total_seconds())
    return float(value)


def parse_bytes(value: Any) -> int:
    """Bytes from a number or a text such as ``'4 GB'``.

    Raises
    ------
    ValueError
        The text is no size.
    """
    if isinstance(value, str):
        parts = _split(value)
        if parts is None or parts[1] not in _BYTES:
            raise ValueError(f"not a size: {value!r}; write a number of bytes or '4 GB'")
        return int(parts[0] * _BYTES[parts[1]])
    return int(value)


def format_bytes(count: float) -> str:
    """A size for people, such as ``1.50 GiB``."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10)):
        if count >= size * 0.9:
            return f"{count / size:.2f} {unit}"
    return f"{int(count)} B"


def report_collision(key: str, kept: str | None, refused: str, strict: bool) -> None:
    """A key that is in use was submitted for other work.

    Raises
    ------
    KeyCollisionError
        When ``strict``.
    """
    from taskloom import errors

    same = " with other arguments" if kept == refused else ""
    text = (
        f"key {key!r} is in use for {kept or 'other work'}(…) and was submitted for "
        f"{refused}(…){same}: the first is kept, and its future returned. Choose another key, or "
        f"let go of the first future."
    )
    if strict:
        raise errors.KeyCollisionError(text)
    import warnings

    warnings.warn(text, errors.KeyCollisionWarning, stacklevel=4)
