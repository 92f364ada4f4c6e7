"""What a cluster of thousands of workers costs the scheduler: ``python -m benches.scale``.

The workers are hollow: sessions without processes, opened by the program ``hollow`` of the crate
``taskloom-hollow`` against a scheduler in a process of its own. Everything here is of the
scheduler's process; there is no peer that could be measured beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benches import report, runner

DOCUMENT = runner.ROOT / "docs" / "benchmarks.md"
PLOT = runner.ROOT / "docs" / "benchmarks-scale.svg"
BEGIN, END = "<!-- begin of the scale table -->", "<!-- end of the scale table -->"
WORKERS = [1, 2, 10, 100, 128, 1000, 5000]

Sample = dict[str, float]


@dataclass(frozen=True)
class Bound:
    """`metric` of a case with 5,000 workers; as a ratio to the same with `over` workers."""

    words: str
    case: str
    metric: str
    must: float
    aim: float
    workers: int = 5000
    over: int = 0


BOUNDS = [
    Bound("idle, heartbeats every 2 s: % of a core", "idle", "cpu_percent", 25, 15),
    Bound("idle: kB for each worker", "idle", "kb_per_worker", 60, 40),
    Bound("idle: workers lost by silence", "idle", "lost_workers", 0, 0),
    Bound("join storm, s", "idle", "join_s", 10, 10),
    Bound("processor time per task, 5,000 workers over 10", "cost", "flat_cpu_us", 2, 1.2, over=10),
    Bound("… at 20,000 tasks a second", "cost", "paced_cpu_us", 2, 1.2, over=10),
    Bound("… 5,000 workers over 2", "cost", "flat_cpu_us", 2, 1.2, over=2),
    Bound("… 128 workers over 2", "cost", "flat_cpu_us", 2, 1.2, workers=128, over=2),
    Bound("500 of 5,000 die at once: new places, s", "deaths", "replanned_s", 2, 2),
    Bound("scheduler's memory per waiting task, B", "held", "bytes_per_task", 600, 600, workers=2),
    Bound("cancel 1,000,000 waiting tasks, s", "held", "cancel_s", 3, 3, workers=2),
]


def measure(arguments: list[str]) -> list[Sample]:
    """Runs ``hollow measure``; its samples."""
    program = ["cargo", "run", "--release", "--quiet", "-p", "taskloom-hollow", "--bin", "hollow"]
    command = [*program, "--", "measure", *arguments]
    done = subprocess.run(command, cwd=runner.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def value(samples: list[Sample], case: str, workers: int, metric: str) -> float | None:
    found = [s for s in samples if s["case"] == case and s["workers"] == workers]
    return found[0][metric] if found else None


def found(samples: list[Sample], bound: Bound) -> float | None:
    ours = value(samples, bound.case, bound.workers, bound.metric)
    if not bound.over or ours is None:
        return ours
    base = value(samples, bound.case, bound.over, bound.metric)
    return ours / base if base else None


def markdown(samples: list[Sample]) -> str:
    """The generated part of docs/benchmarks.md."""
    machine = runner.machine()
    lines = [
        f"Measured {machine['date']} on {machine['cores']} cores ({machine['processor']}).",
        "",
        f"![Processor time of the scheduler per task over the number of workers]({PLOT.name})",
        "",
        "| what | must | aim | found | met |",
        "| --- | --- | --- | --- | --- |",
    ]
    for bound in BOUNDS:
        number = found(samples, bound)
        if number is None:
            continue
        met = "yes" if number <= bound.must else "**no**"
        lines.append(
            f"| {bound.words} | {bound.must:g} | {bound.aim:g} | {report.number(number)} | {met} |"
        )
    for case in dict.fromkeys(str(s["case"]) for s in samples):
        rows = [s for s in samples if s["case"] == case]
        metrics = [name for name in rows[0] if name not in ("case", "workers")]
        lines += ["", f"| {case}: workers | {' | '.join(metrics)} |"]
        lines.append(f"| {' | '.join('---' for _ in [case, *metrics])} |")
        for row in rows:
            cells = " | ".join(report.number(row[metric]) for metric in metrics)
            lines.append(f"| {row['workers']:,} | {cells} |")
    return "\n".join(lines) + "\n"


#: Size of the picture, and of its margins.
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 360, 60, 50, 20
LINES = {
    "flat_cpu_us": ("#1f77b4", "many at once"),
    "pairs_cpu_us": ("#2ca02c", "pairs, one needs the other"),
    "paced_cpu_us": ("#d62728", "20,000 a second"),
}


def svg(samples: list[Sample]) -> str:
    """Cost per task over workers; the horizontal axis shows powers of ten."""
    rows = sorted((s for s in samples if s["case"] == "cost"), key=lambda s: s["workers"])
    counts = [int(row["workers"]) for row in rows]
    top = max(row[metric] for row in rows for metric in LINES) * 1.15
    step = (WIDTH - LEFT - 20) / max(1, len(counts) - 1)

    def place(i: int, number: float) -> tuple[float, float]:
        return LEFT + i * step, HEIGHT - BOTTOM - number / top * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for mark in range(int(top) + 1):
        _, y = place(0, mark)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark}</text>')
    for i, count in enumerate(counts):
        x, y = place(i, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{count:,}</text>')
    for n, (metric, (colour, words)) in enumerate(LINES.items()):
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(i, row[metric]) for i, row in enumerate(rows))
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{LEFT + 12}" y="{TOP + 4 + 16 * n}" fill="{colour}">{words}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">workers</text>')
    middle = HEIGHT / 2
    parts.append(
        f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">'
        "us of the scheduler per task</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_document(samples: list[Sample]) -> None:
    head, rest = DOCUMENT.read_text().split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{markdown(samples)}\n{END}{tail}")
    if any(s["case"] == "cost" for s in samples):
        PLOT.write_text(svg(samples))


def main() -> int:
    parser = argparse.ArgumentParser(prog="benches.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer workers and tasks")
    parser.add_argument("--from-json", type=Path, help="show a former run, measure nothing")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--write-docs", action="store_true", help="update docs/benchmarks.md")
    options = parser.parse_args()
    if options.from_json:
        samples = [json.loads(line) for line in options.from_json.read_text().splitlines()]
    else:
        workers = [1, 2, 10, 100, 1000] if options.quick else WORKERS
        size = ["--tasks", "50000", "--idle-seconds", "5"] if options.quick else []
        samples = measure(["--workers", *map(str, workers), *size])
    if options.json:
        options.json.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    if options.write_docs:
        write_document(samples)
    print(markdown(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
