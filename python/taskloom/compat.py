"""Opt-in: ``import distributed`` gives taskloom, in code that is not yours.

>>> import taskloom.compat
>>> taskloom.compat.install()
>>> import xgboost.dask, dask_ml.model_selection  # they use taskloom now

Call :func:`install` before importing the libraries: what a library has imported already stays as
it is. Worker processes that are started afterwards do the same.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["install", "is_installed", "uninstall"]

#: Tells worker processes to install it before their first task.
ENVIRONMENT = "TASKLOOM_COMPAT_DISTRIBUTED"

_TARGET = "taskloom.distributed"
_MISSING = object()

#: What stood in ``sys.modules`` before, by name, and the variable's value.
_replaced: dict[str, ModuleType] | None = None
_variable: str | None = None


def is_installed() -> bool:
    """Whether ``distributed`` means taskloom in this process."""
    return _replaced is not None


def install() -> None:
    """Let ``distributed``, ``dask.distributed`` and their common submodules be taskloom's.

    Holds for this process and for the worker processes that it starts from now on; workers that
    are started by hand need ``TASKLOOM_COMPAT_DISTRIBUTED=1`` in their environment. Doing it twice
    changes nothing. :func:`uninstall` takes it back.

    Warns
    -----
    UserWarning
        A library was imported before, and keeps the ``distributed`` that it found.
    """
    global _replaced, _variable
    if _replaced is not None:
        return
    _warn_of_earlier_imports(sys.modules.get("distributed"))
    _replaced = _take_out()
    package = import_module(_TARGET)
    names = [name for name in sys.modules if _is_below(name, _TARGET)]
    for name in names:
        sys.modules["distributed" + name.removeprefix(_TARGET)] = sys.modules[name]
    # Functions that were pickled as part of it are found under both names.
    assert sys.modules["distributed"] is package
    sys.meta_path.insert(0, _Finder())
    _forget_in_dask()
    _variable = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = "1"


def uninstall() -> None:
    """Undo :func:`install` in this process. Nothing happens if it is not installed."""
    global _replaced
    if _replaced is None:
        return
    before, _replaced = _replaced, None
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    _take_out()
    sys.modules.update(before)
    dask = sys.modules.get("dask")
    if dask is not None and "dask.distributed" in before:
        dask.distributed = before["dask.distributed"]  # type: ignore[attr-defined]
    _forget_in_dask()
    if _variable is None:
        os.environ.pop(ENVIRONMENT, None)
    else:
        os.environ[ENVIRONMENT] = _variable


def _is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _take_out() -> dict[str, ModuleType]:
    """Remove ``distributed`` and ``dask.distributed`` from the imported modules."""
    names = [
        name
        for name in sys.modules
        if _is_below(name, "distributed") or _is_below(name, "dask.distributed")
    ]
    dask = sys.modules.get("dask")
    if dask is not None:
        vars(dask).pop("distributed", None)
    return {name: sys.modules.pop(name) for name in names}


def _forget_in_dask() -> None:
    """dask remembers the ``distributed`` that it has found."""
    base = sys.modules.get("dask.base")
    if getattr(base, "_DISTRIBUTED_AVAILABLE", _MISSING) is not _MISSING:
        base._DISTRIBUTED_AVAILABLE = None  # type: ignore[union-attr]


def _warn_of_earlier_imports(real: ModuleType | None) -> None:
    if real is None:
        return
    late = sorted(
        name
        for name, module in list(sys.modules.items())
        if not _is_below(name, "distributed")
        and vars(module).get("distributed") is real
        and name not in ("dask", "__main__")
    )
    if late:
        import warnings

        warnings.warn(
            f"imported before taskloom.compat.install(), these modules keep the real distributed: "
            f"{', '.join(late)}. Call install() before importing them.",
            UserWarning,
            stacklevel=3,
        )


class _Finder:
    """Says which part of ``distributed`` is missing, where the real one would be found."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if _is_below(name, "distributed"):
            raise ModuleNotFoundError(
                f"taskloom does not offer the module {name!r} (taskloom.compat is installed; "
                f"taskloom.compat.uninstall() gives the real distributed back)",
                name=name,
            )
