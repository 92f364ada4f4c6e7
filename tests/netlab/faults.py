"""What is done to a cluster. A fault is a record: a run can be written down and repeated."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.netlab.cluster import HOSTS, WORKERS, Lab


@dataclass(frozen=True)
class Fault:
    """`kind` is a name in `KINDS`; times are in seconds since the round's start."""

    kind: str
    at_s: float
    duration_s: float
    target: str
    #: The other host of faults between two.
    other: str = ""

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        """What its packet rules are known by."""
        return f"{self.kind}-{self.target}-{self.other}-{self.at_s}"


Act = Callable[[Lab, Fault], None]


def nothing(lab: Lab, fault: Fault) -> None:
    """Ends by itself: killed processes are started again by their supervisors, or by the lab."""


def heal(lab: Lab, fault: Fault) -> None:
    lab.network.heal(fault.name)


def signal_worker(number: int) -> Act:
    return lambda lab, fault: lab.signal_worker(fault.target, number)


def signal_main(number: int) -> Act:
    return lambda lab, fault: lab.signal_main(fault.target, number)


def cut(lab: Lab, fault: Fault) -> None:
    lab.network.drop(fault.name, fault.target, fault.other)
    lab.network.drop(fault.name, fault.other, fault.target)


def cut_one_way(lab: Lab, fault: Fault) -> None:
    lab.network.drop(fault.name, fault.target, fault.other)


def part_client(lab: Lab, fault: Fault) -> None:
    """The client reaches the scheduler, and no worker."""
    for worker in WORKERS:
        lab.network.drop(fault.name, worker, fault.target)
        lab.network.drop(fault.name, fault.target, worker)


def reset(lab: Lab, fault: Fault) -> None:
    lab.network.reset(fault.name, fault.target, fault.other)
    lab.network.reset(fault.name, fault.other, fault.target)


def lose(lab: Lab, fault: Fault) -> None:
    for other in HOSTS:
        if other != fault.target:
            lab.network.drop(fault.name, other, fault.target, percent=10)


def make_far(lab: Lab, fault: Fault) -> None:
    seed = int(fault.at_s * 1000)
    lab.network.relay(delay_ms=60, jitter_ms=30, loss_percent=1, double_percent=1, seed=seed)


#: How each kind begins and ends.
KINDS: dict[str, tuple[Act, Act]] = {
    "kill-worker": (signal_worker(signal.SIGKILL), nothing),
    # Started again when the fault ends: others may wait for this very worker.
    "kill-supervisor": (
        signal_main(signal.SIGKILL),
        lambda lab, fault: lab.ensure_worker(fault.target),
    ),
    # Started again at the same address: workers and clients come back with what they have.
    "kill-scheduler": (signal_main(signal.SIGKILL), lambda lab, fault: lab.ensure_scheduler()),
    "stop-worker": (signal_worker(signal.SIGSTOP), signal_worker(signal.SIGCONT)),
    "stop-scheduler": (signal_main(signal.SIGSTOP), signal_main(signal.SIGCONT)),
    "cut": (cut, heal),
    "cut-one-way": (cut_one_way, heal),
    "part-client": (part_client, heal),
    "reset": (reset, heal),
    "loss": (lose, heal),
    "slow": (
        lambda lab, fault: lab.network.limit(fault.target, "1mbit"),
        lambda lab, fault: lab.network.unlimit(fault.target),
    ),
    "far": (make_far, lambda lab, fault: lab.network.relay()),
    # The round's own client is killed; its program does not say anything then.
    "kill-client": (nothing, nothing),
    # A second client has a task eat more than the worker's memory.
    "eat-memory": (nothing, nothing),
    # A second client has a worker hold more than its memory, whose disk takes nothing for a while.
    "full-disk": (lambda lab, fault: lab.disk.fill(), lambda lab, fault: lab.disk.empty()),
}
