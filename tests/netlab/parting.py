"""Two workers are parted for good; the scheduler hears both: ``python -m tests.netlab.parting``.

While a value goes from one to the other: once the kernel has given the connection up, it comes from
a third. Before one needs a value of the other: it is made again where it can be had. With
``--only-there``, where it may be made nowhere else: what needs it fails, and says why. That takes
minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.netlab import checks
from tests.netlab.__main__ import finish
from tests.netlab.cluster import HOSTS, WORKERS, Lab, wait_for
from tests.netlab.network import Network, wait_until_reachable
from tests.netlab.shell import Unsuitable, require, run
from tests.netlab.smallness import SmallDisk

#: None of these has little memory for the value.
SOURCES, TARGET = ("w2", "w3"), "w1"
#: The transfer would take half a minute.
RATE = "16mbit"
RECEIVED, SENT = 0, 8


def moved_bytes(network: Network, host: str, column: int) -> int:
    """What a host has received or sent."""
    table = run("nsenter", f"--net=/run/netns/{network.namespace(host)}", "cat", "/proc/net/dev")
    (line,) = (line for line in table.splitlines() if line.strip().startswith("eth0:"))
    return int(line.split(":")[1].split()[column])


def who_sends(network: Network) -> str:
    """The source that the value comes from."""
    before = {host: moved_bytes(network, host, SENT) for host in SOURCES}
    time.sleep(0.5)
    return max(SOURCES, key=lambda host: moved_bytes(network, host, SENT) - before[host])


def finish_timed(client: subprocess.Popen[str], what: str, right: dict[str, int]) -> list[str]:
    """What is wrong with how it ended."""
    begun = time.monotonic()
    ends = finish(client)
    print(f"{what} -> {ends} after {time.monotonic() - begun:.1f} s", flush=True)
    return [] if ends == right else [f"{what}: it ended with {ends}"]


def part_before(lab: Lab, program: str, right: str) -> list[str]:
    source, network = SOURCES[0], lab.network
    network.drop("parting", source, TARGET)
    network.drop("parting", TARGET, source)
    try:
        client = lab.start_client(program, source, TARGET)
        return finish_timed(client, f"{program}: {source} and {TARGET} never met", {right: 1})
    finally:
        network.heal("parting")


def part_while_moving(lab: Lab) -> list[str]:
    network = lab.network
    network.limit(TARGET, RATE)
    before = moved_bytes(network, TARGET, RECEIVED)
    client = lab.start_client("move", *SOURCES, TARGET)
    wait_for(
        "the value is under way",
        lambda: moved_bytes(network, TARGET, RECEIVED) > before + 8_000_000,
        timeout_s=60,
    )
    source = who_sends(network)
    network.drop("parting", source, TARGET)
    network.drop("parting", TARGET, source)
    network.unlimit(TARGET)
    try:
        return finish_timed(client, f"move: {source} and {TARGET} parted", {"right": 1})
    finally:
        network.heal("parting")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.netlab.parting", description=__doc__)
    parser.add_argument("--only-there", action="store_true", help="the part that takes minutes")
    options = parser.parse_args()
    try:
        require()
    except Unsuitable as unsuitable:
        print(f"the network laboratory cannot run here: {unsuitable}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="taskloom-netlab-") as name,
        SmallDisk(Path(name) / "disk") as disk,
        Network(HOSTS) as network,
        Lab(network, Path(name), disk) as lab,
    ):
        for host in WORKERS:
            wait_until_reachable(network, host, "sched")
        checks.wait_until_whole(lab)
        if options.only_there:
            problems = part_before(lab, "use-only", "WorkerUnreachableError")
        else:
            problems = part_while_moving(lab) + part_before(lab, "use", "right")
        if problems:
            print("\n".join([*problems, *(f"--- log of {h}\n{lab.log_of(h)}" for h in HOSTS)]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
