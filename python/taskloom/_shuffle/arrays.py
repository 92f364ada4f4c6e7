"""Chunks of arrays as shards, and back."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from taskloom._shuffle.files import ShardFile, ShardReader, write_shards
from taskloom._shuffle.manifest import Manifest

__all__ = ["Axis", "axes_of_input", "axes_of_output", "join_chunk", "split_chunk"]

#: Along one axis, what two chunks have in common: the number of the other chunk, and where it
#: begins and ends in this one.
Axis = Sequence[tuple[int, int, int]]


def _overlaps(chunk: int, own: Sequence[int], others: Sequence[int]) -> Axis:
    """Which of the other chunks share something with one of the own, along an axis."""
    begin = sum(own[:chunk])
    end = begin + own[chunk]
    found, start = [], 0
    for number, length in enumerate(others):
        low, high = max(begin, start), min(end, start + length)
        if low < high:
            found.append((number, low - begin, high - begin))
        start += length
    return tuple(found)


def axes_of_input(
    chunk: Sequence[int], old: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> tuple[Axis, ...]:
    """How a chunk is cut into shards for the new chunks, per axis."""
    return tuple(map(_overlaps, chunk, old, new))


def axes_of_output(
    chunk: Sequence[int], old: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> tuple[Axis, ...]:
    """Of which old chunks' shards a new chunk consists, per axis."""
    return tuple(map(_overlaps, chunk, new, old))


def split_chunk(array: Any, axes: Sequence[Axis], n_new: Sequence[int]) -> ShardFile:
    """Write what a chunk has for each of the new chunks.

    Parameters
    ----------
    n_new : sequence of int
        How many new chunks there are along each axis.
    """
    is_raw = type(array) is np.ndarray and not array.dtype.hasobject

    def shards() -> Any:
        for place in product(*axes):
            output = int(np.ravel_multi_index([number for number, _, _ in place], tuple(n_new)))
            piece = array[tuple(slice(start, stop) for _, start, stop in place)]
            if is_raw:
                # As bytes: not every type of numpy can be had as a buffer.
                yield output, [np.ascontiguousarray(piece).reshape(-1).view(np.uint8)]
            else:
                yield output, [pickle.dumps(piece, 5)]

    n_outputs = int(np.prod(n_new, dtype=np.int64))
    return write_shards(shards(), n_outputs, array.dtype if is_raw else None)


def join_chunk(
    manifest: Manifest,
    output: Sequence[int],
    axes: Sequence[Axis],
    n_old: Sequence[int],
    n_new: Sequence[int],
) -> Any:
    """One new chunk.

    Parameters
    ----------
    output, n_old, n_new : sequence of int
        The chunk's place, and how many old and new chunks there are, along each axis.
    """
    number = int(np.ravel_multi_index(tuple(output), tuple(n_new)))
    shape = tuple(axis[-1][2] if axis else 0 for axis in axes)
    places = list(product(*(enumerate(axis) for axis in axes)))
    inputs = [
        int(np.ravel_multi_index([old for _, (old, _, _) in place], tuple(n_old)))
        for place in places
    ]
    if not places:
        # A chunk of length 0 has no pieces; of what type it is, any input knows.
        return np.empty(shape, manifest.readers(number, [0])[0].extra)
    sources = manifest.readers(number, inputs)
    if any(source.extra is None for source in sources):
        return _concatenated(
            {
                tuple(position for position, _ in place): _piece(source, number, place)
                for place, source in zip(places, sources, strict=True)
            },
            axes,
        )
    result = np.empty(shape, sources[0].extra)
    for place, source in zip(places, sources, strict=True):
        target = tuple(slice(start, stop) for _, (_, start, stop) in place)
        result[target] = _piece(source, number, place)
    return result


def _piece(source: ShardReader, output: int, place: Any) -> Any:
    """What one input has for a new chunk."""
    data = source.shard(output)
    if source.extra is None:
        return pickle.loads(data)
    shape = [stop - start for _, (_, start, stop) in place]
    return np.frombuffer(data, np.uint8).view(source.extra).reshape(shape)


def _concatenated(pieces: dict[tuple[int, ...], Any], axes: Sequence[Axis]) -> Any:
    """Pieces of whatever kind of array, by the library that knows how."""
    from dask.array.core import concatenate3

    grid = np.empty([len(axis) for axis in axes], object)
    for position, piece in pieces.items():
        grid[position] = piece
    return concatenate3(grid.tolist())
