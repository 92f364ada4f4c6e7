"""Plugins: code that runs beside the tasks, on workers, supervisors' behalf, or at the client.

No Python runs in taskloom's scheduler and supervisors. Therefore

- a :class:`WorkerPlugin` runs in every worker, as in Dask;
- a :class:`NannyPlugin` runs in every worker *process* before its first task, which is where its
  effects (environment variables, files, installed packages) are wanted;
- a :class:`SchedulerPlugin` runs in the process of the client that registered it, on the events
  that the scheduler tells, until that client is closed. It can watch, and cannot interfere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "CondaInstall",
    "Environ",
    "InstallPlugin",
    "NannyPlugin",
    "PipInstall",
    "SchedulerPlugin",
    "UploadDirectory",
    "UploadFile",
    "WorkerPlugin",
]


class WorkerPlugin:
    """Runs in every worker, present and future. Override what you need.

    Attributes
    ----------
    name : str, optional
        A plugin takes the place of an earlier one of the same name. Made up when left out.
    idempotent : bool, default False
        Whether registering it again while one of its name is registered does nothing.
    """

    def setup(self, worker: Any) -> Any:
        """Run when the plugin or the worker is new, before the worker's first task.

        May be a coroutine function, which runs on the worker's event loop.
        """

    def teardown(self, worker: Any) -> Any:
        """Run when the plugin is unregistered or replaced, or the worker is closed in order."""

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Run when a task starts (``ready`` to ``executing``) and when it ends.

        Runs in the task's thread, so it must be quick. ``finish`` at the end is ``memory``,
        ``error`` or ``rescheduled``. Other state changes of workers are not told.
        """


class NannyPlugin:
    """Prepares worker processes: runs in each of them before its first task.

    Attributes
    ----------
    restart : bool, default False
        Whether registering it starts the present workers anew, so that it runs before anything
        was imported there.
    """

    restart = False

    def setup(self, nanny: Any) -> Any:
        """Run in a worker process; ``nanny`` has ``name``, ``worker_address``, ``local_directory``,
        ``env`` (the process's environment) and ``worker``."""

    def teardown(self, nanny: Any) -> Any:
        """Run when the plugin is unregistered, or the process is closed in order."""


class SchedulerPlugin:
    """Watches the scheduler, from the client's process.

    No Python runs in the scheduler: the methods are called in the process of the client that
    registered the plugin, shortly after the fact, one at a time on a thread, and only while the
    client is open. ``scheduler`` is the handle that ``run_on_scheduler`` gives, see
    :class:`taskloom.scheduler_handle.SchedulerHandle`. ``update_graph`` and
    ``valid_workers_downscaling`` would decide inside the scheduler: plugins that override them
    are refused.
    """

    name: str | None = None

    def start(self, scheduler: Any) -> Any:
        """Run when the plugin is registered."""

    def close(self) -> Any:
        """Run when the plugin is unregistered or the client is closed."""

    def before_close(self) -> Any:
        """Run before :meth:`close`."""

    def update_graph(self, scheduler: Any, **kwargs: Any) -> None:
        """Not offered; see the class."""

    def restart(self, scheduler: Any) -> None:
        """Run when a client restarted the cluster."""

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Run when the scheduler changed a task's state; ``worker=`` is the worker or ``None``."""

    def add_worker(self, scheduler: Any, worker: str) -> Any:
        """Run when a worker joined."""

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> Any:
        """Run when a worker is gone."""

    def add_client(self, scheduler: Any, client: str) -> None:
        """Run when a client joined."""

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Run when a client is gone."""

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Not offered; see the class."""
        return workers

    def log_event(self, topic: str, msg: Any) -> None:
        """Run for every event of the scheduler's topic ``all``."""


class Environ(NannyPlugin):
    """Sets environment variables in every worker process.

    Parameters
    ----------
    environ : mapping of str to values, which become str

    The present workers are started anew, so that libraries which look once see them.
    """

    restart = True

    def __init__(self, environ: Mapping[str, Any] | None = None) -> None:
        self.environ = {str(name): str(value) for name, value in (environ or {}).items()}
        self.name = "environ-" + "-".join(sorted(self.environ))

    def setup(self, nanny: Any) -> None:
        nanny.env.update(self.environ)


class InstallPlugin(NannyPlugin):
    """Calls a function once per machine and cluster process tree, before the first task.

    Parameters
    ----------
    install_fn : function without arguments
    restart_workers : bool
        Whether the present workers are started anew afterwards.
    """

    def __init__(self, install_fn: Callable[[], None], restart_workers: bool) -> None:
        self._install_fn = install_fn
        self.restart = restart_workers
        self.name = f"{type(self).__name__}-{os.urandom(8).hex()}"

    def setup(self, nanny: Any) -> None:
        with _machine_lock():
            self._install_fn()


