"""One sample: ``python -m benches.sample CASE SYSTEM SHAPE [--quick]`` prints one JSON object.

Runs in a process of its own, so that no system warms up or burdens another.
"""

from __future__ import annotations

import importlib
import json
import sys

from benches.systems import SHAPES, SYSTEMS


def sample(case_name: str, system_name: str, shape_name: str, quick: bool) -> dict[str, float]:
    """The metrics of one run."""
    case = importlib.import_module(f"benches.cases.{case_name}")
    system, shape = SYSTEMS[system_name], SHAPES[shape_name]
    if hasattr(case, "alone"):
        # Cases that measure starting up open the system themselves.
        return case.alone(system, shape, quick)
    run = getattr(case, system.family)
    with system.open(shape) as session:
        return run(session, quick)


def main() -> None:
    case, system, shape = sys.argv[1:4]
    metrics = sample(case, system, shape, "--quick" in sys.argv)
    # Last line of the output: systems may print whatever they like before.
    print("\n" + json.dumps(metrics), flush=True)


if __name__ == "__main__":
    main()
