"""Which faults happen in which round, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.netlab.cluster import SMALL, SMALL_DISK, TTL_S, WORKERS
from tests.netlab.faults import Fault

#: Shorter than the time after which a silent worker is lost, and longer; give or take a fifth.
BLINK_S, LONG_S = TTL_S / 3, TTL_S * 1.5
#: Faults begin while a client starts and its tasks run.
FIRST_S, LAST_S = 0.1, 1.2
#: There is no end to wait for: a worker is started again by its supervisor.
MOMENTARY = {"kill-client", "kill-worker", "eat-memory"}
#: The host that is joined by the relay.
RELAYED = "w3"


@dataclass(frozen=True)
class Round:
    number: int
    #: Of the workload.
    seed: int
    faults: tuple[Fault, ...]

    def record(self) -> dict[str, Any]:
        faults = [fault.record() for fault in self.faults]
        return {"round": self.number, "seed": self.seed, "faults": faults}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Round:
        faults = tuple(Fault(**fault) for fault in record["faults"])
        return cls(record["round"], record["seed"], faults)


def plan_round(seed: int, number: int, kinds: Iterable[str]) -> Round:
    """The round of that number; the same for equal arguments."""
    rng = random.Random(f"{seed}/{number}")
    chosen = rng.choices(sorted(set(kinds)), k=rng.choice([1, 1, 2, 3]))
    faults = [plan_fault(kind, rng) for kind in chosen]
    # One of a kind for a target: the end of one would be the end of the other.
    different = {(fault.kind, fault.target): fault for fault in faults}.values()
    in_order = sorted(different, key=lambda fault: fault.at_s)
    return Round(number, rng.randrange(2**32), tuple(in_order))


def plan_fault(kind: str, rng: random.Random) -> Fault:
    at_s = round(rng.uniform(FIRST_S, LAST_S), 3)
    duration_s = round(rng.choice([BLINK_S, BLINK_S, LONG_S]) * rng.uniform(0.8, 1.2), 3)
    duration_s = 0 if kind in MOMENTARY else duration_s
    worker = rng.choice(WORKERS)
    if kind in ("kill-scheduler", "stop-scheduler"):
        # Its own pause must not be taken for the death of everybody.
        return Fault(kind, at_s, duration_s, "sched")
    if kind == "kill-client":
        return Fault(kind, at_s, duration_s, "client")
    if kind == "eat-memory":
        return Fault(kind, at_s, duration_s, SMALL)
    if kind == "full-disk":
        return Fault(kind, at_s, duration_s, SMALL_DISK)
    if kind == "part-client":
        # From before the client's program runs until after most of its tasks are done.
        return Fault(kind, 0, LONG_S, "client")
    if kind == "far":
        return Fault(kind, at_s, duration_s, RELAYED)
    if kind in ("cut", "cut-one-way", "reset"):
        return Fault(kind, at_s, duration_s, *plan_pair(worker, rng))
    return Fault(kind, at_s, duration_s, worker)


def plan_pair(worker: str, rng: random.Random) -> tuple[str, str]:
    """A worker and any other host, or scheduler and client; in either order."""
    others = [host for host in [*WORKERS, "sched", "client"] if host != worker]
    pairs = [(worker, other) for other in others] + [("sched", "client")] * 2
    first, second = rng.choice(pairs)
    return (first, second) if rng.random() < 0.5 else (second, first)
