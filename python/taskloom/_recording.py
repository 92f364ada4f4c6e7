"""What ran when: the worker's side of ``Client.get_task_stream``.

While a worker records, each run of a task leaves a row; rows go, in batches, to the scheduler's
topic :data:`TOPIC`. A worker that records nothing does nothing of this.
"""

from __future__ import annotations

import threading
import time
from _thread import get_ident

from taskloom.plugin import WorkerPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom.worker import Worker

    #: Key, thread, start and end in seconds since 1970, whether it succeeded, bytes of the result.
    Row = tuple[Any, int, float, float, bool, int]

__all__ = ["NAME", "TOPIC", "Recorder", "flush"]

#: Of the plugin.
NAME = "task-stream"
#: Events under it: a mark (a text), or a worker's address and its rows.
TOPIC = "task-stream"

#: Rows of one batch, and how long they wait for further ones at most, in seconds.
_BATCH_ROWS = 512
_BATCH_S = 0.1


class Recorder(WorkerPlugin):
    """Notes every run of a task on one worker."""

    name = NAME
    #: Registering it where it is registered changes nothing.
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Begin."""
        self._worker = worker
        self._begun: dict[Any, float] = {}
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def teardown(self, worker: Worker) -> None:
        """End; what was noted is sent."""
        self.flush()

    def record(self, key: Any, finish: str, nbytes: int) -> None:
        """Note that a run starts (``executing``) or ended. Called in the task's thread."""
        now = time.time()
        if finish == "executing":
            self._begun[key] = now
            return
        begun = self._begun.pop(key, None)
        if begun is None or finish == "rescheduled":
            return
        with self._lock:
            is_first = not self._rows
            self._rows.append((key, get_ident(), begun, now, finish == "memory", nbytes))
            is_full = len(self._rows) >= _BATCH_ROWS
        if is_full:
            self.flush()
        elif is_first:
            # Nothing may follow it for long.
            timer = threading.Timer(_BATCH_S, self.flush)
            timer.daemon = True
            timer.start()

    def flush(self) -> None:
        """Send what was noted."""
        with self._lock:
            rows, self._rows = self._rows, []
        if rows:
            self._worker.log_event(TOPIC, (self._worker.address, rows))


def flush(dask_worker: Worker) -> None:
    """Have a worker send what it noted, if it records."""
    recorder = dask_worker.plugins.get(NAME)
    if isinstance(recorder, Recorder):
        recorder.flush()
