"""Futures inside containers: found, and replaced by their results."""

from __future__ import annotations

from taskloom._taskloom import CoreFuture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from taskloom.future import Future


def _rebuild(container: Any, items: list[Any]) -> Any:
    """A container of the same kind with other items."""
    kind = type(container)
    if kind is dict:
        return dict(zip(container, items, strict=True))
    if hasattr(container, "_fields"):
        return kind(*items)
    return kind(items)


def _items(container: Any) -> Iterable[Any] | None:
    """What is inside, when it is a container that is looked into."""
    kind = type(container)
    if kind is dict:
        return container.values()
    if kind in (list, tuple, set, frozenset):
        return container
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return container
    return None


def find_futures(obj: Any, found: list[Future], depth: int = 0) -> None:
    """Append all futures inside ``obj`` to ``found``, in order, also repeated ones."""
    if isinstance(obj, CoreFuture):
        found.append(obj)  # type: ignore[arg-type]
        return
    items = _items(obj) if depth < 100 else None
    for item in items or ():
        find_futures(item, found, depth + 1)


def replace_futures(obj: Any, replace: Callable[[Future], Any], depth: int = 0) -> Any:
    """``obj`` with each future inside replaced; containers without futures stay themselves."""
    if isinstance(obj, CoreFuture):
        return replace(obj)  # type: ignore[arg-type]
    items = _items(obj) if depth < 100 else None
    if items is None:
        return obj
    before = list(items)
    after = [replace_futures(item, replace, depth + 1) for item in before]
    if all(a is b for a, b in zip(before, after, strict=True)):
        return obj
    return _rebuild(obj, after)
