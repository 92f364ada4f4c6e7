"""The default client, of this program and of dask.

dask finds its scheduler in ``dask.config``. A program that never uses dask does not pay for
importing it: the setting is made when dask is imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from taskloom.client import Client

#: Clients that are default; the last one counts.
_stack: list[Client] = []

#: Settings of dask that hold while a client is the default one.
_SETTINGS = {"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"}

_MISSING = object()

#: What was set in dask before the first client.
_before: dict[str, Any] | None = None


def push(client: Client) -> None:
    """Make a client the default one."""
    _stack.append(client)
    _apply()


def remove(client: Client) -> None:
    """The client is the default one no more; the one before it is again."""
    if client in _stack:
        _stack[:] = [other for other in _stack if other is not client]
        _apply()


def current() -> Client | None:
    """The default client, if there is one."""
    from taskloom._scoped import scoped_client

    client = scoped_client.get(None)
    if client is not None:
        return client
    return _stack[-1] if _stack else None


def client_of_context() -> Client:
    """The client of the task that runs here, or the program's own.

    Raises
    ------
    ValueError
        There is no client: create one.
    """
    from taskloom._inside import get_client

    return get_client()


def default_client(c: Client | None = None) -> Client:
    """The default client, or ``c`` when it is given.

    Raises
    ------
    ValueError
        There is no client: create one.
    """
    client = c or current()
    if client is None:
        raise ValueError("no clients found; start one with taskloom.Client()")
    return client


def ensure_default_client(client: Client) -> None:
    """Make this client the default one, of dask too, unless it is."""
    if not _stack or _stack[-1] is not client:
        push(client)


class temp_default_client:
    """Context manager: ``c`` is the default client, of dask too, within the block."""

    def __init__(self, c: Client) -> None:
        self._client = c

    def __enter__(self) -> None:
        push(self._client)

    def __exit__(self, *exc_info: object) -> None:
        # The innermost entry only: the client may have been default before.
        for position in range(len(_stack) - 1, -1, -1):
            if _stack[position] is self._client:
                del _stack[position]
                break
        _apply()


def _apply() -> None:
    """Tell dask, now or when it is imported."""
    config = sys.modules.get("dask.config")
    if config is not None and hasattr(config, "refresh"):
        _apply_to(config)
    elif _stack and not any(isinstance(finder, _DaskFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _DaskFinder())


def _apply_to(config: ModuleType) -> None:
    global _before
    if _stack:
        if _before is None:
            names = ("scheduler", *_SETTINGS)
            _before = {name: config.get(name, _MISSING) for name in names}
            # What the user chose stays.
            config.set(
                {name: v for name, v in _SETTINGS.items() if _before[name] in (None, _MISSING)}
            )
        config.set({"scheduler": _stack[-1]})
    elif _before is not None:
        _restore(config, _before)
        _before = None


def _restore(config: ModuleType, before: dict[str, Any]) -> None:
    for name, value in before.items():
        if value is not _MISSING:
            config.set({name: value})
            continue
        *path, last = name.split(".")
        level = config.config
        for part in path:
            level = level.get(part, {})
        level.pop(last, None)


class _DaskFinder:
    """Waits for the import of ``dask.config``, then makes the setting."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "dask.config":
            return None
        from importlib.machinery import PathFinder

        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DaskLoader(spec.loader)  # type: ignore[assignment]
        return spec


class _DaskLoader:
    """Loads ``dask.config`` as its own loader does, then makes the setting."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _apply_to(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
