"""Frames of pandas as shards, and back.

Columns that Arrow can carry exactly are taken into the order of the outputs and written as one
Arrow record batch per output. Columns of Python objects and of other extension types are pickled
piece by piece: slower, and exact as well. Labels, types and categories are written once per file.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from taskloom._shuffle.files import ALIGNMENT, ShardFile, ShardReader, write_shards
from taskloom.errors import ShuffleError

__all__ = ["FrameShape", "join_frames", "split_frame"]

#: Fewer outputs than this are numbered with 16 bits, which are sorted much faster.
_SHORT = 1 << 16


class FrameShape(NamedTuple):
    """All of a frame but its rows."""

    columns: pd.Index
    dtypes: tuple[Any, ...]
    index_names: tuple[Any, ...]
    index_dtypes: tuple[Any, ...]

    def equals(self, other: FrameShape) -> bool:
        """Whether rows of both may be mixed without a look at them."""
        return (
            _same_labels(self.columns, other.columns)
            and self.index_names == other.index_names
            and _same_dtypes(self.dtypes, other.dtypes)
            and _same_dtypes(self.index_dtypes, other.index_dtypes)
        )


def _same_labels(one: pd.Index, other: pd.Index) -> bool:
    return one is other or (one.identical(other) and list(one) == list(other))


def _same_dtypes(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(_same_dtype, one, other))


def _same_dtype(one: Any, other: Any) -> bool:
    if isinstance(one, pd.CategoricalDtype) and isinstance(other, pd.CategoricalDtype):
        # Categories in another order are equal for pandas, but have other codes.
        return one.ordered == other.ordered and (
            one.categories is other.categories or one.categories.identical(other.categories)
        )
    return type(one) is type(other) and bool(one == other)


class _Extra(NamedTuple):
    """What a file says beside its shards."""

    shape: FrameShape
    #: Of the columns, and behind them of the index's levels, those that Arrow carries.
    arrow: tuple[int, ...]
    schema: bytes
    #: Of each output's shard.
    rows: np.ndarray
    #: Of each output's shard, the length of what Arrow wrote.
    arrow_bytes: np.ndarray


def split_frame(
    frame: pd.DataFrame,
    outputs: np.ndarray,
    n_outputs: int,
    wanted: Sequence[int] | None = None,
    without: Any = None,
) -> ShardFile:
    """Write a frame's rows as shards, in the rows' order.

    Parameters
    ----------
    outputs : array of int
        The output of each row.
    wanted : sequence of int, optional
        Rows of other outputs are left out.
    without : label, optional
        A column that is left out.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ShuffleError(
            f"a p2p shuffle takes pandas.DataFrame, not {type(frame).__module__}."
            f"{type(frame).__name__}; set dataframe.shuffle.method to 'tasks' for others"
        )
    numbers = _numbers(outputs, len(frame), n_outputs)
    if without is not None:
        frame = frame.drop(columns=without)
    order = np.argsort(numbers, kind="stable")
    rows = np.bincount(numbers, minlength=n_outputs)
    ends = np.cumsum(rows)
    if wanted is not None:
        left_out = np.ones(n_outputs, bool)
        left_out[list(wanted)] = False
        starts, rows = ends - rows, np.where(left_out, 0, rows)
    else:
        starts = ends - rows
    arrays = _arrays(frame)
    carried = {place: _to_arrow(array) for place, array in enumerate(arrays)}
    arrow = tuple(place for place, array in carried.items() if array is not None)
    others = [arrays[place].take(order) for place, array in carried.items() if array is None]
    batch = pa.RecordBatch.from_arrays(
        [carried[place] for place in arrow], names=[str(place) for place in arrow]
    )
    if arrow:
        batch = batch.take(pa.array(order))
    arrow_bytes = np.zeros(n_outputs, np.int64)
    extra = _Extra(_shape(frame), arrow, batch.schema.serialize().to_pybytes(), rows, arrow_bytes)

    def shards() -> Iterable[tuple[int, list[Any]]]:
        for output in np.flatnonzero(rows).tolist():
            start, length = int(starts[output]), int(rows[output])
            buffers: list[Any] = []
            if arrow:
                buffers.append(batch.slice(start, length).serialize())
                arrow_bytes[output] = buffers[0].size
            if others:
                buffers.append(pickle.dumps([a[start : start + length] for a in others], 5))
            yield output, buffers

    return write_shards(shards(), n_outputs, extra)


