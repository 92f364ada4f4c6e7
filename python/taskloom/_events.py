"""Events by topic: recording, reading, handlers; and what is built on them (print, warn, logging).

One thread per process calls the handlers of all its clients. It starts with the first client.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

from taskloom import _taskloom
from taskloom._taskloom import CompletionQueue, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient

    Handler = Callable[[tuple[float, Any]], Any]
    Watcher = Callable[[str, Any], Any]

__all__ = ["Events", "forget_client", "start_listening"]

#: Topics that every client shows, with the function of `taskloom._shown` that does it.
_SHOWN = {"print": "show_print", "warn": "show_warning"}

#: Log records under this topic prefix are handled again here.
LOGGING_TOPIC = "forwarded-log:"


def topics_of(topic: Any) -> list[str]:
    """One topic or several, checked.

    Raises
    ------
    TypeError
        Something is no str.
    """
    try:
        topics = [topic] if isinstance(topic, str) else list(topic)
    except TypeError:
        topics = [topic]
    for name in topics:
        if not isinstance(name, str):
            raise TypeError(f"a topic must be a str, not {name!r}")
    return topics


def message_of(payload: Any) -> Any:
    """What was recorded. Bytes are somebody's pickle; the scheduler's own events are plain."""
    if not isinstance(payload, bytes):
        return payload
    import pickle

    return pickle.loads(payload)


class _Dispatcher:
    """The thread that calls handlers."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.queue = CompletionQueue()
        self.clients: weakref.WeakValueDictionary[int, Events] = weakref.WeakValueDictionary()
        threading.Thread(target=self._main, name="taskloom-events", daemon=True).start()

    def add(self, client: Events) -> None:
        token = client._core.token
        self.clients[token] = client
        _taskloom.listen(client._core, self.queue, token)

    def _main(self) -> None:
        while tokens := self.queue.receive():
            for token in tokens:
                client = self.clients.get(token)
                if client is not None:
                    client._handle_events()
                del client


_dispatcher: _Dispatcher | None = None
_lock = threading.Lock()


def start_listening(client: Events, shows: bool) -> None:
    """A client was connected. ``shows``: it prints what tasks print, and warns as they do."""
    global _dispatcher
    with _lock:
        if _dispatcher is None or _dispatcher.pid != os.getpid():
            _dispatcher = _Dispatcher()
    client._handlers = {}
    client._watchers = {}
    _dispatcher.add(client)
    if shows:
        _taskloom.subscribe(client._core, list(_SHOWN))


def forget_client(client: Events) -> None:
    """A client was closed: its handlers are called no more."""
    client._handlers = {}
    client._watchers = {}


