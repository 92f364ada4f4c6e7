"""The tables of `docs/porting-from-dask.md`: `python -m tests.compat.porting` writes them."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import distributed

import taskloom
from tests.compat.differences import COMING, NOT_OFFERED, OTHERWISE, PARAMETERS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "porting-from-dask.md"

#: Classes whose methods and attributes programs use.
CLASSES = [
    "Client", "Future", "as_completed", "Lock", "MultiLock", "Semaphore", "Event", "Queue",
    "Variable", "Actor", "ActorFuture", "BaseActorFuture", "LocalCluster",
]  # fmt: skip


class Row(NamedTuple):
    """One public name of distributed."""

    name: str
    is_offered: bool
    #: Parameters that differ without a reason that is written down.
    faults: list[str]

    def says(self) -> str:
        """What the table says of it."""
        owner = self.name.split(".")[0]
        if not self.is_offered and (self.name in COMING or owner in COMING):
            return "coming"
        if not self.is_offered:
            reason = NOT_OFFERED.get(self.name, f"as `{owner}`")
            return f"not offered: {reason}"
        reasons = [OTHERWISE[self.name]] if self.name in OTHERWISE else []
        more = PARAMETERS.get(self.name, {})
        reasons += [f"`{parameter}`: {reason}" for parameter, reason in more.items()]
        return f"offered: {'; '.join(reasons)}" if reasons else "offered"


def module_names() -> list[str]:
    """What `distributed` exports, without the modules it consists of."""
    return sorted(
        name
        for name in distributed.__all__
        if not isinstance(getattr(distributed, name), types.ModuleType)
    )


def member_names(kind: str) -> list[str]:
    """Public methods and attributes of a class of distributed that are its own."""
    cls = getattr(distributed, kind)
    return sorted(
        name
        for base in cls.__mro__
        if base.__module__.startswith("distributed")
        for name in vars(base)
        if not name.startswith("_")
    )


def parameters(function: Any) -> dict[str, inspect.Parameter] | None:
    """Named parameters; ``None`` for what has no signature."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in found.items() if p.kind not in kinds and name != "self"}


def is_plain(value: Any) -> bool:
    """Whether a default can be compared; sentinels and sizes in other types cannot."""
    return value is inspect.Parameter.empty or isinstance(value, (bool, int, str, type(None)))


def faults_of(name: str, ours: Any, theirs: Any) -> list[str]:
    """Parameters that differ, but for those with a reason."""
    reference, mine = parameters(theirs), parameters(ours)
    if (
        name == "Worker"
        or not callable(theirs)
        or reference is None
        or mine is None
        or inspect.isabstract(theirs)
    ):
        return []
    excused = PARAMETERS.get(name, {})
    faults = [f"{p} is missing" for p in reference if p not in mine and p not in excused]
    for parameter in reference.keys() & mine.keys() - excused.keys():
        there, here = reference[parameter].default, mine[parameter].default
        if is_plain(there) and is_plain(here) and there != here:
            faults.append(f"{parameter}={here!r}, there {there!r}")
    return sorted(faults)


def row(name: str, owner_ours: Any, owner_theirs: Any, attribute: str) -> Row:
    theirs = getattr(owner_theirs, attribute)
    ours = getattr(owner_ours, attribute, None) if owner_ours is not None else None
    is_offered = owner_ours is not None and hasattr(owner_ours, attribute)
    return Row(name, is_offered, faults_of(name, ours, theirs) if is_offered else [])


def rows() -> Iterator[tuple[str, list[Row]]]:
    """All public names, by table."""
    yield "The module", [row(name, taskloom, distributed, name) for name in module_names()]
    for kind in CLASSES:
        theirs, ours = getattr(distributed, kind), getattr(taskloom, kind, None)
        names = list(dict.fromkeys(member_names(kind)))
        yield f"`{kind}`", [row(f"{kind}.{name}", ours, theirs, name) for name in names]


def tables() -> str:
    """All tables as Markdown."""
    parts = []
    for title, entries in rows():
        parts.append(f"### {title}\n\n| name | taskloom |\n| --- | --- |")
        parts += [f"| `{entry.name}` | {entry.says()} |" for entry in entries]
        parts.append("")
    return "\n".join(parts).replace("|\n\n|", "|\n|")


BEGIN, END = "<!-- tables: python -m tests.compat.porting -->\n", "<!-- end of tables -->"


def in_document() -> str:
    """The tables as they stand in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.split(BEGIN)[1].split(END)[0]


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    text = before + BEGIN + "\n" + tables() + "\n" + END + rest.split(END)[1]
    DOCUMENT.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")


if __name__ == "__main__":
    main()
