"""Plugins and files for all workers, present and future: the client's part and the worker's."""

from __future__ import annotations

import os
import pickle
from typing import Any

from taskloom._taskloom import dumps, watch_tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from taskloom._drive import Steps
    from taskloom._taskloom import CoreClient
    from taskloom.worker import Worker

__all__ = ["Setups", "WorkerPlugins"]


class Setups:
    """Part of the client: plugins and uploads."""

    _core: CoreClient
    _asynchronous: bool
    _scheduler_plugins: Any = None

    def _drive(
        self, steps: Steps[Any], asynchronous: bool | None = None, timeout: Any = None
    ) -> Any:
        raise NotImplementedError

    def register_plugin(self, plugin: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Register a plugin; its type decides where it runs, see :mod:`taskloom.plugin`.

        Parameters
        ----------
        plugin : WorkerPlugin, NannyPlugin or SchedulerPlugin (an instance)
        name : str, optional
            By default its attribute ``name``, else made up. A plugin takes the place of an
            earlier one of the same name, which is torn down.

        Returns
        -------
        ``{address: {'status': 'OK'}}`` of the present workers; ``None`` for a scheduler plugin.

        Raises
        ------
        TypeError
            It is no plugin, or a class instead of an instance, or cannot be pickled.
        Exception
            What its ``setup`` raised on a worker; then it is not registered.
        """
        _check_plugin(plugin)
        name = _name_of(plugin, name)
        if _kind_of(plugin) == "scheduler":
            return self._register_scheduler_plugin(plugin, name)
        return self._drive(self._register_steps(plugin, name))

    def _register_steps(self, plugin: Any, name: str) -> Steps[dict[str, Any]]:
        if getattr(plugin, "idempotent", False):
            registered = yield self._core.ask("setups")
            if name in registered:
                return {}
        kind = _kind_of(plugin)
        arguments = (name, kind, dumps(plugin))
        answers = yield self._core.ask("setup", name, begin_plugin, arguments, {})
        failures = [error for ok, error in answers.values() if not ok]
        if failures:
            yield self._core.ask("end_setup", name, end_plugin, (name,), {})
            raise failures[0]
        if kind == "nanny" and getattr(plugin, "restart", False) and answers:
            yield self._core.ask("restart", _RESTART_S, list(answers))
        return {address: {"status": "OK"} for address in answers}

    def unregister_worker_plugin(self, name: str, nanny: bool | None = None) -> Any:
        """Unregister a worker's or a supervisor's plugin; its ``teardown`` is run everywhere.

        Raises
        ------
        ValueError
            No plugin of this name is registered.
        Exception
            What its ``teardown`` raised.
        """
        return self._drive(self._unregister_steps(name))

    def _unregister_steps(self, name: str) -> Steps[dict[str, Any]]:
        from taskloom.errors import SchedulerError

        try:
            answers = yield self._core.ask("end_setup", name, end_plugin, (name,), {})
        except SchedulerError as unknown:
            raise ValueError(f"The plugin {name!r} does not exist: {unknown}") from None
        for ok, error in answers.values():
            if not ok:
                raise error
        return {address: {"status": "OK"} for address in answers}

    def register_worker_plugin(
        self, plugin: Any, name: str | None = None, nanny: bool | None = None
    ) -> Any:
        """The old name of :meth:`register_plugin`."""
        return self.register_plugin(plugin, name)

    def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, idempotent: bool | None = None
    ) -> Any:
        """The old name of :meth:`register_plugin`."""
        return self.register_plugin(plugin, name)

    def register_worker_callbacks(self, setup: Callable[..., Any] | None = None) -> Any:
        """Call a function on every worker, present and future, before its first task.

        Parameters
        ----------
        setup : function; a parameter named ``dask_worker`` gets the worker
        """
        if not callable(setup):
            raise TypeError(f"setup must be callable, not {setup!r}")
        return self._drive(self._callbacks_steps(setup))

    def _callbacks_steps(self, setup: Callable[..., Any]) -> Steps[dict[str, Any]]:
        name = f"{getattr(setup, '__qualname__', 'callback')}-{os.urandom(8).hex()}"
        answers = yield self._core.ask("setup", name, setup, (), {})
        for ok, failure in answers.values():
            if not ok:
                yield self._core.ask("end_setup", name, end_plugin, (name,), {})
                raise failure
        return {address: {"status": "OK"} for address in answers}

    def upload_file(self, filename: str, load: bool = True) -> Any:
        """Send a file to every worker, present and future, and make it importable there.

        Parameters
        ----------
        filename : str
            A ``.py``, ``.zip`` or ``.egg`` file is put on the workers' ``sys.path``; any other file
            into their ``local_directory``.
        load : bool, default True
            Whether it is imported at once, anew if it was imported before.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such file, or it is larger than 200 MB.
        Exception
            What importing it raised; then it is not kept for future workers.
        """
        from taskloom.plugin import UploadFile

        plugin = UploadFile(filename, load=load)
        return self.register_plugin(plugin, plugin.name)

    # Scheduler plugins --------------------------------------------------------------------

    def _register_scheduler_plugin(self, plugin: Any, name: str) -> Any:
        from taskloom._watching import ScheduledPlugins

        if self._scheduler_plugins is None:
            self._scheduler_plugins = ScheduledPlugins(self)
        return self._call_beside(self._scheduler_plugins.add, plugin, name)

    def _call_beside(self, function: Callable[..., None], *args: Any) -> Any:
        """Call what may block; with an asynchronous client on another thread, awaitably."""
        if not self._asynchronous:
            return function(*args)
        import asyncio

        return asyncio.get_running_loop().run_in_executor(None, function, *args)

    def unregister_scheduler_plugin(self, name: str) -> Any:
        """Unregister a scheduler plugin that this client registered.

        Raises
        ------
        ValueError
            This client registered none of this name.
        """
        plugins = self._scheduler_plugins
        if plugins is None or name not in plugins:
            raise ValueError(
                f"Could not find plugin {name!r} among the scheduler plugins of this client"
            )
        return self._call_beside(plugins.remove, name)


#: How long restarted workers may take, in seconds.
_RESTART_S = 60.0


def _check_plugin(plugin: Any) -> None:
    if isinstance(plugin, type):
        raise TypeError("Please provide an instance of a plugin, not a type.")
    if _kind_of(plugin) is None:
        raise TypeError(
            f"{plugin!r} is no plugin: derive its class from taskloom.WorkerPlugin, NannyPlugin or "
            "SchedulerPlugin"
        )


def _kind_of(plugin: Any) -> str | None:
    """By class; those of ``distributed`` count too, by name."""
    names = {cls.__name__ for cls in type(plugin).__mro__}
    for name, kind in _KINDS.items():
        if name in names:
            return kind
    return None


#: Where the base classes are.
_BASES = ("taskloom.plugin", "distributed.diagnostics.plugin")

_KINDS = {"WorkerPlugin": "worker", "NannyPlugin": "nanny", "SchedulerPlugin": "scheduler"}


def _name_of(plugin: Any, name: str | None) -> str:
    name = name or getattr(plugin, "name", None) or f"{type(plugin).__name__}-{os.urandom(8).hex()}"
    if not isinstance(name, str):
        raise TypeError(f"a plugin's name must be a str, not {name!r}")
    return name


# On workers -------------------------------------------------------------------------------


def begin_plugin(name: str, kind: str, pickled: bytes, dask_worker: Worker) -> None:
    """Set a plugin up on a worker."""
    dask_worker._plugins.add(name, kind, pickle.loads(pickled))


def end_plugin(name: str, dask_worker: Worker) -> None:
    """Tear a plugin down on a worker, if it is there."""
    dask_worker._plugins.remove(name)


class NannyHandle:
    """What a :class:`taskloom.NannyPlugin` gets: the worker process that it prepares.

    Attributes
    ----------
    env : the environment of the process
    worker : the :class:`taskloom.Worker`
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.env = os.environ

    @property
    def name(self) -> Any:
        """The worker's name."""
        return self.worker.name

    @property
    def worker_address(self) -> str:
        """The worker's address."""
        return self.worker.address

    @property
    def local_directory(self) -> str:
        """The worker's directory."""
        return self.worker.local_directory

    @property
    def pid(self) -> int:
        """Of the worker's process."""
        return os.getpid()


class WorkerPlugins(dict[str, Any]):
    """The plugins of one worker, by name.

    Parameters
    ----------
    worker : the worker
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._kinds: dict[str, str] = {}
        self._watching: list[Any] = []
        self._recorder: Any = None

    def add(self, name: str, kind: str, plugin: Any) -> None:
        """Set a plugin up in place of an earlier one of its name.

        Raises
        ------
        Exception
            What its ``setup`` raises; then it is not kept.
        """
        if name in self:
            self.remove(name)
        self._call(getattr(plugin, "setup", None), kind)
        self[name] = plugin
        self._kinds[name] = kind
        self._watch()

    def remove(self, name: str) -> None:
        """Tear a plugin down, if it is there.

        Raises
        ------
        Exception
            What its ``teardown`` raises; it is gone nevertheless.
        """
        plugin = self.pop(name, None)
        if plugin is not None:
            self._watch()
            self._call(getattr(plugin, "teardown", None), self._kinds.pop(name))

    def close(self) -> None:
        """Tear all down; what fails is logged."""
        for name in reversed(list(self)):
            try:
                self.remove(name)
            except Exception:
                import logging

                logging.getLogger("taskloom.worker").exception("teardown of %s failed", name)

    def tell(self, key: Any, start: str, finish: str, nbytes: int) -> None:
        """Call the plugins that watch tasks; what fails is logged."""
        if self._recorder is not None:
            self._recorder.record(key, finish, nbytes)
        for plugin in self._watching:
            try:
                plugin.transition(key, start, finish)
            except Exception:
                import logging

                logging.getLogger("taskloom.worker").exception("%r.transition failed", plugin)

    def _watch(self) -> None:
        from taskloom._recording import NAME, Recorder

        self._watching = [plugin for plugin in self.values() if _overrides(plugin, "transition")]
        recorder = self.get(NAME)
        self._recorder = recorder if isinstance(recorder, Recorder) else None
        is_watched = bool(self._watching) or self._recorder is not None
        watch_tasks(self._worker._core, is_watched)

    def _call(self, method: Any, kind: str) -> None:
        if method is None:
            return
        result = method(NannyHandle(self._worker) if kind == "nanny" else self._worker)
        if hasattr(result, "__await__"):
            self._worker.loop_thread().wait_for(_await(result))


async def _await(awaitable: Any) -> Any:
    return await awaitable


def _overrides(plugin: Any, method: str) -> bool:
    """Whether the plugin has its own method, not the base class's empty one."""
    found = getattr(type(plugin), method, None)
    return found is not None and getattr(found, "__module__", "") not in _BASES
