"""Workers that the scheduler sees and a client cannot reach."""

import pytest

from taskloom import WorkerUnreachableError


def stop_serving():
    """Nobody can connect to this process any more; what is connected stays."""
    import os
    import socket

    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def test_a_result_that_can_be_had_in_no_way_is_an_error_and_the_worker_goes_on(start):
    client = start(n_workers=1)
    address = next(iter(client.scheduler_info()["workers"]))
    client.run(stop_serving)
    future = client.submit(bytes, 100_000, pure=False)
    with pytest.raises(WorkerUnreachableError) as caught:
        future.result(timeout=60)
    assert address in str(caught.value)
    assert client.submit(len, future).result(timeout=30) == 100_000


def test_a_result_is_had_from_another_worker_that_has_it(start):
    client = start()
    first, second = client.scheduler_info()["workers"]
    future = client.submit(bytes, 100_000, workers=[first], pure=False)
    client.replicate([future], 2)
    client.run(stop_serving, workers=[first])
    assert len(future.result(timeout=60)) == 100_000
    assert client.submit(len, future, workers=[second]).result(timeout=30) == 100_000
