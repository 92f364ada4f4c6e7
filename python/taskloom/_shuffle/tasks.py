"""What runs on workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskloom._shuffle.files import ShardFile, Shards
from taskloom._shuffle.manifest import Manifest

__all__ = [
    "MERGE_OPTIONS",
    "barrier",
    "chunk_transfer",
    "chunk_unpack",
    "merge_transfer",
    "merge_unpack",
    "transfer",
    "unpack",
]


#: What :func:`merge_unpack` is told of a merge, by dask's names and in dask's order.
MERGE_OPTIONS = (
    "how",
    "left_on",
    "right_on",
    "suffixes",
    "left_index",
    "right_index",
    "indicator",
)

#: A column for the numbers of outputs.
_OUTPUTS = "__taskloom_outputs__"


def barrier(*inputs: ShardFile | Shards) -> Manifest:
    """All inputs are written: where they are."""
    return Manifest(each.shards if isinstance(each, ShardFile) else each for each in inputs)


def transfer(frame: Any, column: Any, n_outputs: int, wanted: Sequence[int] | None) -> ShardFile:
    """Write one partition's shards; `column` has the number of each row's output."""
    from taskloom._shuffle.frames import split_frame

    outputs = frame[column].to_numpy()
    return split_frame(frame, outputs, n_outputs, wanted, without=column)


def unpack(manifest: Manifest, output: int) -> Any:
    """Read one output partition."""
    from taskloom._shuffle.frames import join_frames

    return join_frames(manifest.readers(output), output)


def merge_transfer(
    frame: Any, on: Any, n_outputs: int, wanted: Sequence[int] | None, by_index: bool
) -> ShardFile:
    """Write one partition's shards by the hash of what is merged on."""
    from dask.dataframe.dask_expr._shuffle import AssignPartitioningIndex

    # The very hash that dask has elsewhere: a frame that is shuffled already may meet this one.
    hashed = AssignPartitioningIndex.operation(frame, on, _OUTPUTS, n_outputs, frame, by_index)
    return transfer(hashed, _OUTPUTS, n_outputs, wanted)


def merge_unpack(
    left: Manifest, right: Manifest, output: int, meta: Any, options: dict[str, Any]
) -> Any:
    """Read one partition of both sides, and merge them."""
    from dask.dataframe.multi import merge_chunk

    return merge_chunk(unpack(left, output), unpack(right, output), result_meta=meta, **options)


def chunk_transfer(array: Any, axes: Sequence[Any], n_new: Sequence[int]) -> ShardFile:
    """Write one chunk's shards."""
    from taskloom._shuffle.arrays import split_chunk

    return split_chunk(array, axes, n_new)


def chunk_unpack(
    manifest: Manifest,
    output: Sequence[int],
    axes: Sequence[Any],
    n_old: Sequence[int],
    n_new: Sequence[int],
) -> Any:
    """Read one new chunk."""
    from taskloom._shuffle.arrays import join_chunk

    return join_chunk(manifest, output, axes, n_old, n_new)
