"""Fixtures of all tests: clusters are shared by a module, clients belong to one test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Workers are new processes: they must find `tests.tasks` wherever pytest was started.
os.environ["PYTHONPATH"] = os.pathsep.join(
    part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part
)
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from taskloom import Client, LocalCluster  # noqa: E402

#: More tests than these may not pass at their second try only.
MOST_FLAKY = 3


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what failed at first: each such test is a race that somebody has to look at."""
    flaky = terminalreporter.stats.get("rerun", [])
    if flaky:
        terminalreporter.section(f"failed once: {len(flaky)} (at most {MOST_FLAKY} may)")
    for report in flaky:
        terminalreporter.write_line(f"FLAKY {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Many tests that need a second try are no accident of a busy machine."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    flaky = len(reporter.stats.get("rerun", [])) if reporter else 0
    if flaky > MOST_FLAKY and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes with one thread each, shared by the module: do not harm them."""
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the module's cluster, with both workers there."""
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def start() -> Iterator[Callable[..., Client]]:
    """Starts a cluster that a test may harm; gives its client. Closed after the test."""
    opened: list[tuple[Client, LocalCluster]] = []

    def start_cluster(**kwargs: object) -> Client:
        options = {"n_workers": 2, "threads_per_worker": 1, **kwargs}
        cluster = LocalCluster(**options)
        client = Client(cluster)
        opened.append((client, cluster))
        client.wait_for_workers(options["n_workers"], timeout=60)
        return client

    yield start_cluster
    for client, cluster in reversed(opened):
        client.close()
        cluster.close()
