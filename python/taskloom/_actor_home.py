"""What a worker needs in Python to make actors and to call them."""

from __future__ import annotations

from typing import Any

from taskloom._actor import Actor, describe
from taskloom._inside import client_of_task


def policy_of(instance: Any) -> tuple[bool, int]:
    """Whether the actor can be restarted, and after how many calls it is saved."""
    policy = getattr(type(instance), "__taskloom_actor__", None)
    return (False, 0) if policy is None else (policy.restart, policy.snapshot_every)


def make_proxy(key: Any, instance: Any, worker: Any) -> Actor:
    """The proxy that is the result of the task which made the object."""
    scheduler = worker.scheduler
    address = scheduler if isinstance(scheduler, str) else scheduler.address
    return Actor(key, describe(instance), address)


def gather(keys: list[Any]) -> list[Any]:
    """The results of tasks that are arguments of a call."""
    client = client_of_task()
    assert client is not None
    return client.gather([client._core.bind(key) for key in keys])
