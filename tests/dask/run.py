"""Runs dask's own test suites on taskloom and compares with dask.distributed.

    python tests/dask/run.py                     all suites on taskloom, against the baseline
    python tests/dask/run.py --subset            the part that `make test` runs
    python tests/dask/run.py --record-baseline   on dask.distributed: rewrites the baseline

Suites may be run one by one into the same `--results FILE`; `--report` then judges the file, or
with `--record-baseline` makes the baseline of it.

The baseline (`baseline-<dask version>.txt.gz`) lists the tests that pass on dask.distributed.
Every one of them must pass on taskloom, except those in `exceptions.txt`, whose reasons are in
`docs/dask-compatibility.md`. The tests come from the installed dask, which ships them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Each is one pytest session: a crash or a hang costs only its own suite.
SUITES = {
    "array": ["array/tests"],
    "dataframe": ["dataframe/tests", "dataframe/tseries"],
    "expr": ["dataframe/dask_expr/tests"],
    "io": ["dataframe/io/tests", "dataframe/dask_expr/io/tests"],
    "bag": ["bag/tests"],
    "base": [
        "tests/test_base.py",
        "tests/test_composite_expr.py",
        "tests/test_context.py",
        "tests/test_delayed.py",
        "tests/test_expr.py",
        "tests/test_graph_manipulation.py",
        "tests/test_highgraph.py",
        "tests/test_hlgexpr.py",
        "tests/test_layers.py",
        "tests/test_optimization.py",
        "tests/test_task_spec.py",
        "tests/test_typing.py",
    ],
}
# Chosen to touch every kind of graph and to end well within five minutes.
SUBSET = {
    "array": [
        "array/tests/test_atop.py",
        "array/tests/test_linalg.py",
        "array/tests/test_overlap.py",
        "array/tests/test_reshape.py",
        "array/tests/test_slicing.py",
    ],
    "dataframe": ["dataframe/tests/test_map.py", "dataframe/tests/test_indexing.py"],
    "expr": [
        "dataframe/dask_expr/tests/test_concat.py",
        "dataframe/dask_expr/tests/test_shuffle.py",
    ],
    "bag": SUITES["bag"],
    "base": SUITES["base"],
}
# So many failures are run once more: more are no accident of a busy machine.
MOST_FLAKY = 3
# Tests of other schedulers, or of hardware that is not here.
IGNORED = ["test_cupy*", "test_distributed.py"]


def dask_directory() -> Path:
    """Where the installed dask and its tests are."""
    import dask

    return Path(dask.__file__).resolve().parent


def baseline_path() -> Path:
    """The list of tests that pass on dask.distributed, for the installed dask."""
    import dask

    return HERE / f"baseline-{dask.__version__}.txt.gz"


def run_suite(args: argparse.Namespace, name: str, paths: list[str], results: Path) -> int:
    """Runs one suite in its own pytest; returns the exit code."""
    root = dask_directory()
    command = [
        sys.executable,
        *("-m", "pytest", "-q", "-x" if args.exitfirst else "-q", "--tb=native"),
        *("-p", "taskloom.testing.dask_plugin", "-p", "no:cacheprovider"),
        *("-c", os.devnull, f"--rootdir={root.parent}", "-W", "ignore"),
        *("--engine", args.engine, "--engine-workers", str(args.workers)),
        *("--engine-results", str(results), f"--timeout={args.test_timeout}"),
        *(f"--ignore-glob={root}*/{name}" for name in IGNORED),
        *(["--engine-leaks"] if args.leaks else []),
        *(["-k", args.keyword] if args.keyword else []),
        *(str(root / path) for path in paths),
    ]
    started = time.monotonic()
    # In an own directory: some tests leave files behind.
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(command, cwd=directory, stdout=args.log, stderr=args.log)
        try:
            code = process.wait(args.suite_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -1
    spent = time.monotonic() - started
    print(f"{name:10} exit {code:3}  {spent:6.1f} s", flush=True)
    return code


def run_again(args: argparse.Namespace, results: Path, whole: bool) -> None:
    """Runs what failed once more, by itself, if it is little, and says so."""
    failed = missing_tests(read_results(results), whole)
    if 0 < len(failed) <= MOST_FLAKY:
        print(f"once more, by themselves: {', '.join(failed)}", flush=True)
        # Their names begin with that of the package.
        run_suite(args, "again", [name.split("/", 1)[1] for name in failed], results)


def read_results(path: Path) -> dict[str, dict]:
    """Test name to record; of a repeated test the last run counts."""
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {record.pop("test"): record for record in records}


def read_baseline() -> set[str]:
    """Tests that pass on dask.distributed."""
    path = baseline_path()
    if not path.exists():
        sys.exit(f"no baseline for this dask: {path.name} (see --record-baseline)")
    return set(gzip.decompress(path.read_bytes()).decode().splitlines())


def read_exceptions() -> set[str]:
    """Tests that may fail; `name[...]` without parameters covers all of a test."""
    path = HERE / "exceptions.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def wanted_tests(results: dict[str, dict], whole: bool) -> set[str]:
    """Tests that pass on dask.distributed; unless `whole`, of the files that were run."""
    baseline = read_baseline()
    if whole:
        return baseline
    files = {name.split("::")[0] for name in results}
    return {name for name in baseline if name.split("::")[0] in files}


def excused_tests(wanted: set[str]) -> set[str]:
    """Those of them that may fail here."""
    exceptions = read_exceptions()
    return {name for name in wanted if {name, name.split("[")[0]} & exceptions}


def passed_tests(results: dict[str, dict]) -> set[str]:
    """Tests that passed."""
    return {name for name, record in results.items() if record.get("outcome") == "passed"}


def missing_tests(results: dict[str, dict], whole: bool) -> list[str]:
    """Tests that have to pass and did not."""
    wanted = wanted_tests(results, whole)
    return sorted(wanted - passed_tests(results) - excused_tests(wanted))


def compare(results: dict[str, dict], whole: bool) -> int:
    """Prints what passes on dask.distributed and not here; returns how many there are."""
    baseline, good = wanted_tests(results, whole), passed_tests(results)
    excused = excused_tests(baseline)
    missing = missing_tests(results, whole)
    for name in missing:
        record = results.get(name, {"outcome": "not run"})
        print(f"  {record.get('outcome')}: {name}\n      {record.get('why', '')}")
    failed = sum(record.get("outcome") == "failed" for record in results.values())
    print(
        f"{len(results)} tests, {len(good)} passed, {failed} failed; "
        f"of {len(baseline)} that pass on dask.distributed {len(missing)} do not pass here, "
        f"{len(excused)} are excepted"
    )
    leaks = {name: record["leaks"] for name, record in results.items() if record.get("leaks")}
    for name, keys in sorted(leaks.items())[:50]:
        print(f"  keys left: {name}: {keys}")
    return len(missing)


def record_baseline(results: dict[str, dict]) -> None:
    """Writes the names of the tests that passed."""
    good = sorted(name for name, record in results.items() if record.get("outcome") == "passed")
    # No time stamp inside: the same results give the same file.
    baseline_path().write_bytes(gzip.compress("\n".join(good).encode(), 9, mtime=0))
    print(f"{len(good)} of {len(results)} tests pass on dask.distributed: {baseline_path().name}")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], help="default: all")
    parser.add_argument("--engine", choices=["taskloom", "distributed"], default="taskloom")
    parser.add_argument("--workers", type=int, default=2, help="processes; 0: in this process")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--all", action="store_true", help="all suites (the default)")
    extent.add_argument("--subset", action="store_true", help="a part that takes a few minutes")
    parser.add_argument("--record-baseline", action="store_true")
    parser.add_argument("--results", type=Path, help="keep the records here (appended)")
    parser.add_argument(
        "--report", action="store_true", help="run nothing: judge the records in --results"
    )
    parser.add_argument("--leaks", action="store_true", help="report keys that outlive a test")
    parser.add_argument("--quiet", action="store_true", help="no output of pytest")
    parser.add_argument("-k", dest="keyword", help="as pytest's")
    parser.add_argument("-x", dest="exitfirst", action="store_true", help="as pytest's")
    parser.add_argument("--test-timeout", type=int, default=120, help="seconds")
    parser.add_argument("--suite-timeout", type=int, default=7200, help="seconds")
    args = parser.parse_args()
    args.log = subprocess.DEVNULL if args.quiet else None
    if args.record_baseline:
        args.engine = "distributed"
    return args


def main() -> int:
    """Runs the suites; 0 when all that must pass passed."""
    args = parse_args()
    suites = SUBSET if args.subset else SUITES
    chosen = [] if args.report else args.suites or list(suites)
    with tempfile.TemporaryDirectory() as directory:
        path = args.results or Path(directory) / "results.jsonl"
        path = path.resolve()
        path.touch()
        for name in chosen:
            run_suite(args, name, suites[name], path)
        if args.engine == "taskloom" and args.keyword is None and not args.report:
            run_again(args, path, whole=not (args.subset or args.suites or args.exitfirst))
        results = read_results(path)
    if args.record_baseline:
        record_baseline(results)
        return 0
    if args.engine == "distributed":
        return 0
    partial = args.subset or args.suites or args.keyword or args.exitfirst or args.report
    return 1 if compare(results, whole=not partial) else 0


if __name__ == "__main__":
    sys.exit(main())
