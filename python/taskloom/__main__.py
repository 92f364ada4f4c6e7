"""``python -m taskloom scheduler …`` and ``python -m taskloom worker …``."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process."""
    from taskloom._taskloom import main as run

    _leave_sigint_to_the_command_line()
    code = run(["taskloom", *sys.argv[1:]])
    worker_main = sys.modules.get("taskloom._worker_main")
    if worker_main is not None and worker_main.ran_worker:
        _end_now(code)
    raise SystemExit(code)


def _leave_sigint_to_the_command_line() -> None:
    """Python's own handler would raise ``KeyboardInterrupt`` after an orderly end."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not in the main thread: Python raises nothing here
        return


def _end_now(code: int) -> NoReturn:
    """End although threads are still in tasks: they must not meet a finished interpreter."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed, or nobody reads
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
