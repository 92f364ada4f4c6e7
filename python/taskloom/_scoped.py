"""The client of the current context (``Client.as_current``), inherited by tasks and coroutines."""

from __future__ import annotations

from contextvars import ContextVar, Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskloom.client import Client

scoped_client: ContextVar[Client] = ContextVar("taskloom_client")


def leave(token: Token[Client]) -> None:
    """Undo a ``scoped_client.set``; elsewhere than where it was made there is nothing to undo."""
    from contextlib import suppress

    # A block may be entered in one task or thread and left in another (fixtures do).
    with suppress(ValueError):
        scoped_client.reset(token)
