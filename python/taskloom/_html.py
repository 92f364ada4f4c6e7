"""What notebooks show for clients, clusters and futures. All text from outside is escaped."""

from __future__ import annotations

from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom.client import Client

#: How long a notebook waits for the scheduler's facts, in seconds.
_ASK_S = 1.0


def table(title: str, status: str, rows: list[tuple[str, Any]]) -> str:
    """A heading and a table of names and values."""
    lines = "".join(
        f"<tr><th style='text-align: left'>{escape(name)}</th>"
        f"<td style='text-align: left'><tt>{escape(str(value))}</tt></td></tr>"
        for name, value in rows
    )
    heading = f"<b>{escape(title)}</b> <i>{escape(status)}</i>"
    return f"<div>{heading}<table>{lines}</table></div>"


def client_html(client: Client) -> str:
    """A client: where it is connected to, and what is there."""
    rows: list[tuple[str, Any]] = []
    if client.status != "connecting":
        rows.append(("scheduler", client.scheduler_address))
    if client.status == "running":
        rows += cluster_rows(client)
    return table(type(client).__name__, client.status, rows)


def cluster_rows(client: Client) -> list[tuple[str, Any]]:
    """Workers, threads and memory; nothing when the scheduler does not answer soon.

    Blocks for a moment, also on an event loop: nobody can await the text of an object.
    """
    from taskloom.utils import format_bytes

    try:
        info = client._core.ask("scheduler_info").block(_ASK_S)
    except Exception:  # noqa: BLE001 - a notebook shows what is known
        return []
    workers = list(info["workers"].values())
    rows: list[tuple[str, Any]] = [
        ("workers", len(workers)),
        ("threads", sum(worker["nthreads"] for worker in workers)),
    ]
    limits = [worker["memory_limit"] for worker in workers]
    if limits and all(limits):
        rows.append(("memory", format_bytes(sum(limits))))
    return rows
