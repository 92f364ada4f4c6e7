"""The part of the client that makes a task's call again here, for debugging."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient


class Replay:
    """Tasks made again in the client's process."""

    _core: CoreClient
    _asynchronous: bool

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    def recreate_task_locally(self, future: Any) -> Any:
        """Fetch a task's inputs and make its call here, where a debugger can follow it.

        Parameters
        ----------
        future : future or key of a task that is done

        Returns
        -------
        What the function returns; a coroutine function's coroutine.

        Raises
        ------
        SchedulerError
            The key is not known, or is of scattered data.

        Examples
        --------
        >>> import pdb
        >>> pdb.runcall(client.recreate_task_locally, future)
        """
        return self._replay(self._call_steps(future, False))

    def recreate_error_locally(self, future: Any) -> Any:
        """Make the call of the task that failed first again, here.

        Parameters
        ----------
        future : future, collection, or containers of them, of which one failed

        Raises
        ------
        Exception
            What the task raised, from a frame that a debugger can enter.
        ValueError
            None of the futures failed.
        """
        return self._replay(self._call_steps(future, True))

    def _replay(self, steps: Steps[tuple[Callable[..., Any] | None, Any, dict[str, Any]]]) -> Any:
        if self._asynchronous:
            return self._replay_async(self._drive(steps))
        return _make_call(*self._drive(steps))

    async def _replay_async(self, call: Any) -> Any:
        result = _make_call(*(await call))
        return await result if hasattr(result, "__await__") else result

    def _call_steps(
        self, future: Any, cause: bool
    ) -> Steps[tuple[Callable[..., Any] | None, Any, dict[str, Any]]]:
        from taskloom._registry import futures_of
        from taskloom._taskloom import load_call

        futures = futures_of(future)
        if futures:
            yield self._core.completion(futures, len(futures))
        if cause:
            failed = [f for f in futures if f.status == "error"]
            if not failed:
                raise ValueError("none of the futures failed: there is no error to recreate")
            key = failed[0].key
        else:
            key = futures[0].key if futures else future
        call = yield self._core.ask("replay", key, cause)
        inputs = [self._core.bind(key) for key in call["inputs"]]
        values = yield self._core.gather(inputs, True)
        return load_call(call["functions"], call["body"], values)


def _make_call(function: Callable[..., Any] | None, args: Any, kwargs: dict[str, Any]) -> Any:
    return args if function is None else function(*args, **kwargs)
