"""Run the benchmarks: ``python -m benches [--quick] [--cases …] [--write-docs]``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benches import report, runner
from benches.case import all_cases
from benches.systems import SYSTEMS

DOCUMENT = runner.ROOT / "docs" / "benchmarks.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and one round")
    parser.add_argument("--rounds", type=int, help="samples of each system (default 3)")
    parser.add_argument("--cases", nargs="+", choices=[*all_cases()], help="only these")
    parser.add_argument("--systems", nargs="+", choices=[*SYSTEMS], help="only these")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--from-json", type=Path, help="show a former run, measure nothing")
    parser.add_argument("--write-docs", action="store_true", help="update docs/benchmarks.md")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict:
    cases = all_cases()
    present, absent = runner.installed(options.systems or SYSTEMS)
    rounds = options.rounds or (1 if options.quick else 3)
    if absent:
        print(f"not installed, left out: {', '.join(absent)}")
    series = []
    for name in options.cases or cases:
        series += runner.run_case(cases[name], present, rounds, options.quick)
    return {
        "machine": runner.machine(),
        "rounds": rounds,
        "quick": options.quick,
        "absent": absent,
        "series": [asdict(one) for one in series],
    }


def main() -> int:
    options = arguments()
    saved = options.from_json
    result = json.loads(saved.read_text()) if saved else measure(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    measured = {one["case"] for one in result["series"]}
    cases = {name: case for name, case in all_cases().items() if name in measured}
    if options.write_docs:
        table = report.markdown(result, cases)
        DOCUMENT.write_text(report.replace_table(DOCUMENT.read_text(), table))
    print()
    print(report.text(result, cases))
    return 0


if __name__ == "__main__":
    sys.exit(main())
