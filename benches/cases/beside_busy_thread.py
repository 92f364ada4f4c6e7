"""A round trip while another thread of the client computes in pure Python."""

import threading

from benches.case import Target
from benches.cases._timing import each_us, latency
from benches.work import noop

ORDER = 14
TITLE = "`submit(noop).result()` beside a busy Python thread, p99"
METRICS = {"p99_us": "us", "p50_us": "us"}
SYSTEMS = ("taskloom", "distributed", "process-pool")
TARGETS = (Target("must", 15_000),)


def beside_busy_thread(call, count):
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        return latency(each_us(call, count, 5))
    finally:
        stop.set()
        thread.join()


def client(client, quick):
    ours = type(client).__module__.startswith("taskloom")
    count = (2000 if ours else 200) // (4 if quick else 1)
    return beside_busy_thread(lambda i: client.submit(noop, i).result(), count)


def process_pool(pool, quick):
    return beside_busy_thread(lambda i: pool.submit(noop, i).result(), 200 if quick else 1000)
