"""The client of the current context (``Client.as_current``), inherited by tasks and coroutines."""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskloom.client import Client

scoped_client: ContextVar[Client] = ContextVar("taskloom_client")
