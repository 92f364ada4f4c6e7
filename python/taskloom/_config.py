"""Settings of ``dask.config`` that also mean something here.

dask is not imported for it. When the program has imported it, its configuration counts (files,
environment, ``dask.config.set``); before that, only the environment's ``DASK_…`` variables do.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNSET: Any = object()


def setting(name: str, default: Any = None) -> Any:
    """The value that the user gave to a setting such as ``distributed.comm.timeouts.connect``.

    What a package registered as its own default does not count: only what somebody chose.
    """
    config = sys.modules.get("dask.config")
    if config is None or not hasattr(config, "get"):
        return _of_environment(name, default)
    value = config.get(name, _UNSET)
    if value is _UNSET or value is None or value == packaged(name):
        return default
    return value


def packaged(name: str) -> Any:
    """What packages such as distributed have registered; the last one counts."""
    found: Any = _UNSET
    for level in getattr(sys.modules.get("dask.config"), "defaults", ()):
        value: Any = level
        for part in name.split("."):
            value = _part(value, part)
        found = value if value is not _UNSET else found
    return found


def _part(level: Any, part: str) -> Any:
    if not isinstance(level, dict):
        return _UNSET
    return level.get(part, level.get(part.replace("-", "_"), _UNSET))


def _of_environment(name: str, default: Any) -> Any:
    variable = "DASK_" + name.replace(".", "__").replace("-", "_").upper()
    text = os.environ.get(variable)
    if text is None:
        return default
    import ast

    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
