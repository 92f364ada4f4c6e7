"""At the interpreter's end, what is still open is closed: clients first, then clusters."""

from __future__ import annotations

import atexit
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskloom.client import Client
    from taskloom.cluster import LocalCluster

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_clusters: weakref.WeakSet[LocalCluster] = weakref.WeakSet()
_pid = 0


def _register() -> None:
    global _pid
    if _pid == 0:
        atexit.register(_close_all)
    if _pid != os.getpid():
        # A forked child closes what it opened itself, not what its parent did.
        _clients.clear()
        _clusters.clear()
        _pid = os.getpid()


def register_client(client: Client) -> None:
    _register()
    _clients.add(client)


def register_cluster(cluster: LocalCluster) -> None:
    _register()
    _clusters.add(cluster)


def _close_all() -> None:
    if _pid != os.getpid():
        return
    for client in list(_clients):
        client._close_now("the process ends")
    for cluster in list(_clusters):
        cluster._close_now()
    from taskloom._taskloom import keep_threads_out

    # Whoever is still inside the runtime would end with the interpreter, in the midst of Rust.
    keep_threads_out()
