"""One daemon thread that calls the functions of ``Future.add_done_callback``."""

from __future__ import annotations

import os
import threading

from taskloom._taskloom import CompletionQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskloom.future import Future


class _Caller:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.queue = CompletionQueue()
        self.waiting: dict[int, tuple[Future, Callable[[Future], Any]]] = {}
        self.last = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.call, name="taskloom-callbacks", daemon=True).start()

    def add(self, future: Future, function: Callable[[Future], Any]) -> None:
        with self.lock:
            self.last += 1
            token = self.last
            self.waiting[token] = (future, function)
        self.queue.watch(future, token)

    def call(self) -> None:
        while tokens := self.queue.receive():
            for token in tokens:
                future, function = self.waiting.pop(token)
                try:
                    function(future)
                except BaseException:
                    import logging

                    logging.getLogger("taskloom").exception("a done callback of %r failed", future)
                del future, function


_caller: _Caller | None = None
_lock = threading.Lock()


def call_when_done(future: Future, function: Callable[[Future], Any]) -> None:
    """Call ``function(future)`` on the callback thread when the future is done."""
    global _caller
    with _lock:
        if _caller is None or _caller.pid != os.getpid():
            _caller = _Caller()
    _caller.add(future, function)
