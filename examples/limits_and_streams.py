"""Retries with pauses, limits of time, and calls over an iterable without end."""

import itertools
import time

from taskloom import Backoff, Client, Retry, TaskTimeout


def square(x):
    return x * x


def nap(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return seconds


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1) as client:
        policy = Retry(4, backoff=Backoff("100 ms", max="1 s"), on=OSError)
        print(client.submit(square, 7, retries=policy).result())

        hasty = client.with_options(timeout="500 ms", hard_timeout="10 s")
        try:
            hasty.submit(nap, 60).result()
        except TaskTimeout as error:
            print("too slow:", error.limit)

        with client.imap(square, itertools.count(), window=16) as squares:
            print(list(itertools.islice(squares, 5)))


if __name__ == "__main__":
    main()