class Events:
    """Part of the client: events by topic."""

    _core: CoreClient
    _asynchronous: bool
    _handlers: dict[str, Handler]
    _watchers: dict[str, tuple[list[str], Watcher]]
    _loop_of_handlers: Any = None

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    def log_event(self, topic: str | Collection[str], msg: Any) -> Any:
        """Record an event under one or more topics.

        Parameters
        ----------
        topic : str or collection of str
        msg : any object that can be pickled

        The scheduler keeps the last 10,000 events of a topic, at most 16 MiB of them, and 64 MiB
        in all.
        """
        return self._drive(self._log_event_steps(topics_of(topic), dumps(msg)))

    def _log_event_steps(self, topics: list[str], payload: bytes) -> Steps[None]:
        _taskloom.log_event(self._core, topics, payload)
        yield self._core.ask("barrier")

    def get_events(self, topic: str | None = None) -> Any:
        """Get the events that the scheduler keeps.

        Parameters
        ----------
        topic : str, optional
            All topics when left out.

        Returns
        -------
        Pairs of time (seconds since 1970) and message, oldest first; or ``{topic: pairs}``.
        The scheduler's own events are under ``all``.
        """
        if topic is not None and not isinstance(topic, str):
            raise TypeError(f"a topic must be a str, not {topic!r}")
        return self._drive(self._get_events_steps(topic))

    def _get_events_steps(self, topic: str | None) -> Steps[Any]:
        answer = yield self._core.ask("events", topic)
        now = time.time()
        found = {
            name: tuple((now - age, message_of(payload)) for age, payload in rows)
            for name, rows in answer.items()
        }
        return found if topic is None else found[topic]

    def subscribe_topic(self, topic: str, handler: Handler) -> None:
        """Call ``handler((time, message))`` for every event of a topic from now on.

        Parameters
        ----------
        topic : str
            ``all`` are the scheduler's own events; ``transitions`` all state changes of tasks, as
            lists of ``[key, from, to, worker]``.
        handler : function or coroutine function
            Called on a thread of this process; with an asynchronous client on its event loop. It
            takes the place of the topic's handler before. An exception is logged.
        """
        (topic,) = topics_of([topic])
        if not callable(handler):
            raise TypeError(f"handler must be callable, not {handler!r}")
        from taskloom._drive import running_loop

        if self._asynchronous:
            self._loop_of_handlers = running_loop()
        self._handlers[topic] = handler
        _taskloom.subscribe(self._core, [topic])

    def unsubscribe_topic(self, topic: str) -> None:
        """Call the topic's handler no more.

        Raises
        ------
        ValueError
            This client has no handler for the topic.
        """
        if topic not in self._handlers:
            raise ValueError(f"No event handler known for topic {topic!r}.")
        del self._handlers[topic]
        self._unsubscribe_unused([topic])

    def _watch(self, name: str, topics: list[str], watcher: Watcher) -> None:
        """Call ``watcher(topic, message)`` for every event of these topics."""
        self._watchers[name] = (topics, watcher)
        _taskloom.subscribe(self._core, topics)

    def _unwatch(self, name: str) -> None:
        topics, _ = self._watchers.pop(name)
        self._unsubscribe_unused(topics)

    def _unsubscribe_unused(self, topics: list[str]) -> None:
        used = {*_SHOWN, *self._handlers}
        for watched, _ in self._watchers.values():
            used.update(watched)
        _taskloom.unsubscribe(self._core, [topic for topic in topics if topic not in used])

    def forward_logging(self, logger_name: str | None = None, level: int | str = 0) -> Any:
        """Handle the workers' log records here too, by the loggers of the same names.

        Parameters
        ----------
        logger_name : str, optional
            Records of this logger and those below it; by default of all.
        level : int or str
            Records below it stay at the workers. The worker's loggers decide first: a logger
            that ignores INFO sends none.
        """
        from taskloom import _forward

        topic = LOGGING_TOPIC + (logger_name or "root")
        self.subscribe_topic(topic, _forward.handle_here)
        plugin = _forward.ForwardLoggingPlugin(logger_name, level, topic)
        return self.register_plugin(plugin)  # type: ignore[attr-defined]

    def unforward_logging(self, logger_name: str | None = None) -> Any:
        """Undo :meth:`forward_logging` of the same logger."""
        topic = LOGGING_TOPIC + (logger_name or "root")
        self.unsubscribe_topic(topic)
        return self.unregister_worker_plugin(topic)  # type: ignore[attr-defined]

    # The dispatcher's thread --------------------------------------------------------------

    def _handle_events(self) -> None:
        rows, dropped = _taskloom.take_events(self._core)
        if dropped:
            _log().warning("%d events were dropped: the handlers are too slow", dropped)
        for topic, payload in rows:
            calls = [watcher for topics, watcher in self._watchers.values() if topic in topics]
            handler = self._handlers.get(topic) or _shown_handler(topic)
            try:
                message = message_of(payload)
                if handler is not None:
                    self._call_handler(handler, (time.time(), message))
            except Exception:  # noqa: BLE001 - the user's code; the next event is due
                _log().exception("the handler of topic %r failed", topic)
                continue
            for watcher in calls:
                try:
                    _wait_for(watcher(topic, message))
                except Exception:  # noqa: BLE001 - the user's code; the next event is due
                    _log().exception("a scheduler plugin failed")

    def _call_handler(self, handler: Handler, event: tuple[float, Any]) -> None:
        loop = self._loop_of_handlers
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(_call_on_loop, handler, event)
            return
        _wait_for(handler(event))


def _wait_for(result: Any) -> None:
    if hasattr(result, "__await__"):
        import asyncio

        asyncio.run(_awaited(result))


def _shown_handler(topic: str) -> Any:
    name = _SHOWN.get(topic)
    if name is None:
        return None
    from taskloom import _shown

    return getattr(_shown, name)


def _call_on_loop(handler: Handler, event: tuple[float, Any]) -> None:
    import asyncio

    result = handler(event)
    if hasattr(result, "__await__"):
        task = asyncio.ensure_future(result)
        _tasks.add(task)
        task.add_done_callback(_end_of_task)


#: The loop itself holds tasks weakly.
_tasks: set[Any] = set()


def _end_of_task(task: Any) -> None:
    _tasks.discard(task)
    if not task.cancelled() and task.exception() is not None:
        _log().error("an event handler failed", exc_info=task.exception())


async def _awaited(result: Any) -> Any:
    return await result


def _log() -> Any:
    import logging

    return logging.getLogger("taskloom.events")
