"""What a case says about itself, and how its numbers are judged."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

import benches.cases


@dataclass(frozen=True)
class Target:
    """A bound for taskloom's value: a ratio to a peer's, or an absolute value (`peer` empty).

    `kind` is "must" or "aim".
    """

    kind: str
    at_most: float
    peer: str = ""
    metric: str = ""
    shape: str = "2x1"

    def words(self, unit: str) -> str:
        if self.peer:
            return f"{self.at_most:.3g} x {self.peer}"
        return f"{self.at_most:g} {unit}"


@dataclass(frozen=True)
class Case:
    """One row (or a few) of the table; made from a module of `benches.cases`."""

    name: str
    module: ModuleType

    @property
    def title(self) -> str:
        return self.module.TITLE

    @property
    def metrics(self) -> dict[str, str]:
        """Metric to unit; the first is the one that targets mean unless they say otherwise."""
        return self.module.METRICS

    @property
    def shapes(self) -> tuple[str, ...]:
        return getattr(self.module, "SHAPES", ("2x1",))

    @property
    def systems(self) -> tuple[str, ...]:
        return self.module.SYSTEMS

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.module.TARGETS

    def runs(self, system: str, shape: str) -> bool:
        """Some pairs make no sense or no difference, such as a process pool in one process."""
        only = getattr(self.module, "ONLY", {})
        return system in self.systems and shape in only.get(system, self.shapes)


def all_cases() -> dict[str, Case]:
    """Every case, in the order of the table."""
    found = {}
    for info in pkgutil.iter_modules(benches.cases.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"benches.cases.{info.name}")
        found[info.name] = Case(info.name, module)
    return dict(sorted(found.items(), key=lambda item: item[1].module.ORDER))
