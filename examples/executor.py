"""The cluster as an executor of the standard library: code for thread pools runs on it."""

import concurrent.futures
import itertools

from taskloom import Client


def cube(x: int) -> int:
    return x**3


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        with client.get_executor(retries=2) as executor:
            futures = [executor.submit(cube, x) for x in range(4)]
            for future in concurrent.futures.as_completed(futures):
                assert future.result() in {0, 1, 8, 27}
            print(list(executor.map(cube, range(5))))

            # An endless input: at most 16 calls are ahead of what was taken.
            cubes = executor.map(cube, itertools.count(), buffersize=16)
            print(list(itertools.islice(cubes, 5)))
