"""Versions of Python and packages, and whether they fit together."""

from __future__ import annotations

import platform
import sys
from typing import Any

__all__ = ["local_versions", "mismatches"]

#: Tasks and results travel as pickles: these must agree, or it may go wrong.
_MUST_AGREE = ("taskloom", "cloudpickle")

_SHOWN = ("taskloom", "cloudpickle", "dask", "numpy", "pandas")


def local_versions(packages: list[str]) -> dict[str, Any]:
    """Versions in this process; ``None`` where a package is not installed."""
    found: dict[str, str | None] = {"python": ".".join(map(str, sys.version_info))}
    found.update((name, _version(name)) for name in dict.fromkeys((*_SHOWN, *packages)))
    host = {
        "python": platform.python_version(),
        "python-bits": sys.maxsize.bit_length() + 1,
        "OS": platform.system(),
        "OS-release": platform.release(),
        "machine": platform.machine(),
        "byteorder": sys.byteorder,
    }
    return {"host": host, "packages": found}


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    if name == "taskloom":
        from taskloom import __version__

        return __version__
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def mismatches(versions: dict[str, Any], packages: list[str]) -> str:
    """Which workers differ from the client, as a table; empty when none does."""
    client = versions["client"]["packages"]
    rows = []
    for name in dict.fromkeys(("python", *_MUST_AGREE, *packages)):
        for address, worker in versions["workers"].items():
            theirs, ours = worker["packages"].get(name), client.get(name)
            if _compared(name, theirs) != _compared(name, ours):
                rows.append(f"  {name:20} client {ours}, {address} {theirs}")
    scheduler = versions["scheduler"]["packages"]["taskloom"]
    if scheduler != client["taskloom"]:
        rows.append(f"  {'taskloom':20} client {client['taskloom']}, scheduler {scheduler}")
    return "\n".join(["Mismatched versions found:", *rows]) if rows else ""


def _compared(name: str, version: str | None) -> Any:
    """Of Python, what makes pickles and bytecode differ."""
    return version.split(".")[:2] if name == "python" and version else version
