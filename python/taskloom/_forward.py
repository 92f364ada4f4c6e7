"""Log records of workers, handled at a client."""

from __future__ import annotations

import logging
from typing import Any

from taskloom.plugin import WorkerPlugin

__all__ = ["ForwardLoggingPlugin", "handle_here"]


class _Forwarder(logging.Handler):
    def __init__(self, worker: Any, topic: str, level: int | str) -> None:
        super().__init__(level)
        self._worker = worker
        self._topic = topic

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._worker.log_event(self._topic, _plain(record))
        except Exception:  # noqa: BLE001 - as all handlers of `logging` do
            self.handleError(record)


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    """The record's facts, without objects that a client might not be able to unpickle."""
    facts = dict(record.__dict__)
    facts["msg"], facts["args"] = record.getMessage(), None
    if record.exc_info:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    facts["exc_info"] = None
    plain = (str, int, float, bool, type(None))
    return {name: fact for name, fact in facts.items() if isinstance(fact, plain)}


class ForwardLoggingPlugin(WorkerPlugin):
    """Sends the log records of a worker's logger as events.

    Parameters
    ----------
    logger_name : name of the logger; ``None`` means all
    level : int or str, the lowest level that is sent
    topic : of the events; also the plugin's name
    """

    def __init__(self, logger_name: str | None, level: int | str, topic: str) -> None:
        self._logger_name = logger_name
        self._level = level
        self._topic = topic
        self.name = topic
        self._handler: _Forwarder | None = None

    def setup(self, worker: Any) -> None:
        self._handler = _Forwarder(worker, self._topic, self._level)
        logging.getLogger(self._logger_name).addHandler(self._handler)

    def teardown(self, worker: Any) -> None:
        if self._handler is not None:
            logging.getLogger(self._logger_name).removeHandler(self._handler)
            self._handler = None


def handle_here(event: tuple[float, Any]) -> None:
    """Give a forwarded record to the logger of the same name."""
    record = logging.makeLogRecord(event[1])
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
