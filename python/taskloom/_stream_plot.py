"""Task streams as pictures: one row per thread, one bar per run. SVG, with nothing from outside."""

from __future__ import annotations

from html import escape

from taskloom._taskloom import key_split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Record = dict[str, Any]

__all__ = ["StreamPlot", "color_of", "page"]

_WIDTH = 1100
_LEFT = 190
_ROW = 16
_HEAD = 22
#: Bars of one picture; beyond it only the longest are drawn.
_MOST_BARS = 8000
_MOST_ROWS = 200
_MOST_NAMES = 20
_FAILED = "#111111"
_COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99",
    "#99ddff", "#ffaabb", "#bbcc33", "#77aadd", "#aaaa00", "#9970ab", "#5aae61", "#dd7788",
)  # fmt: skip


def color_of(name: str) -> str:
    """The color of a group of tasks: the same in every picture."""
    return _COLORS[sum(name.encode()) % len(_COLORS)]


def page(title: str, body: str) -> str:
    """A whole HTML document that loads nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


_STYLE = (
    "body{font-family:sans-serif;margin:2em;color:#222}h1{font-size:1.5em}h2{font-size:1.15em}"
    "table{border-collapse:collapse}th,td{padding:.15em .8em .15em 0;text-align:left}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr+tr td{border-top:1px solid"
    " #ddd}pre{background:#f5f5f5;padding:.8em;overflow:auto}svg{max-width:100%;height:auto}"
)


class StreamPlot:
    """A picture of a task stream; notebooks show it.

    Parameters
    ----------
    records : what :meth:`taskloom.Client.get_task_stream` returns
    """

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def svg(self) -> str:
        """The picture as an SVG element."""
        return "".join(_drawn(self._records))

    def save(self, filename: str) -> None:
        """Write an HTML page that needs no network."""
        with open(filename, "w", encoding="utf-8") as file:
            file.write(page("Task stream", self.svg()))

    def _repr_html_(self) -> str:
        return self.svg()


def _drawn(records: list[Record]) -> Iterator[str]:
    bars = [(part, record) for record in records for part in record["startstops"]]
    if not bars:
        yield "<p>No task ran.</p>"
        return
    begin = min(part["start"] for part, _ in bars)
    span = max(max(part["stop"] for part, _ in bars) - begin, 1e-6)
    rows = _rows(records)
    drawn = [bar for bar in bars if (bar[1]["worker"], bar[1]["thread"]) in rows]
    drawn.sort(key=lambda bar: bar[0]["start"] - bar[0]["stop"])
    scale = (_WIDTH - _LEFT) / span
    height = _HEAD + _ROW * len(rows) + 4
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-size="10" font-family="sans-serif">'
    )
    yield from _axis(span, scale, height)
    for (worker, _thread), row in rows.items():
        yield f'<text x="0" y="{_HEAD + row * _ROW + 11}">{escape(_short(worker))}</text>'
    for part, record in drawn[:_MOST_BARS]:
        x = _LEFT + (part["start"] - begin) * scale
        y = _HEAD + rows[record["worker"], record["thread"]] * _ROW + 1
        yield _bar(x, y, scale, part, record)
    yield "</svg>"
    yield _legend(records)
    if len(bars) > len(drawn[:_MOST_BARS]):
        missing = len(bars) - len(drawn[:_MOST_BARS])
        yield f"<p>{missing} of {len(bars)} runs, the shortest, are not drawn.</p>"


def _rows(records: list[Record]) -> dict[tuple[str, int], int]:
    threads = sorted({(record["worker"], record["thread"]) for record in records})
    return {thread: number for number, thread in enumerate(threads[:_MOST_ROWS])}


def _short(worker: str) -> str:
    return worker.partition("://")[2] or worker


def _bar(x: float, y: float, scale: float, part: Any, record: Record) -> str:
    seconds = part["stop"] - part["start"]
    ok = record["status"] == "OK"
    color = color_of(str(key_split(record["key"]))) if ok else _FAILED
    words = f"{record['key']}: {seconds:.6f} s, {record['nbytes']} bytes, {record['status']}"
    return (
        f'<rect x="{x:.2f}" y="{y}" width="{max(seconds * scale, 0.3):.2f}" height="{_ROW - 2}" '
        f'fill="{color}"><title>{escape(words)}</title></rect>'
    )


def _axis(span: float, scale: float, height: int) -> Iterator[str]:
    """Lines at round times since the first start."""
    step = 10.0 ** len(str(int(span))) if span >= 1 else 1.0
    while span / step < 5:
        step /= 2 if span / step >= 2.5 else 10
    for number in range(int(span / step) + 1):
        x = _LEFT + number * step * scale
        yield f'<line x1="{x:.1f}" y1="14" x2="{x:.1f}" y2="{height}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="11" fill="#777">{number * step:.4g} s</text>'


def _legend(records: list[Record]) -> str:
    names = sorted(
        {str(key_split(record["key"])) for record in records if record["status"] == "OK"}
    )
    entries = [(color_of(name), name) for name in names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        entries.append(("none", f"and {len(names) - _MOST_NAMES} more"))
    if any(record["status"] != "OK" for record in records):
        entries.append((_FAILED, "failed"))
    words = "".join(
        f'<span style="margin-right:1.2em"><span style="color:{color}">&#9632;</span> '
        f"{escape(name)}</span>"
        for color, name in entries
    )
    return f"<p>{words}</p>"
