"""As `move_array`, over TCP, as between hosts; and a bare TCP stream of the same size beside it."""

import os
import socket
import threading

from benches.case import Target
from benches.cases import move_array
from benches.cases._transfers import median_ms, timed

ORDER = 21.5
TITLE = "200 MB from worker to worker, loopback TCP; a bare stream takes `stream_ms`"
METRICS = {"ms": "ms", "stream_ms": "ms", "share_of_stream": ""}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (
    Target("must", 1, "distributed"),
    Target("must", 1 / 0.8, metric="share_of_stream"),
    Target("aim", 1 / 0.95, metric="share_of_stream"),
)

BYTES = 200_000_000


def bare_stream(_i):
    """Sends as much through a connection from one process to another; seconds."""
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if child == 0:
        sender = socket.create_connection(listener.getsockname())
        sender.recv(1)
        sender.sendall(bytearray(b"x") * BYTES)
        os._exit(0)
    connection, _ = listener.accept()
    target = memoryview(bytearray(BYTES))

    def receive():
        connection.sendall(b"x")
        at = 0
        while at < BYTES:
            at += connection.recv_into(target[at:])

    duration = timed(receive)
    os.waitpid(child, 0)
    connection.close()
    listener.close()
    return duration


def alone(system, shape, quick):
    count = 5 if quick else 10
    stream = median_ms(bare_stream, count)
    assert threading.active_count() == 1
    os.environ["TASKLOOM_LOCAL_SOCKETS"] = "0"
    with system.open(shape) as client:
        ms = move_array.client(client, quick)["ms"]
    return {"ms": ms, "stream_ms": stream, "share_of_stream": ms / stream}