def _numbers(outputs: np.ndarray, n_rows: int, n_outputs: int) -> np.ndarray:
    """The outputs as a small type of integers, checked."""
    outputs = np.asarray(outputs)
    if outputs.shape != (n_rows,):
        raise ShuffleError(f"{n_rows} rows need as many outputs, not {outputs.shape}")
    if outputs.dtype.kind not in "iu":
        numbers = outputs.astype(np.int64)
        if not (numbers == outputs).all():
            raise ShuffleError("the numbers of output partitions must be integers without gaps")
        outputs = numbers
    if n_rows and not 0 <= int(outputs.min()) <= int(outputs.max()) < n_outputs:
        raise ShuffleError(
            f"the numbers of output partitions must be from 0 to {n_outputs - 1}; "
            f"there are {outputs.min()} to {outputs.max()}"
        )
    return outputs.astype(np.uint16 if n_outputs <= _SHORT else np.int64)


def _arrays(frame: pd.DataFrame) -> list[Any]:
    """The columns' arrays, and behind them those of the index's levels."""
    columns = [frame.iloc[:, place].array for place in range(frame.shape[1])]
    index = frame.index
    levels = [index.get_level_values(level).array for level in range(index.nlevels)]
    return [
        array.to_numpy() if isinstance(array, pd.arrays.NumpyExtensionArray) else array
        for array in columns + levels
    ]


def _shape(frame: pd.DataFrame) -> FrameShape:
    index = frame.index
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    return FrameShape(
        frame.columns,
        tuple(frame.dtypes),
        tuple(index.names),
        tuple(level.dtype for level in levels),
    )


#: Kinds of numpy's types that Arrow has, too: bool, int, unsigned, float, datetime, timedelta.
_KINDS = frozenset("biufMm")
_UNITS = frozenset({"s", "ms", "us", "ns"})


def _is_plain(dtype: Any) -> bool:
    """Whether values of a type go through Arrow and come back as they were."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS or not dtype.isnative:
        return False
    if dtype.kind in "Mm":
        return np.datetime_data(dtype)[0] in _UNITS and np.datetime_data(dtype)[1] == 1
    return dtype.itemsize <= 8


def _is_arrow_extension(dtype: Any) -> bool:
    """Whether a type of pandas knows by itself how to go through Arrow and back."""
    if isinstance(dtype, pd.StringDtype | pd.ArrowDtype | pd.DatetimeTZDtype):
        return True
    # Masked integers, floats and booleans.
    return hasattr(dtype, "numpy_dtype") and hasattr(dtype, "__from_arrow__")


def _to_arrow(array: Any) -> pa.Array | None:
    """An array for a record batch; ``None``: it has to be pickled."""
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return pa.array(array.codes)
    if _is_plain(dtype):
        # Timestamps of pandas are arrays of their own.
        return pa.array(np.asarray(array))
    if not _is_arrow_extension(dtype):
        return None
    converted = pa.array(array)
    if isinstance(converted, pa.ChunkedArray):
        converted = converted.combine_chunks()
    # Text beyond 2 GiB stays in pieces.
    return converted if isinstance(converted, pa.Array) else None


class _Piece(NamedTuple):
    """One file's rows for an output."""

    reader: ShardReader
    extra: _Extra
    batch: pa.RecordBatch | None
    others: list[Any]
    rows: int


def join_frames(files: Iterable[ShardReader], output: int) -> pd.DataFrame:
    """The rows that one output gets, in the order of the inputs."""
    pieces: list[_Piece] = []
    first = None
    readers = list(files)
    for reader in readers:
        extra = _extra(reader)
        # An input without rows may have other types.
        if first is None or (not first.rows.any() and extra.rows.any()):
            first = extra
        if extra.rows[output]:
            pieces.append(_piece(reader, extra, output))
    if first is None:
        raise ShuffleError("a shuffle without inputs has no outputs")
    if not pieces:
        return _empty(first.shape)
    frames = [_frame(group) for group in _groups(pieces)]
    if len(frames) == 1:
        return frames[0]
    from dask.dataframe.dispatch import concat

    return concat(frames)


def _extra(reader: ShardReader) -> _Extra:
    extra = reader.extra
    if not isinstance(extra, _Extra):
        raise ShuffleError("the shards of an array were met where those of a frame were expected")
    return extra


