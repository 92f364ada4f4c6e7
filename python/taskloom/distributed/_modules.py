"""Modules that look their names up elsewhere, and say what is not offered."""

from __future__ import annotations

import dis
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

_IMPORT_FROM = dis.opmap["IMPORT_FROM"]


class ShimModule(ModuleType):
    """A module whose names are found at first use.

    Parameters
    ----------
    name : its full name
    doc : its docstring
    """

    _homes: dict[str, str]
    _refused: dict[str, str]

    def __init__(self, name: str, doc: str) -> None:
        super().__init__(name, doc)
        # A package without files: its submodules stand in `sys.modules` from the beginning.
        self.__path__: list[str] = []
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__package__ = name

    def _set_names(self, homes: dict[str, str], refused: dict[str, str]) -> None:
        """Where each name lives, as ``module:attribute``, and why others are not offered."""
        self._homes = homes
        self._refused = refused

    def __reduce__(self) -> Any:
        """Pickled by name; cloudpickle does that for modules of the exact type only."""
        return import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        home = self.__dict__.get("_homes", {}).get(name)
        if home is not None:
            found, value = _find(home)
            if found:
                setattr(self, name, value)
                return value
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise self._missing(name, sys._getframe(1))

    def _missing(self, name: str, caller: FrameType) -> Exception:
        short = self.__name__.removeprefix("taskloom.")
        reason = self._refused.get(name)
        text = f"taskloom does not offer {short}.{name}" + (f": {reason}" if reason else "")
        # Python replaces the text of an AttributeError in `from distributed import name`.
        if caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == _IMPORT_FROM:
            return ImportError(text, name=self.__name__)
        return AttributeError(text, name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted(name for name, home in self._homes.items() if _is_offered(home))


def _is_offered(home: str) -> bool:
    """Whether the name is there, without importing what has it if that can be told."""
    module, _, attribute = home.partition(":")
    if module == "taskloom":
        import taskloom

        return attribute in taskloom.__all__
    return _find(home)[0]


def _find(home: str) -> tuple[bool, Any]:
    module, _, attribute = home.partition(":")
    try:
        return True, getattr(import_module(module), attribute)
    except (AttributeError, ModuleNotFoundError):
        return False, None
