"""A cluster that grows with its work and shrinks when the work is done."""

import time

from taskloom import Client, LocalCluster


def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


if __name__ == "__main__":
    with LocalCluster(n_workers=0, threads_per_worker=1) as cluster:
        adaptive = cluster.adapt(
            minimum=0, maximum=2, interval="50ms", wait_count=2, target_duration="200ms"
        )
        with Client(cluster) as client:
            print("sum:", sum(client.gather(client.map(work, [0.1] * 8, pure=False))))
            while client.nthreads():
                time.sleep(0.02)
        for _when, change in adaptive.log:
            print(change)
