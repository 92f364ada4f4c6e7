"""How much memory workers get, and what happens when it gets short, as Dask is configured."""

from __future__ import annotations

from taskloom import _config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Fractions of a worker's memory limit: the options' names, Dask's keywords, and defaults.
_THRESHOLDS = {
    "target": ("memory_target_fraction", 0.60),
    "spill": ("memory_spill_fraction", 0.70),
    "pause": ("memory_pause_fraction", 0.80),
    "terminate": ("memory_terminate_fraction", 0.95),
}


class MemorySettings:
    """The settings of ``distributed.worker.memory`` for new workers.

    Parameters
    ----------
    limit : bytes of one worker; 0 means no limit
    given : keywords as distributed's workers take them, such as ``memory_target_fraction``; what
        is taken is removed. A fraction of 0, ``False`` or ``None`` switches its rule off.

    Attributes
    ----------
    target, spill, pause, terminate : float
        Fractions of ``limit``; 0 means never.
    max_spill : int
        Most bytes of results on the disk of one worker; 0 means no limit.

    Raises
    ------
    ValueError
        A fraction is not in 0..1, or smaller than one that must come before it.
    """

    def __init__(self, limit: int, given: dict[str, Any]) -> None:
        self.limit = limit
        self.target = _fraction("target", given)
        self.spill = _fraction("spill", given)
        self.pause = _fraction("pause", given)
        self.terminate = _fraction("terminate", given)
        self.max_spill = _max_spill(given)
        self._check_order()

    def _check_order(self) -> None:
        before, lower = "", 0.0
        for name in _THRESHOLDS:
            fraction = getattr(self, name)
            if not fraction:
                continue
            if fraction < lower:
                raise ValueError(
                    f"distributed.worker.memory.{name} is {fraction}, less than {before}, "
                    f"which is {lower}: raise it, or lower {before}"
                )
            before, lower = name, fraction

    @property
    def terminate_bytes(self) -> int:
        """A worker process of more than this is ended; 0 means never."""
        return int(self.limit * self.terminate)

    def options(self) -> list[str]:
        """The command line of a worker."""
        return [
            *("--memory-limit", str(self.limit)),
            *("--memory-target", str(self.target)),
            *("--memory-spill", str(self.spill)),
            *("--memory-pause", str(self.pause)),
            *("--max-spill", str(self.max_spill)),
        ]


def _fraction(name: str, given: dict[str, Any]) -> float:
    keyword, default = _THRESHOLDS[name]
    value = given.pop(keyword, None)
    if value is None:
        value = _config.setting(f"distributed.worker.memory.{name}", default)
    try:
        fraction = float(value or 0.0)
    except (TypeError, ValueError):
        fraction = -1.0
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(
            f"{keyword} (distributed.worker.memory.{name}) is {value!r}; "
            "give a fraction of the memory limit in 0..1, or False"
        )
    return fraction


def _max_spill(given: dict[str, Any]) -> int:
    value = given.pop("max_spill", None)
    if value is None:
        value = _config.setting("distributed.worker.memory.max-spill", False)
    if not value:
        return 0
    from taskloom.utils import parse_bytes

    size = parse_bytes(value)
    if size < 0:
        raise ValueError(f"max_spill is {value!r}; give an amount such as '10 GB', or False")
    return size


def local_directory(given: str | None) -> str:
    """Where workers keep files: as given, or ``temporary-directory`` of Dask's configuration."""
    return str(given or _config.setting("temporary-directory", "") or "")
