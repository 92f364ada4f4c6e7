"""Small things that libraries import from submodules of ``distributed``."""

from __future__ import annotations

import enum
import functools
import importlib
import logging
import os
import pickle
import socket
import sys
import time as _time
from collections.abc import Callable
from inspect import iscoroutinefunction as _is_coroutine_function
from inspect import signature
from typing import Any

from taskloom._taskloom import current_task_key, in_task
from taskloom._taskloom import key_split as key_split
from taskloom.errors import UnreachableError

LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
WINDOWS = os.name == "nt"

time = _time.time
monotonic = _time.monotonic
process_time = _time.process_time
thread_time = _time.thread_time

#: What calls of a closed or unreachable cluster raise.
CommClosedError = UnreachableError


class Status(enum.StrEnum):
    """States of clients, clusters and workers; equal to the texts that taskloom uses."""

    undefined = "undefined"
    created = "created"
    init = "init"
    starting = "starting"
    running = "running"
    paused = "paused"
    stopping = "stopping"
    stopped = "stopped"
    closing = "closing"
    closing_gracefully = "closing_gracefully"
    closed = "closed"
    failed = "failed"


class _ThreadState:
    """What libraries look at to see whether they run inside a task."""

    @property
    def execution_state(self) -> dict[str, Any]:
        """There is one inside tasks only."""
        if not in_task():
            raise AttributeError("execution_state: not inside a task")
        from taskloom.worker import get_worker

        return {"worker": get_worker(), "key": current_task_key()}

    @property
    def key(self) -> Any:
        """The key of the task that runs here."""
        if not in_task():
            raise AttributeError("key: not inside a task")
        return current_task_key()


thread_state = _ThreadState()


# Functions ----------------------------------------------------------------------------------


def iscoroutinefunction(function: Any) -> bool:
    """Whether calling it gives a coroutine; looks into ``functools.partial``."""
    while isinstance(function, functools.partial):
        function = function.func
    # tornado marks its coroutines.
    return _is_coroutine_function(function) or bool(
        getattr(function, "__tornado_coroutine__", False)
    )


def has_keyword(function: Callable[..., Any], keyword: str) -> bool:
    """Whether the function has a parameter of this name."""
    try:
        return keyword in signature(function).parameters
    except (TypeError, ValueError):
        return False


def import_term(name: str) -> Any:
    """The object with this dotted name, such as ``json.dumps``."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute) if module else __import__(name)


class log_errors:
    """Decorator or context manager: exceptions are logged and go on."""

    def __new__(cls, func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        self = super().__new__(cls)
        return self if func is None else self(func)

    def __init__(self, *, pdb: bool = False, unroll_stack: int = 0) -> None:
        if pdb:
            raise NotImplementedError("log_errors(pdb=True) is not offered by taskloom")

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if _is_coroutine_function(func):

            @functools.wraps(func)
            async def run(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await func(*args, **kwargs)

        else:

            @functools.wraps(func)
            def run(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return func(*args, **kwargs)

        return run

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception):
            logging.getLogger("taskloom").error("%s", error, exc_info=error)


# Addresses ----------------------------------------------------------------------------------


def parse_address(address: str, strict: bool = False) -> tuple[str, str]:
    """``('tcp', 'host:port')``; without a scheme it is ``tcp``."""
    if not isinstance(address, str):
        raise TypeError(f"expected an address as str, not {type(address).__name__}")
    scheme, separator, rest = address.rpartition("://")
    if strict and not separator:
        raise ValueError(f"the address {address!r} has no scheme such as tcp://")
    return scheme or "tcp", rest


def unparse_address(scheme: str, location: str) -> str:
    """The inverse of :func:`parse_address`."""
    return f"{scheme}://{location}"


def parse_host_port(address: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of ``host:port``, with or without a scheme.

    Raises
    ------
    ValueError
        There is no port and no default.
    """
    location = parse_address(address)[1]
    host, separator, port = location.rpartition(":")
    if location.startswith("[") and location.endswith("]"):
        host, separator, port = location, "", ""
    if separator and port.isdecimal():
        return host.strip("[]"), int(port)
    if separator and port not in ("", "*") and host.count(":") == 0:
        raise ValueError(f"no port in {address!r}: {port!r} is no number")
    if default_port is None:
        raise ValueError(f"missing port number in address {address!r}")
    return (host if separator else location).strip("[]"), default_port


def unparse_host_port(host: str, port: int | None = None) -> str:
    """The inverse of :func:`parse_host_port`."""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return host if port is None else f"{host}:{port}"


def get_address_host_port(address: str, strict: bool = False) -> tuple[str, int]:
    """Host and port of an address such as ``tcp://127.0.0.1:8786``."""
    return parse_host_port(parse_address(address, strict)[1])


def get_address_host(address: str) -> str:
    """The host of an address."""
    return parse_host_port(address, default_port=0)[0]


def get_ip(host: str = "8.8.8.8", port: int = 80) -> str:
    """This machine's address towards ``host``; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def open_port(host: str = "") -> int:
    """A port that is free at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


# Bytes --------------------------------------------------------------------------------------


def dumps(obj: Any, *, buffer_callback: Callable[[Any], object] | None = None) -> bytes:
    """Pickle: functions of the program's own file by value, as cloudpickle does."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(obj, protocol=5, buffer_callback=buffer_callback)
    return data


def loads(data: Any, *, buffers: Any = ()) -> Any:
    """The inverse of :func:`dumps`."""
    return pickle.loads(data, buffers=buffers)


def serialize(obj: Any, **kwargs: Any) -> tuple[dict[str, Any], list[Any]]:
    """A header and frames; large buffers are frames of their own, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    head = dumps(obj, buffer_callback=buffers.append)
    return {"serializer": "pickle"}, [head, *(buffer.raw() for buffer in buffers)]


def deserialize(header: dict[str, Any], frames: list[Any], **kwargs: Any) -> Any:
    """The inverse of :func:`serialize`."""
    return loads(frames[0], buffers=frames[1:])
