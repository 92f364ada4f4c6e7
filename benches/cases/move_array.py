"""A large result of one worker as the input of a task on another one, on one host."""

from benches.case import Target
from benches.cases._transfers import addresses, median_ms, timed, wait
from benches.work import array, first

ORDER = 21
TITLE = "200 MB from worker to worker, same host"
METRICS = {"ms": "ms"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (Target("must", 1 / 5, "distributed"), Target("aim", 2))


def client(client, quick):
    source, target = addresses(client)[:2]

    def step(i):
        future = wait(client.submit(array, 200, i, pure=False, workers=[source]))
        return timed(lambda: client.submit(first, future, pure=False, workers=[target]).result())

    return {"ms": median_ms(step, 5 if quick else 10)}
