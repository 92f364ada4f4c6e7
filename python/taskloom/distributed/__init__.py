"""The names of ``dask.distributed``, as far as taskloom has them.

A program ports by its import:

>>> import taskloom.distributed as distributed
>>> from taskloom.distributed import Client, Lock
>>> from taskloom.distributed.utils import TimeoutError

For libraries that import ``distributed`` themselves there is :func:`taskloom.compat.install`. A
name of ``distributed`` that is not offered raises an error that says so, and what to do.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from taskloom.distributed import _names
from taskloom.distributed._modules import ShimModule

if TYPE_CHECKING:
    from taskloom import *  # noqa: F403

#: Of ``distributed``, whose behaviour this is; libraries look at it.
__version__ = _names.VERSION
__git_revision__ = "taskloom"


class _Package(ShimModule):
    """This module: its list of names grows with what is offered."""

    @property
    def __all__(self) -> list[str]:
        return self.__dir__()


def _become_package() -> None:
    module: Any = sys.modules[__name__]
    module.__class__ = _Package
    module._set_names(_names.PUBLIC, _names.REFUSED)
    for name, names in _names.SUBMODULES.items():
        _add_submodule(name, names)


def _add_submodule(name: str, names: dict[str, str]) -> None:
    """Make ``taskloom.distributed.NAME``; its parents come before it in the table."""
    full = f"{__name__}.{name}"
    parent, _, last = full.rpartition(".")
    module = ShimModule(full, f"Names of ``distributed.{name}``; see :mod:`taskloom.distributed`.")
    module._set_names(names, _names.REFUSED)
    sys.modules[full] = module
    # `distributed.worker_client` is the function; the module is had by `import` only.
    above: Any = sys.modules[parent]
    if last not in above._homes:
        setattr(above, last, module)


_become_package()
