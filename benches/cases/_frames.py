"""Frames for the cases of dask.dataframe, made by tasks where they are used."""

from __future__ import annotations

from typing import Any


def make_part(number: int, rows: int, seed: int) -> Any:
    """One partition: a key, two numbers, a text."""
    import numpy as np
    import pandas as pd

    chance = np.random.default_rng([seed, number])
    names = pd.array([f"name-{n}" for n in range(1000)], dtype="str")
    return pd.DataFrame(
        {
            "key": chance.integers(0, 100_000, rows),
            "x": chance.random(rows),
            "y": chance.integers(0, 1 << 40, rows),
            "name": names.take(chance.integers(0, 1000, rows)),
        }
    )


def make_frame(parts: int, rows: int, seed: int) -> Any:
    import dask.dataframe as dd

    meta = make_part(0, 1, 0).iloc[:0]
    return dd.from_map(make_part, range(parts), rows=rows, seed=seed, meta=meta)


def count_rows(frame: Any) -> int:
    """Computes all partitions of a frame on the workers."""
    return int(frame.map_partitions(len, meta=int).sum().compute())
