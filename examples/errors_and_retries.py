"""What a failing task looks like: its own exception, its traceback, and another try."""

import os
import random

from taskloom import Client, KilledWorker


def flaky(seed: int) -> str:
    if random.random() < 0.5:
        raise ConnectionError("the line was busy")
    return f"call {seed} got through"


def broken(x: int) -> float:
    return x / 0


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        print(client.submit(flaky, 1, retries=50, pure=False).result())
        try:
            client.submit(broken, 1).result()
        except ZeroDivisionError as error:
            print("as in a plain program:", error)
        try:
            client.submit(os._exit, 3).result()
        except KilledWorker as error:
            print("and when the process dies:", str(error).splitlines()[0])
        print("the cluster is well:", client.submit(sum, [1, 2, 3]).result())
