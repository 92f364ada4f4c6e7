"""Commands of the system, and whether a laboratory can be built here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TOOLS = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables"}


class Unsuitable(Exception):
    """This machine cannot run the laboratory; the message says why and what would help."""


def run(*words: str, text: str | None = None) -> str:
    """Run a command to its end; its standard output."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def require() -> None:
    """Raise `Unsuitable` unless namespaces can be made and filtered."""
    if os.geteuid() != 0:
        raise Unsuitable("network namespaces need root: run it as root, or with sudo")
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        raise Unsuitable(f"missing: {', '.join(missing)} (apt-get install {' '.join(missing)})")
    if not Path("/dev/net/tun").exists():
        raise Unsuitable("there is no /dev/net/tun: the link with delay and loss needs it")
    name = f"tlab-{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", name)
    except RuntimeError as error:
        raise Unsuitable(f"network namespaces cannot be made here: {error}") from error
    try:
        run("ip", "netns", "exec", name, "nft", "add", "table", "inet", "lab")
    except RuntimeError as error:
        raise Unsuitable(f"packets cannot be filtered here: {error}") from error
    finally:
        run("ip", "netns", "del", name)
