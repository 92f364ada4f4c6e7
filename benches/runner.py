"""Takes samples: cases one after the other, systems alternating within a case."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benches.case import Case
from benches.systems import SYSTEMS

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 900


@dataclass
class Series:
    """All samples of one case on one system in one shape."""

    case: str
    system: str
    shape: str
    samples: list[dict[str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    versions = {}
    for package in ("taskloom", "dask", "distributed", "ray", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "processor": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
    }


def take_sample(case: str, system: str, shape: str, quick: bool) -> dict[str, float]:
    """One sample in a fresh process; raises RuntimeError with its last words."""
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in path if p)}
    command = [sys.executable, "-m", "benches.sample", case, system, shape]
    try:
        done = subprocess.run(
            command + ["--quick"] * quick,
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end within {TIMEOUT_S} s") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise RuntimeError(f"exit code {done.returncode}: {words[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_case(case: Case, systems: Iterable[str], rounds: int, quick: bool) -> list[Series]:
    """`rounds` samples of each system and shape, alternating."""
    series = [
        Series(case.name, system, shape)
        for shape in case.shapes
        for system in case.systems
        if system in systems and case.runs(system, shape)
    ]
    for number in range(rounds):
        for one in series:
            begun = time.monotonic()
            try:
                one.samples.append(take_sample(case.name, one.system, one.shape, quick))
                found = ", ".join(
                    f"{metric} {one.samples[-1].get(metric, float('nan')):.4g}"
                    for metric in case.metrics
                )
            except RuntimeError as error:
                one.errors.append(str(error))
                found = f"failed: {error}"
            print(
                f"  {case.name:<20} {one.shape} {one.system:<16} round {number + 1}: {found}"
                f"  ({time.monotonic() - begun:.1f} s)",
                flush=True,
            )
    return series


def installed(wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which of the systems can run here, and which are absent."""
    present = [name for name in wanted if SYSTEMS[name].installed()]
    return present, [name for name in wanted if name not in present]