def _piece(reader: ShardReader, extra: _Extra, output: int) -> _Piece:
    data, batch, others = reader.shard(output), None, []
    length = int(extra.arrow_bytes[output])
    if extra.arrow:
        if reader.schema is None:
            reader.schema = pa.ipc.read_schema(pa.py_buffer(extra.schema))
        batch = pa.ipc.read_record_batch(pa.py_buffer(data[:length]), reader.schema)
    if len(extra.arrow) < len(extra.shape.dtypes) + len(extra.shape.index_dtypes):
        others = pickle.loads(data[length:])
    return _Piece(reader, extra, batch, others, int(extra.rows[output]))


def _groups(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Neighbours whose rows can be put together as they are."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        if groups and _are_alike(groups[-1][0].reader, piece.reader):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _are_alike(one: ShardReader, other: ShardReader) -> bool:
    """Whether frames of two files have the same shape; found out once for two files."""
    if one.alike is not other.alike:
        if not one.extra.shape.equals(other.extra.shape):
            return False
        other.alike = one.alike
    return True


def _frame(pieces: list[_Piece]) -> pd.DataFrame:
    """One frame of pieces of the same shape."""
    extra = pieces[0].extra
    shape = extra.shape
    dtypes = (*shape.dtypes, *shape.index_dtypes)
    n_columns = len(shape.dtypes)
    batches = [piece.batch for piece in pieces if piece.batch is not None]
    table = pa.Table.from_batches(batches) if batches else pa.table({})
    arrow = {place: position for position, place in enumerate(extra.arrow)}
    pickled = [place for place in range(len(dtypes)) if place not in arrow]

    def array(place: int) -> Any:
        dtype = dtypes[place]
        if place not in arrow:
            position = pickled.index(place)
            return _concatenated([piece.others[position] for piece in pieces])
        return _from_arrow(table.column(arrow[place]), dtype)

    plain = [place for place in range(n_columns) if place in arrow and _is_plain(dtypes[place])]
    if plain:
        frame = table.select([arrow[place] for place in plain]).to_pandas(use_threads=False)
        if len(pieces) == 1:
            # Of a single piece it may be a view of the file.
            frame = frame.copy()
        frame.columns = pd.RangeIndex(len(plain))
    else:
        frame = pd.DataFrame(index=pd.RangeIndex(sum(piece.rows for piece in pieces)))
    are_plain = set(plain)
    for place in range(n_columns):
        if place not in are_plain:
            frame.insert(place, f"column {place}", pd.Series(array(place), index=frame.index))
    levels = [array(n_columns + level) for level in range(len(shape.index_dtypes))]
    frame.index = _index(levels, shape)
    frame.columns = shape.columns
    return frame


def _index(levels: list[Any], shape: FrameShape) -> pd.Index:
    if len(levels) == 1:
        return pd.Index(levels[0], dtype=shape.index_dtypes[0], name=shape.index_names[0])
    return pd.MultiIndex.from_arrays(levels, names=shape.index_names)


def _from_arrow(column: pa.ChunkedArray, dtype: Any) -> Any:
    """An array of memory of its own: the file is to be removed while it is used."""
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Categorical.from_codes(_owned_numpy(column), dtype=dtype)
    if _is_plain(dtype):
        return _owned_numpy(column)
    return dtype.__from_arrow__(_owned(column))


def _owned_numpy(column: pa.ChunkedArray) -> np.ndarray:
    values = column.to_numpy()
    return values.copy() if column.num_chunks == 1 else values


def _owned(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0).take(pa.array(np.arange(len(column))))
    return column.combine_chunks()


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True).array


def _empty(shape: FrameShape) -> pd.DataFrame:
    """No rows of a shape."""
    columns = {
        place: pd.Series(
            pd.array([], dtype=dtype) if not isinstance(dtype, np.dtype) else np.empty(0, dtype)
        )
        for place, dtype in enumerate(shape.dtypes)
    }
    frame = pd.DataFrame(columns)
    levels = [
        pd.Index([], dtype=dtype, name=name)
        for dtype, name in zip(shape.index_dtypes, shape.index_names, strict=True)
    ]
    if len(levels) == 1:
        frame.index = levels[0]
    else:
        frame.index = pd.MultiIndex.from_arrays(levels, names=shape.index_names)
    frame.columns = shape.columns
    return frame


assert ALIGNMENT % 8 == 0, "Arrow's buffers are read where they lie"
