"""What ran when: a task stream, and a report of a block of work.

Run it: python examples/task_stream.py
It leaves stream.html and report.html in the current directory.
"""

import time

from taskloom import Client, get_task_stream, performance_report


def work(x: int) -> int:
    time.sleep(0.01)
    return x * x


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        with get_task_stream(plot="save", filename="stream.html") as stream:
            client.gather(client.map(work, range(20)))
        for record in stream.data[:2]:
            print(record["key"], record["worker"], record["startstops"])

        with performance_report("report.html"):
            client.gather(client.map(work, range(20, 40)))
        print("see stream.html and report.html")
