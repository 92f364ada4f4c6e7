"""Hosts as network namespaces around a bridge, and what is cut between them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.netlab.shell import run

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "tlab"
SUBNET = "10.77.0"


def reap() -> None:
    """Remove what laboratories left whose process is gone."""
    for entry in json.loads(run("ip", "-json", "netns", "list") or "[]"):
        words = entry["name"].split("-")
        if words[0] == PREFIX and len(words) == 3 and not Path(f"/proc/{words[1]}").exists():
            remove_namespace(entry["name"])


def pids_in(namespace: str) -> list[int]:
    return [int(pid) for pid in run("ip", "netns", "pids", namespace).split()]


def remove_namespace(name: str) -> None:
    """Ends all that runs there; the links go with the namespace."""
    for pid in pids_in(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run("ip", "netns", "del", name)


class Network:
    """Namespaces ``tlab-PID-HOST``, one per host, and ``tlab-PID-net`` with the bridge.

    `hosts`: names of at most six letters. The host in `relayed` is joined by a relay instead of a
    pair of virtual links.
    """

    def __init__(self, hosts: list[str], relayed: str = "") -> None:
        self.hosts = hosts
        self._relayed = relayed
        self._relay: subprocess.Popen[str] | None = None
        #: Per host, rules against what arrives there, by the name of their fault.
        self._rules: dict[str, dict[str, str]] = {host: {} for host in hosts}

    def namespace(self, host: str) -> str:
        return f"{PREFIX}-{os.getpid()}-{host}"

    def address(self, host: str) -> str:
        return f"{SUBNET}.{10 + self.hosts.index(host)}"

    def __enter__(self) -> Network:
        reap()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._relay:
            self._relay.kill()
            self._relay.wait()
        present = run("ip", "netns", "list")
        for host in [*self.hosts, "net"]:
            if self.namespace(host) in present:
                remove_namespace(self.namespace(host))

    def _build(self) -> None:
        switch = self.namespace("net")
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge", "up")
        for host in self.hosts:
            namespace = self.namespace(host)
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            if host == self._relayed:
                self._start_relay(host)
            else:
                pair = ["type", "veth", "peer", "name", "eth0", "netns", namespace]
                run("ip", "-n", switch, "link", "add", host, *pair)
            run("ip", "-n", switch, "link", "set", host, "master", "bridge", "up")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
            run("ip", "-n", namespace, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")

    def _start_relay(self, host: str) -> None:
        ends = [f"{self.namespace('net')}:{host}", f"{self.namespace(host)}:eth0"]
        self._relay = subprocess.Popen(
            [sys.executable, "-m", "tests.netlab.relay", *ends],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not self._relay.stdout or self._relay.stdout.readline() != "ready\n":
            raise RuntimeError("the relay did not start")

    def relay(self, **settings: float) -> None:
        """Change the relayed link; see `relay.Link`."""
        if self._relay and self._relay.stdin:
            self._relay.stdin.write(json.dumps(settings) + "\n")
            self._relay.stdin.flush()

    def start(self, host: str, *words: str, **options: object) -> subprocess.Popen[str]:
        """A process on a host."""
        # Unlike `ip netns exec` this leaves /sys as it is: a worker reads its control group there.
        command = ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *words]
        return subprocess.Popen(command, cwd=ROOT, text=True, **options)  # type: ignore[call-overload]

    def pids(self, host: str) -> list[int]:
        return pids_in(self.namespace(host))

    # What is cut.

    def drop(self, fault: str, source: str, target: str, percent: int = 100) -> None:
        """Packets from `source` do not arrive at `target`, or only some of them."""
        chance = "" if percent == 100 else f"numgen random mod 100 < {percent} "
        self._add(fault, target, f"ip saddr {self.address(source)} {chance}drop")

    def reset(self, fault: str, source: str, target: str) -> None:
        """Whatever `source` says on a connection is answered by a reset, but for resets."""
        words = "tcp flags & rst == 0 reject with tcp reset"
        rule = f"ip saddr {self.address(source)} {words}"
        self._add(fault, target, rule)

    def limit(self, host: str, rate: str) -> None:
        """Both directions of a host's link, such as ``1mbit``."""
        for namespace, device in self._ends(host):
            shape = ["root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]
            run("tc", "-n", namespace, "qdisc", "replace", "dev", device, *shape)

    def unlimit(self, host: str) -> None:
        for namespace, device in self._ends(host):
            run("tc", "-n", namespace, "qdisc", "del", "dev", device, "root")

    def _ends(self, host: str) -> Iterator[tuple[str, str]]:
        yield self.namespace("net"), host
        yield self.namespace(host), "eth0"

    def heal(self, fault: str) -> None:
        """Take back all rules of a fault."""
        for host, rules in self._rules.items():
            if [rules.pop(name) for name in list(rules) if name == fault]:
                self._apply(host)

    def _add(self, fault: str, host: str, rule: str) -> None:
        rules = self._rules[host]
        rules[fault] = f"{rules[fault]}\n{rule}" if fault in rules else rule
        self._apply(host)

    def _apply(self, host: str) -> None:
        rules = "\n".join(self._rules[host].values())
        script = f"""
table inet lab {{ }}
delete table inet lab
table inet lab {{
    chain arriving {{
        type filter hook input priority 0; policy accept;
{rules}
    }}
}}
"""
        run("ip", "netns", "exec", self.namespace(host), "nft", "-f", "-", text=script)


def wait_until_reachable(network: Network, source: str, target: str, timeout_s: float = 10) -> None:
    """Until a packet passes: a bridge's ports take a moment."""
    deadline = time.monotonic() + timeout_s
    probe = (
        "import socket,sys\n"
        "s = socket.socket(); s.settimeout(1)\n"
        f"sys.exit(s.connect_ex(({network.address(target)!r}, 9)) not in (0, 111))"
    )
    while network.start(source, sys.executable, "-c", probe).wait():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{target} cannot be reached from {source}")
