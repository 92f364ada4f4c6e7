"""Functions that run as tasks: importable by every system's workers, and small."""

from __future__ import annotations

import hashlib
import time


def noop(x=None):
    return x


def first(*args):
    """A task that needs all its inputs and does nothing with them."""
    return 1


def merge(values):
    """As `first`, for inputs that come as one list."""
    return len(values)


def stamp(_i):
    """When this task started, on the clock that all processes of a machine share."""
    return time.monotonic()


def compute(iterations, *_inputs):
    """A compute-bound kernel without memory traffic: releases the GIL, proportional to its
    argument (about 0.2 to 0.5 us an iteration)."""
    if iterations:
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", iterations)
    return 0


def hold_gil(seconds):
    """Keep the GIL for about `seconds`: one loop in C."""
    import collections
    import itertools

    sample = 2_000_000
    begun = time.perf_counter()
    collections.deque(itertools.repeat(None, sample), maxlen=0)
    rate = sample / (time.perf_counter() - begun)
    begun = time.perf_counter()
    collections.deque(itertools.repeat(None, int(rate * seconds)), maxlen=0)
    return time.perf_counter() - begun


def array(megabytes, fill):
    """A new array of that size."""
    import numpy

    return numpy.full(int(megabytes * 125_000), float(fill))


def content(size, fill):
    """Bytes of that size."""
    return bytes([fill % 256]) * size
