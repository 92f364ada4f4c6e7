"""Where a client finds its scheduler, and what it is not offered."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SchedulerFile:
    """A file in which a scheduler writes its address once it listens."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, timeout: float) -> str:
        """The address; waits until the file is there and complete.

        Raises
        ------
        FileNotFoundError
            It did not come in time.
        ValueError
            It is no scheduler file.
        """
        import time

        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._address()
            except (FileNotFoundError, ValueError) as error:
                if time.monotonic() >= deadline:
                    raise error
            time.sleep(0.01)

    def _address(self) -> str:
        import json

        with open(self._path, encoding="utf-8") as file:
            text = file.read()
        try:
            return str(json.loads(text)["address"])
        except (ValueError, LookupError, TypeError):
            raise ValueError(
                f"{self._path} is no scheduler file: it needs JSON with an 'address'; "
                "'taskloom scheduler --scheduler-file' writes one"
            ) from None


def refuse_unoffered(security: Any, serializers: Any, deserializers: Any, extensions: Any) -> None:
    """What the engine does not have is an error, never ignored."""
    if security:
        raise NotImplementedError(
            "security= is not offered yet: connections prove the shared token "
            "(TASKLOOM_TOKEN); TLS comes later"
        )
    if serializers is not None or deserializers is not None:
        raise NotImplementedError(
            "serializers= and deserializers= are not offered: there is one wire format; give a "
            "type its own way to travel with __reduce_ex__ or copyreg"
        )
    if extensions:
        raise NotImplementedError(
            "extensions= is not offered: the scheduler runs no Python; use plugins and topics"
        )
