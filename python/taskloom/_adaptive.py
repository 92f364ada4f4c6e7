"""Adaptive scaling: as many workers as the work deserves, by the scheduler's own facts."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom.client import Client
    from taskloom.cluster import LocalCluster

__all__ = ["Adaptive"]


class Adaptive:
    """Scales a cluster between two bounds; made by :meth:`taskloom.LocalCluster.adapt`.

    The scheduler says how many workers the work at hand deserves: so many that it is done in
    ``target_duration``, no more than have something to run, and more when memory gets full. Going
    down, only workers are closed that run nothing and hold no result that nobody else holds.

    Parameters
    ----------
    cluster : LocalCluster
    minimum, maximum : int, default 0 and no bound
        How many workers there are at least and at most.
    interval : str or float in seconds, default 1 s
        How often the scheduler is asked.
    wait_count : int, default 3
        So many answers in a row must want fewer workers before some are closed.
    target_duration : str or float in seconds, default 5 s
        How long the work at hand may take.

    Attributes
    ----------
    log : the last changes: ``(time, change)`` with ``{'status': 'up' | 'down', …}``

    Raises
    ------
    ValueError
        Bounds that no number of workers can keep.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        minimum: int = 0,
        maximum: float = math.inf,
        interval: Any = "1s",
        wait_count: int = 3,
        target_duration: Any = "5s",
    ) -> None:
        if minimum < 0 or maximum < 1 or maximum < minimum:
            raise ValueError(
                f"adaptive scaling needs 0 <= minimum <= maximum and maximum >= 1, "
                f"not minimum={minimum}, maximum={maximum}"
            )
        self.cluster = cluster
        self.minimum = minimum
        self.maximum = maximum
        self.interval = _positive("interval", interval)
        self.wait_count = wait_count
        self.target_duration = _positive("target_duration", target_duration)
        self._log: deque[tuple[float, dict[str, Any]]] = deque(maxlen=100)
        self._surplus_seen = 0
        #: Names of workers that were retired and have not ended yet.
        self._going: set[str] = set()
        self._stopped = threading.Event()
        self._client: Client = cluster._own_client()
        self._thread = threading.Thread(target=self._run, name="taskloom-adaptive", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still scales."""
        return not self._stopped.is_set()

    @property
    def log(self) -> list[tuple[float, dict[str, Any]]]:
        """The last changes, oldest first: a copy, since it goes on adapting."""
        return list(self._log)

    def stop(self) -> None:
        """Leave the number of workers as it is from now on."""
        self._stopped.set()
        # Ends a question that waits for its answer.
        self._client._close_now()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                try:
                    self._adapt()
                except Exception:
                    # The cluster is closing: there is nobody to scale.
                    if self._stopped.is_set() or self.cluster.status != "running":
                        return
                    raise
                if self._stopped.wait(self.interval):
                    return
        finally:
            self._stopped.set()
            self._client._close_now()

    def _adapt(self) -> None:
        present = self._present()
        target = self._ask(0, present)["target"]
        wanted = int(min(max(target, self.minimum), self.maximum))
        if wanted >= len(present):
            self._surplus_seen = 0
        if wanted > len(present):
            # First the note: who sees the workers finds also why they came.
            self._note("up", n=wanted)
            self.cluster._add_workers(wanted - len(present))
        elif wanted < len(present):
            self._surplus_seen += 1
            if self._surplus_seen >= self.wait_count:
                self._close(len(present) - wanted, present)

    def _present(self) -> list[str]:
        names = self.cluster._present()
        # Those that were told to go may still be seen for a moment.
        self._going.intersection_update(names)
        return [name for name in names if name not in self._going]

    def _close(self, surplus: int, names: list[str]) -> None:
        retired = self._ask(surplus, names)["retired"]
        if retired:
            self._going.update(retired)
            self.cluster._forget_retired(retired)
            self._note("down", workers=retired)

    def _ask(self, close: int, names: list[str]) -> Any:
        threads = self.cluster._threads
        steps = self._client._ask("adapt", self.target_duration, threads, close, names)
        return self._client._drive(steps, False)

    def _note(self, status: str, **facts: Any) -> None:
        self._log.append((time.time(), {"status": status, **facts}))

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<Adaptive {state}, from {self.minimum} to {self.maximum} workers>"


def _positive(name: str, value: Any) -> float:
    from taskloom.utils import parse_seconds

    seconds = parse_seconds(value)
    if seconds is None or seconds <= 0:
        raise ValueError(f"{name}= must be a positive time such as '1s', not {value!r}")
    return seconds
