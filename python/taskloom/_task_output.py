"""What tasks write to ``sys.stdout``, ``sys.stderr`` and the loggers, kept with the task.

Installed once per process that has workers. What no task writes passes through untouched. Threads
that a task starts itself, and C code that writes to the descriptors, are not seen.

Light on purpose: worker processes import it at their start, before `logging` is there.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from time import time

from taskloom._taskloom import log_of_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["install", "uninstall", "worker_log"]

#: Level and text of the process's last log records, oldest first.
worker_log: deque[tuple[str, str]] = deque(maxlen=10_000)

_lock = threading.Lock()
_users = 0


class TaskStream:
    """A stream that also keeps what tasks write to it.

    Parameters
    ----------
    stream : where everything goes
    number : how the scheduler calls the stream
    """

    def __init__(self, stream: Any, number: int) -> None:
        self._stream = stream
        self._number = number

    def write(self, text: str) -> Any:
        """Write text, and keep it if a task does."""
        written = self._stream.write(text)
        if text:
            log_of_task(self._number, time(), text, 0, "")
        return written

    def writelines(self, lines: Any) -> None:
        """Write pieces of text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __enter__(self) -> TaskStream:
        self._stream.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> Any:
        return self._stream.__exit__(*exc_info)

    def __repr__(self) -> str:
        return f"<TaskStream of {self._stream!r}>"


def install() -> None:
    """A worker starts in this process."""
    global _users
    with _lock:
        _users += 1
        if _users > 1:
            return
        for number, name in enumerate(("stdout", "stderr")):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, TaskStream):
                setattr(sys, name, TaskStream(stream, number))
        if "logging" in sys.modules:
            _install_factory(sys.modules["logging"])
        else:
            sys.meta_path.insert(0, _LoggingFinder())


def uninstall() -> None:
    """A worker of this process has ended."""
    global _users
    with _lock:
        _users -= 1
        if _users > 0:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            # Somebody else may have put another in front.
            if isinstance(stream, TaskStream):
                setattr(sys, name, stream._stream)


class _LoggingFinder:
    """Waits for the first import of `logging`, which takes too long to do it for nothing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_install(module: ModuleType) -> None:
            execute(module)
            _install_factory(module)

        spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


def _install_factory(logging: Any) -> None:
    """Sees every record that a logger makes. A handler would change how the root logger behaves
    for programs that configure logging themselves."""
    make = logging.getLogRecordFactory()
    if getattr(make, "_is_taskloom", False):
        return

    def make_record(*args: Any, **kwargs: Any) -> Any:
        record = make(*args, **kwargs)
        if _users > 0:
            _keep(record)
        return record

    make_record._is_taskloom = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_record)


def _keep(record: Any) -> None:
    try:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            import traceback

            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    except Exception:  # noqa: BLE001 - the logger's handlers will say what is wrong with it
        return
    worker_log.append((record.levelname, text))
    log_of_task(2, record.created, text, record.levelno, record.name)
