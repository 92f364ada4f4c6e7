"""The keywords of ``submit`` and its like, checked and brought into one form."""

from __future__ import annotations

import sys

from taskloom._taskloom import CoreOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def worker_names(workers: Any) -> list[str]:
    """Addresses, names or host names as a list of texts.

    Raises
    ------
    TypeError
        It is no name, nor a collection of names.
    """
    if workers is None:
        return []
    if isinstance(workers, (str, int)) or hasattr(workers, "worker_address"):
        workers = [workers]
    names = []
    for worker in workers:
        name = getattr(worker, "worker_address", worker)
        if not isinstance(name, (str, int)):
            raise TypeError(f"workers= takes addresses or names, not {type(name).__name__}")
        names.append(str(name))
    return names


def _checked_resources(resources: Any) -> list[tuple[str, float]]:
    if not resources:
        return []
    if not isinstance(resources, dict):
        raise TypeError(f"resources= takes a dict such as {{'GPU': 1}}, not {resources!r}")
    return [(str(name), float(amount)) for name, amount in resources.items()]


def _annotations() -> dict[str, Any]:
    """What ``dask.annotate`` says in this context."""
    dask_base = sys.modules.get("dask.base")
    get = getattr(dask_base, "get_annotations", None) or getattr(
        sys.modules.get("dask"), "get_annotations", None
    )
    return get() if get is not None else {}


def make_options(
    workers: Any,
    allow_other_workers: bool | None,
    resources: Any,
    retries: Any,
    priority: int | None,
    given: dict[str, Any] | None = None,
    is_actor: bool = False,
) -> CoreOptions | None:
    """The options of a submission; ``None`` when all have their defaults.

    A keyword counts more than what ``with_options`` gave, and that more than ``dask.annotate``.

    Raises
    ------
    ValueError, TypeError
        A value that cannot be meant.
    """
    annotations = _annotations()
    if given:
        annotations = {**annotations, **given}
    if annotations:
        workers = workers if workers is not None else annotations.get("workers")
        allow_other_workers = allow_other_workers or annotations.get("allow_other_workers")
        resources = resources or annotations.get("resources")
        retries = retries if retries is not None else annotations.get("retries")
        priority = priority or annotations.get("priority")
    if isinstance(workers, int):
        # Names of workers are numbers: 0 is one.
        workers = [workers]
    policy = None
    if retries or annotations:
        from taskloom._policy import make_policy

        retries, policy = make_policy(retries, annotations)
    is_special = policy is not None or is_actor
    if not (workers or allow_other_workers or resources or retries or priority or is_special):
        if workers is None or workers == []:
            return None
        raise ValueError("workers= is empty: no worker could run the task")
    names = worker_names(workers)
    if allow_other_workers not in (True, False, None):
        raise TypeError(f"allow_other_workers= must be True or False, not {allow_other_workers!r}")
    if allow_other_workers and not names:
        raise ValueError("Only use allow_other_workers= if using workers=")
    return CoreOptions(
        names,
        bool(allow_other_workers),
        _checked_resources(resources),
        retries or 0,
        int(priority or 0),
        None if policy is None else policy.core(),
        bool(is_actor),
    )
