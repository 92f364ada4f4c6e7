"""Scheduler plugins: objects of this process that hear what the scheduler tells."""

from __future__ import annotations

from typing import Any

from taskloom._setups import _overrides

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskloom.client import Client

__all__ = ["ScheduledPlugins"]

#: What would have to decide inside the scheduler.
_REFUSED = ("update_graph", "valid_workers_downscaling")


class ScheduledPlugins(dict[str, Any]):
    """The scheduler plugins of one client, by name.

    Parameters
    ----------
    client : the client
    """

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client: Client = client

    def add(self, plugin: Any, name: str) -> None:
        """Start a plugin in place of an earlier one of its name.

        Raises
        ------
        NotImplementedError
            It wants to decide inside the scheduler.
        """
        for method in _REFUSED:
            if _overrides(plugin, method):
                raise NotImplementedError(
                    f"SchedulerPlugin.{method} is not offered: no Python runs in taskloom's "
                    "scheduler; scheduler plugins watch it from the client's process"
                )
        if name in self:
            if getattr(plugin, "idempotent", False):
                return
            self.remove(name)
        from taskloom._drive import run
        from taskloom.scheduler_handle import SchedulerHandle

        handle = SchedulerHandle(self._client)
        result = plugin.start(handle) if hasattr(plugin, "start") else None
        if hasattr(result, "__await__"):
            import asyncio

            asyncio.run(_await(result))
        self[name] = plugin
        topics = ["all"]
        if _overrides(plugin, "transition"):
            topics.append("transitions")
        self._client._watch(name, topics, _Listener(plugin, handle))
        # Once this returns, the plugin hears of all that happens.
        run(self._client._ask("barrier"))

    def remove(self, name: str) -> None:
        """Tell a plugin nothing more, and close it."""
        plugin = self.pop(name)
        self._client._unwatch(name)
        _close(plugin)

    def close(self) -> None:
        """The client is being closed."""
        while self:
            _close(self.popitem()[1])


def _close(plugin: Any) -> None:
    for method in ("before_close", "close"):
        function = getattr(plugin, method, None)
        result = function() if function is not None else None
        if hasattr(result, "__await__"):
            import asyncio

            asyncio.run(_await(result))


class _Listener:
    """Turns events into calls of a plugin's methods."""

    def __init__(self, plugin: Any, handle: Any) -> None:
        self._plugin = plugin
        self._handle = handle

    def __call__(self, topic: str, message: Any) -> Any:
        if topic == "transitions":
            for key, start, finish, worker in message:
                self._plugin.transition(key, start, finish, stimulus_id="", worker=worker)
            return None
        self._call("log_event", "all", message)
        match message:
            case {"action": "add-worker", "worker": worker}:
                return self._call("add_worker", self._handle, worker)
            case {"action": "remove-worker", "worker": worker}:
                return self._call("remove_worker", self._handle, worker, stimulus_id="")
            case {"action": "add-client", "client": client}:
                return self._call("add_client", self._handle, client)
            case {"action": "remove-client", "client": client}:
                return self._call("remove_client", self._handle, client)
            case {"action": "restart"}:
                return self._call("restart", self._handle)
        return None

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self._plugin, method, None)
        return None if function is None else function(*args, **kwargs)


async def _await(awaitable: Any) -> Any:
    return await awaitable
