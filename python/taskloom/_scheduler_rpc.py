"""``client.scheduler``: what libraries ask the scheduler past the client's methods."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom.client import Client


class SchedulerQuestions:
    """The scheduler, as far as programs written for Dask talk to it directly.

    Every method is a coroutine function, whatever the client is.

    Parameters
    ----------
    client : whose scheduler it is
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return self._client.scheduler_address

    async def identity(self, n_workers: int = -1, **kwargs: Any) -> dict[str, Any]:
        """As :meth:`taskloom.Client.scheduler_info`."""
        info: dict[str, Any] = await self._ask(self._client._info_steps(n_workers))
        return info

    async def who_has(self, keys: Any = None, **kwargs: Any) -> dict[Any, tuple[str, ...]]:
        """As :meth:`taskloom.Client.who_has`, by keys."""
        found: dict[Any, tuple[str, ...]] = await self._ask(self._client._who_has_steps(keys))
        return found

    async def has_what(self, workers: Any = None, **kwargs: Any) -> dict[str, tuple[Any, ...]]:
        """As :meth:`taskloom.Client.has_what`."""
        steps = self._client._by_worker_steps("has_what", workers)
        found: dict[str, tuple[Any, ...]] = await self._ask(steps)
        return found

    async def ncores(self, workers: Any = None, **kwargs: Any) -> dict[str, int]:
        """As :meth:`taskloom.Client.nthreads`."""
        found: dict[str, int] = await self._ask(self._client._nthreads_steps(workers))
        return found

    async def _ask(self, steps: Any) -> Any:
        return await self._client._drive(steps, True)

    def __getattr__(self, name: str) -> Any:
        offered = "identity, who_has, has_what, ncores, address"
        raise AttributeError(
            f"client.scheduler.{name} is not offered by taskloom; there are {offered}, and the "
            f"client's own methods"
        )

    def __repr__(self) -> str:
        return f"<scheduler at {self.address}>"
