"""A relay for TCP connections that a test can cut, stall and half-open, between any two parties."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

_PIECE = 1 << 16


class Proxy:
    """Passes connections on to `target`, as long as the test lets it.

    target : address such as ``tcp://127.0.0.1:8786``. `address` is where to connect instead.
    """

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("tcp://").rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flows = {"up": threading.Event(), "down": threading.Event()}
        for flow in self._flows.values():
            flow.set()
        self._accepts = threading.Event()
        self._accepts.set()
        self._closed = False
        self.connections = 0
        #: Bytes towards the target after which a connection breaks, in the midst of whatever.
        self.breaks_after: int | None = None
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._closed:
                near.close()
                return
            if not self._accepts.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.connections += 1
            with self._lock:
                self._pairs.append((near, far))
            for source, sink, flow in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self._pump, args=(source, sink, flow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, flow: str) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                self._flows[flow].wait()
                sink.sendall(data)
                passed += len(data)
                if flow == "up" and self.breaks_after and passed >= self.breaks_after:
                    self.cut()
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def cut(self) -> int:
        """Break all connections, in the middle of whatever; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for near, far in pairs:
            for side in (near, far):
                # Without lingering the other side sees a reset, not an orderly end.
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
                side.close()
        return len(pairs)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody gets through: connections are cut, and new ones refused."""
        self._accepts.clear()
        self.cut()
        try:
            yield
        finally:
            self._accepts.set()

    @contextlib.contextmanager
    def stalled(self, *flows: str) -> Iterator[None]:
        """Hold back what flows ``"up"`` to the target, ``"down"`` from it, or both."""
        for flow in flows or ("up", "down"):
            self._flows[flow].clear()
        try:
            yield
        finally:
            for flow in self._flows.values():
                flow.set()

    def close(self) -> None:
        self._closed = True
        for flow in self._flows.values():
            flow.set()
        # `close` alone does not wake a thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
