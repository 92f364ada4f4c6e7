"""What dask's configuration says about clusters: what counts here, and what cannot be honoured.

Only values that somebody chose count, see :mod:`taskloom._config`; a keyword counts more.
"""

from __future__ import annotations

import warnings

from taskloom._config import packaged, setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_settings", "environment", "scheduler_settings", "worker_resources"]

#: Keywords of the scheduler, and the settings that they come from.
_SCHEDULER = {
    "allowed_failures": "distributed.scheduler.allowed-failures",
    "no_workers_timeout": "distributed.scheduler.no-workers-timeout",
    "work_stealing": "distributed.scheduler.work-stealing",
    "worker_ttl": "distributed.scheduler.worker-ttl",
}
_OWN = ("setup_timeout", "hand_over_timeout")

#: Settings that a program may rely on and that are not honoured, and what to do.
_NOT_HONOURED = {
    "distributed.scheduler.idle-timeout": "close the cluster, or use cluster.adapt(minimum=0)",
    "distributed.scheduler.preload": "no Python runs in the scheduler; use client.register_plugin",
    "distributed.worker.preload": "use client.register_plugin or client.upload_file",
    "distributed.nanny.preload": "use client.register_plugin with a NannyPlugin",
    "distributed.worker.lifetime.duration": "use client.retire_workers",
}


def check_settings() -> None:
    """Warn of settings that are not honoured.

    Raises
    ------
    NotImplementedError
        The configuration demands encrypted connections.
    """
    if setting("distributed.comm.require-encryption"):
        raise NotImplementedError(
            "the setting distributed.comm.require-encryption is on, and connections are not "
            "encrypted yet: turn it off, or use dask.distributed"
        )
    for name, advice in _NOT_HONOURED.items():
        value = setting(name)
        if value is not None and value != []:
            text = f"the setting {name} is not honoured by taskloom: {advice}"
            warnings.warn(text, UserWarning, stacklevel=4)


def scheduler_settings(given: dict[str, Any] | None) -> dict[str, Any]:
    """The scheduler's keywords: those given, else those of the configuration. Times in seconds.

    Raises
    ------
    TypeError
        A keyword that the scheduler does not have.
    """
    settings = dict(given or {})
    for ignored in ("dashboard", "dashboard_address"):
        settings.pop(ignored, None)
    known = sorted([*_SCHEDULER, *_OWN])
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise TypeError(f"unknown scheduler_kwargs: {unknown}; known: {known}")
    for keyword, name in _SCHEDULER.items():
        if settings.get(keyword) is None and (value := setting(name)) is not None:
            settings[keyword] = value
    return {keyword: _checked(keyword, value) for keyword, value in settings.items()}


def _checked(keyword: str, value: Any) -> Any:
    from taskloom.utils import parse_seconds

    if value is None and keyword != "work_stealing":
        return None
    if keyword == "work_stealing":
        return bool(value)
    if keyword == "allowed_failures":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
            raise ValueError(f"allowed_failures must be an int of 0 to 255, not {value!r}")
        return value
    return parse_seconds(value)


def worker_resources(given: dict[str, float] | None) -> dict[str, float]:
    """Abstract resources of each worker."""
    found = setting("distributed.worker.resources", {}) if given is None else given
    return {str(name): float(amount) for name, amount in found.items()}


def environment() -> dict[str, str]:
    """Environment variables for worker processes."""
    variables: dict[str, str] = {}
    for name in ("distributed.nanny.pre-spawn-environ", "distributed.nanny.environ"):
        usual = packaged(name)
        # Those that distributed sets by itself are merged with what the user chose.
        variables.update(
            (str(key), str(value))
            for key, value in setting(name, {}).items()
            if value is not None and (not isinstance(usual, dict) or usual.get(key) != value)
        )
    return variables
