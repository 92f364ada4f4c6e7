"""Writing a cluster's state to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["plain", "writer"]


def plain(value: Any, exclude: set[str]) -> Any:
    """As dicts with text keys, lists and scalars, without the excluded entries."""
    if isinstance(value, dict):
        return {str(key): plain(item, exclude) for key, item in value.items() if key not in exclude}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, exclude) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)


def writer(filename: str, format: str, options: dict[str, Any]) -> Callable[[Any], None]:
    """A function that writes plain data; what it needs is looked for at once.

    Raises
    ------
    ValueError
        Another format.
    ImportError
        A package that the format or the URL needs is not installed.
    """
    if format == "json":
        ending, dump = ".json", _json
    elif format == "yaml":
        import yaml

        def dump(state: Any) -> bytes:
            return str(yaml.safe_dump(state, sort_keys=False)).encode()

        ending = ".yaml"
    elif format == "msgpack":
        import gzip

        import msgpack

        def dump(state: Any) -> bytes:
            return gzip.compress(msgpack.packb(state))

        ending = ".msgpack.gz"
    else:
        raise ValueError(f"format= must be 'json', 'yaml' or 'msgpack', not {format!r}")
    if "://" in filename:
        import fsspec

        def open_file() -> Any:
            return fsspec.open(filename + ending, "wb", **options)
    elif options:
        raise TypeError(f"storage options are for URLs: {sorted(options)}")
    else:

        def open_file() -> Any:
            return open(filename + ending, "wb")

    def write(state: Any) -> None:
        with open_file() as file:
            file.write(dump(state))

    return write


def _json(state: Any) -> bytes:
    return json.dumps(state, indent=1).encode()
