"""From samples to the table: medians, ratios of one round to the same round, targets, losses."""

from __future__ import annotations

from statistics import median
from typing import Any

from benches.case import Case, Target

BEGIN, END = "<!-- begin of the generated table -->", "<!-- end of the generated table -->"

Samples = dict[tuple[str, str, str], list[dict[str, float]]]


def by_series(result: dict[str, Any]) -> Samples:
    return {(s["case"], s["system"], s["shape"]): s["samples"] for s in result["series"]}


def values(samples: Samples, case: str, system: str, shape: str, metric: str) -> list[float]:
    found = samples.get((case, system, shape), [])
    return [sample[metric] for sample in found if metric in sample]


def ratio(samples: Samples, case: str, metric: str, shape: str, peer: str) -> float | None:
    """Median over the rounds of taskloom's value over the peer's of the same round."""
    ours = values(samples, case, "taskloom", shape, metric)
    theirs = values(samples, case, peer, shape, metric)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if b]
    return median(a / b for a, b in pairs) if pairs else None


def verdict(samples: Samples, case: Case, target: Target) -> tuple[float | None, bool | None]:
    """taskloom's ratio (or value) and whether the target is met; None when not measured."""
    metric = target.metric or next(iter(case.metrics))
    if target.peer:
        found = ratio(samples, case.name, metric, target.shape, target.peer)
    else:
        ours = values(samples, case.name, "taskloom", target.shape, metric)
        found = median(ours) if ours else None
    return found, None if found is None else found <= target.at_most


def number(value: float) -> str:
    """Three significant digits, without exponents."""
    if value == 0:
        return "0"
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def cell(found: list[float]) -> str:
    if not found:
        return ""
    if len(found) == 1:
        return number(found[0])
    return f"{number(median(found))} [{number(min(found))} .. {number(max(found))}]"


def columns(samples: Samples, cases: dict[str, Case]) -> list[str]:
    seen = {system for _case, system, _shape in samples}
    order = [system for case in cases.values() for system in case.systems]
    return [system for system in dict.fromkeys(order) if system in seen]


def value_table(samples: Samples, cases: dict[str, Case]) -> list[str]:
    systems = columns(samples, cases)
    lines = [
        f"| case | shape | unit | {' | '.join(systems)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in systems)} |",
    ]
    for case in cases.values():
        for shape in case.shapes:
            for i, (metric, unit) in enumerate(case.metrics.items()):
                cells = [cell(values(samples, case.name, s, shape, metric)) for s in systems]
                if any(cells):
                    title = case.title if i == 0 else f"… {metric}"
                    lines.append(f"| {title} | {shape} | {unit} | {' | '.join(cells)} |")
    return lines


def target_table(samples: Samples, cases: dict[str, Case]) -> list[str]:
    lines = ["| case | kind | bound | found | met |", "| --- | --- | --- | --- | --- |"]
    for case in cases.values():
        for target in case.targets:
            found, met = verdict(samples, case, target)
            metric = target.metric or next(iter(case.metrics))
            unit = case.metrics[metric]
            shown = "not measured" if found is None else f"{found:.3g}"
            word = {None: "", True: "yes", False: "**no**"}[met]
            bound = f"{metric} <= {target.words(unit)}"
            lines.append(f"| {case.title} | {target.kind} | {bound} | {shown} | {word} |")
    return lines


def losses(samples: Samples, cases: dict[str, Case]) -> list[str]:
    """Where any peer is better than taskloom."""
    lines = []
    for case in cases.values():
        for shape in case.shapes:
            for metric in case.metrics:
                for peer in case.systems:
                    if peer == "taskloom":
                        continue
                    found = ratio(samples, case.name, metric, shape, peer)
                    if found is not None and found > 1:
                        lines.append(
                            f"- {case.title} ({metric}, {shape}): {found:.2f} times the value"
                            f" of {peer}"
                        )
    return lines or ["- none"]


def markdown(result: dict[str, Any], cases: dict[str, Case]) -> str:
    """The generated part of docs/benchmarks.md."""
    samples = by_series(result)
    machine = result["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    lines = [
        f"Measured {machine['date']} on {machine['cores']} cores ({machine['processor']}), Linux"
        f" {machine['kernel']}, Python {machine['python']}; {versions}."
        f" {result['rounds']} round(s){', quick sizes' if result['quick'] else ''}."
        " Cells: median [least .. most]; lower is better everywhere.",
    ]
    if result["absent"]:
        lines.append(f"Not installed here, hence no column: {', '.join(result['absent'])}.")
    lines += ["", "### Values", "", *value_table(samples, cases)]
    lines += ["", "### Bounds", "", *target_table(samples, cases)]
    lines += ["", "### Where a peer is better", "", *losses(samples, cases)]
    failed = [s for s in result["series"] if s["errors"]]
    if failed:
        lines += ["", "### Samples that failed", ""]
        lines += [f"- {s['case']}, {s['system']}, {s['shape']}: {s['errors'][0]}" for s in failed]
    return "\n".join(lines) + "\n"


def text(result: dict[str, Any], cases: dict[str, Case]) -> str:
    """The bounds, for the terminal."""
    samples = by_series(result)
    lines = []
    for case in cases.values():
        for target in case.targets:
            found, met = verdict(samples, case, target)
            metric = target.metric or next(iter(case.metrics))
            word = {None: "-", True: "ok", False: "MISSED"}[met]
            shown = "-" if found is None else f"{found:.4g}"
            bound = f"{metric} <= {target.words(case.metrics[metric])}"
            lines.append(f"{word:<7} {target.kind:<5} {shown:>9}  {bound:<38} {case.title}")
    return "\n".join(lines)


def replace_table(document: str, table: str) -> str:
    """The document with its generated part exchanged."""
    head, rest = document.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    return f"{head}{BEGIN}\n\n{table}\n{END}{tail}"
