"""The main thread of a worker process: waits for the end, and for signals.

Start-up time counts: import nothing here that a first task does not need.
"""

from __future__ import annotations

# The C module itself: `signal` wraps its numbers in enumerations, which takes milliseconds.
import _signal as signal
import os
import sys

from taskloom.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from taskloom._taskloom import CoreWorker

#: How long running tasks may go on, and results be moved, after SIGTERM, in seconds. Less than a
#: supervisor's patience.
_DRAIN_S = 4.5

#: How long the process may take to end once the worker is closed, in seconds.
_END_S = 10.0

#: Set once a worker ran here: its threads may be in tasks, so that the interpreter cannot end in
#: the usual way.
ran_worker = False


def run(core: CoreWorker, scheduler: str, supervised: bool) -> int:
    """Run a worker until the scheduler or a signal ends it; the process's exit code."""
    global ran_worker
    ran_worker = True
    if os.environ.get("TASKLOOM_COMPAT_DISTRIBUTED"):
        from taskloom import compat

        compat.install()
    closed, notify = os.pipe()
    core.notify_closed(notify, _END_S)
    stop = _StopSignals(supervised)
    worker = Worker(core)
    try:
        worker.start(scheduler)
    except _Stop:
        # Connected or not: nothing that runs here is worth waiting for.
        core.close("the worker was asked to stop")
        return 0
    except (OSError, RuntimeError) as error:
        print(f"taskloom worker: {error}", file=sys.stderr, flush=True)
        return 1
    try:
        # Blocks without a timeout; a signal's handler runs, and raises, here.
        os.read(closed, 1)
        stop.again = True
    except _Stop:
        stop.again = True
        _drain(worker)
    worker._close_plugins()
    worker.remove_own_directory()
    core.remove_shard_directories()
    core.remove_spilled()
    return _exit_code(core)


class _Stop(BaseException):
    """A signal asks the worker to end."""


class _StopSignals:
    """The first signal drains, the second ends the process at once."""

    def __init__(self, supervised: bool) -> None:
        self.again = False
        signal.signal(signal.SIGTERM, self._on_signal)
        # Ctrl-C goes to the whole process group: a supervised worker is its supervisor's matter.
        signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.again:
            os._exit(128 + number)
        raise _Stop


def _exit_code(core: CoreWorker) -> int:
    end = core.wait_closed(0.0)
    if end is None or end[1]:
        return 0
    print(f"taskloom worker: lost the scheduler: {end[0]}", file=sys.stderr, flush=True)
    return 1


def _drain(worker: Worker) -> None:
    """Let the running tasks end, and others take over the rest and what only this one holds."""
    reason = "the worker was asked to stop"
    worker._core.ask_to_leave(reason)
    step_s = 0.1
    for _ in range(round(_DRAIN_S / step_s)):
        # In steps, so that a second signal is seen.
        if worker._core.wait_closed(step_s) is not None:
            break
    worker.close(reason)