class PipInstall(InstallPlugin):
    """Installs packages with pip into the environment of every worker.

    Parameters
    ----------
    packages : requirements as pip takes them; installed ones are left alone
    pip_options : options of ``pip install``
    restart_workers : bool, default False
        Whether the present workers are started anew, so that they see packages that they have
        imported in another version before.

    Raises, where it is registered, ``RuntimeError`` with pip's words when pip fails.
    """

    def __init__(
        self,
        packages: list[str],
        pip_options: list[str] | None = None,
        restart_workers: bool = False,
    ) -> None:
        self.packages = _texts("packages", packages)
        self.pip_options = _texts("pip_options", pip_options or [])
        super().__init__(self._install, restart_workers)
        self.name = f"pip-install-{'-'.join(self.packages)}"

    def _install(self) -> None:
        _run([sys.executable, "-m", "pip", "install", *self.pip_options, *self.packages])


class CondaInstall(InstallPlugin):
    """Installs packages with conda into the environment of every worker.

    Parameters
    ----------
    packages : as conda takes them
    conda_options : options of ``conda install``
    restart_workers : as in :class:`PipInstall`
    """

    def __init__(
        self,
        packages: list[str],
        conda_options: list[str] | None = None,
        restart_workers: bool = False,
    ) -> None:
        self.packages = _texts("packages", packages)
        self.conda_options = _texts("conda_options", conda_options or [])
        super().__init__(self._install, restart_workers)
        self.name = f"conda-install-{'-'.join(self.packages)}"

    def _install(self) -> None:
        prefix = ["conda", "install", "-y", "-p", sys.prefix]
        _run([*prefix, *self.conda_options, *self.packages])


class UploadFile(WorkerPlugin):
    """Puts a file into every worker's local directory, and makes it importable.

    Parameters
    ----------
    filepath : str
    load : bool, default True
        Whether to import a ``.py`` file, or the modules of a ``.zip`` or ``.egg``, at once. A
        module that was imported before is loaded anew.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is larger than 200 MB.
    """

    def __init__(self, filepath: str, load: bool = True) -> None:
        filepath = os.path.expanduser(filepath)
        self.filename = os.path.basename(filepath)
        self.load = load
        self.name = f"upload-file-{self.filename}"
        with open(filepath, "rb") as file:
            self.data = file.read(_MAX_UPLOAD + 1)
        _check_upload(filepath, self.data)

    def setup(self, worker: Any) -> None:
        from taskloom._uploads import place_file

        place_file(worker.local_directory, self.filename, self.data, self.load)


#: Messages to workers are bounded.
_MAX_UPLOAD = 200_000_000


class UploadDirectory(NannyPlugin):
    """Puts a directory with its files into every worker's local directory.

    Parameters
    ----------
    path : str
    restart_workers : bool, default False
        Whether the present workers are started anew.
    update_path : bool, default False
        Whether the uploaded directory is put on ``sys.path``, so that its files can be imported.
        The directory around it is always there: a package can be imported by its name.
    skip_words : names of directories and files that are left out
    skip : functions that are given a path and say whether it is left out
    mode : accepted for programs written for Dask; files always go to the workers

    Raises
    ------
    NotADirectoryError
        There is no such directory.
    ValueError
        Compressed, it is larger than 200 MB.
    """

    def __init__(
        self,
        path: str,
        restart_workers: bool = False,
        update_path: bool = False,
        skip_words: Sequence[str] = (".git", ".github", ".pytest_cache", "tests", "docs"),
        skip: Sequence[Callable[[str], bool]] = (lambda name: name.endswith(".pyc"),),
        mode: str = "workers",
    ) -> None:
        from taskloom._uploads import pack_directory

        if mode not in ("all", "scheduler", "workers"):
            raise ValueError(f"mode= must be 'all', 'scheduler' or 'workers', not {mode!r}")
        if mode == "scheduler":
            raise NotImplementedError(
                "mode='scheduler' is not offered: no Python runs in the scheduler; use 'workers'"
            )
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(path):
            raise NotADirectoryError(f"no such directory: {path}")
        self.path = os.path.basename(path)
        self.restart = restart_workers
        self.update_path = update_path
        self.name = f"upload-directory-{self.path}"
        self.data = pack_directory(path, skip_words, skip)
        _check_upload(path, self.data)

    def setup(self, nanny: Any) -> None:
        from taskloom._uploads import place_directory

        place_directory(nanny.local_directory, self.path, self.data, self.update_path)


def _check_upload(path: str, data: bytes) -> None:
    if len(data) > _MAX_UPLOAD:
        raise ValueError(
            f"{path} is larger than {_MAX_UPLOAD} bytes; put it where all workers can read it"
        )


def _texts(name: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} must be a list of str, not {values!r}")
    return list(values)


def _run(command: list[str]) -> None:
    import importlib
    import subprocess

    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if process.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command)} failed with code {process.returncode}: {process.stdout[-4000:]}"
        )
    importlib.invalidate_caches()


def _machine_lock() -> Any:
    """Held by one process of this machine and Python environment at a time."""
    from taskloom._uploads import FileLock

    return FileLock(os.path.join(sys.prefix, ".taskloom-install.lock"))
