"""A link between two namespaces that delays, loses, doubles and reorders: netem in user space.

``python -m tests.netlab.relay NAMESPACE:DEVICE NAMESPACE:DEVICE`` makes a TAP device in each and
carries frames between them. Lines of JSON on standard input change the `Link`.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from dataclasses import dataclass, replace

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES = 65536
#: Frames under way; a link with more would be a queue without end.
CAPACITY = 10_000


@dataclass(frozen=True)
class Link:
    """What happens to frames, the same in both directions."""

    delay_ms: float = 0
    #: Each frame is up to this much later: more than the gaps between frames reorders them.
    jitter_ms: float = 0
    loss_percent: float = 0
    double_percent: float = 0
    seed: int = 0


def enter(path: str) -> None:
    """Make a network namespace this process's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")


def open_tap(namespace: str, device: str) -> int:
    """A TAP device of that name in that namespace; its frames are read from the result."""
    enter(f"/run/netns/{namespace}")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
    return tap


class Relay:
    """Frames of each end go to the other, when their time has come."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._link = Link()
        self._random = random.Random(0)
        #: (when, number, to, frame); the number keeps frames of one time in order.
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def run(self) -> None:
        sources = [*self._other, sys.stdin.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [], self._until_next())
            for source in ready:
                if source in self._other:
                    self._take_all(source)
                elif not self._obey(sys.stdin.readline()):
                    return
            self._deliver()

    def _obey(self, line: str) -> bool:
        """False when nobody gives orders any more."""
        if line:
            self._link = replace(Link(), **json.loads(line))
            self._random = random.Random(self._link.seed)
        return bool(line)

    def _take_all(self, source: int) -> None:
        while True:
            try:
                frame = os.read(source, FRAME_BYTES)
            except BlockingIOError:
                return
            chance = self._random.random() * 100
            if chance >= self._link.loss_percent:
                copies = 1 + (self._random.random() * 100 < self._link.double_percent)
                for _ in range(copies):
                    self._send_later(self._other[source], frame)

    def _send_later(self, target: int, frame: bytes) -> None:
        if len(self._under_way) >= CAPACITY:
            return
        delay_ms = self._link.delay_ms + self._random.random() * self._link.jitter_ms
        self._number += 1
        at = time.monotonic() + delay_ms / 1e3
        heapq.heappush(self._under_way, (at, self._number, target, frame))

    def _until_next(self) -> float | None:
        if not self._under_way:
            return None
        return max(0.0, self._under_way[0][0] - time.monotonic())

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._under_way)
            try:
                os.write(target, frame)
            except OSError:
                # The device is full, or down: a frame is lost, as on any link.
                continue


def main() -> None:
    first, second = (end.split(":") for end in sys.argv[1:3])
    relay = Relay((open_tap(*first), open_tap(*second)))
    # Back home: who ends what runs on a host must not end its link.
    enter(f"/proc/{os.getppid()}/ns/net")
    print("ready", flush=True)
    relay.run()


if __name__ == "__main__":
    main()
