"""What functions given to ``client.run_on_scheduler`` get as ``dask_scheduler``."""

from __future__ import annotations

from typing import Any

from taskloom._drive import run

__all__ = ["SchedulerHandle"]


class SchedulerHandle:
    """The scheduler, as seen from a client's process.

    No Python runs in taskloom's scheduler. A function that Dask would run inside it runs here, in
    the client's process, against this object, which asks the scheduler. It offers what is listed
    below; the scheduler's inner state cannot be changed by assignment.

    Parameters
    ----------
    client : the client that asks

    All methods and attributes block until the scheduler has answered.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def _ask(self, name: str, *arguments: Any) -> Any:
        return run(self._client._ask(name, *arguments))

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return str(self._client.scheduler_address)

    @property
    def id(self) -> str:
        """Unique for each run of a scheduler."""
        return str(self.identity()["id"])

    @property
    def workers(self) -> dict[str, Any]:
        """The workers by address, as in ``Client.scheduler_info()['workers']``."""
        return dict(self.identity()["workers"])

    @property
    def clients(self) -> list[str]:
        """Names of the connected clients."""
        return list(self.identity()["clients"])

    @property
    def tasks(self) -> dict[Any, dict[str, Any]]:
        """All tasks by key: ``state``, ``dependencies``, ``who_has``, ``processing_on``, …"""
        return dict(self._ask("dump")["tasks"])

    @property
    def plugins(self) -> list[str]:
        """Names of the plugins and files that every worker gets."""
        return list(self._ask("setups"))

    def identity(self) -> dict[str, Any]:
        """As ``Client.scheduler_info()``."""
        return dict(run(self._client._info_steps()))

    def get_events(self, topic: str | None = None) -> Any:
        """As ``Client.get_events``."""
        return run(self._client._get_events_steps(topic))

    def log_event(self, topic: Any, msg: Any) -> None:
        """As ``Client.log_event``."""
        from taskloom._events import topics_of
        from taskloom._taskloom import dumps

        run(self._client._log_event_steps(topics_of(topic), dumps(msg)))

    def get_logs(self, n: int | None = None) -> Any:
        """As ``Client.get_scheduler_logs``."""
        return run(self._client._scheduler_logs_steps(n))

    def story(self, *keys: Any) -> list[Any]:
        """The last transitions of these keys."""
        return [row for key in keys for row in self._ask("story", key)]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the scheduler handle has no {name!r}: no Python runs in taskloom's scheduler, and "
            "this object offers what taskloom.scheduler_handle.SchedulerHandle documents"
        )

    def __repr__(self) -> str:
        return f"<SchedulerHandle {self.address}>"
