"""Which worker runs a task: by name, by what it has, by what the task occupies."""

from taskloom import Client, get_worker


def where(_: int = 0) -> str:
    return str(get_worker().name)


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=2, resources={"GPU": 1}) as client:
        print("named:", client.submit(where, workers=1).result())
        # Each worker has one GPU: never two such tasks at once on one of them.
        futures = client.map(where, range(6), resources={"GPU": 1})
        print("with a GPU:", sorted(set(client.gather(futures))))

        waiting = client.submit(where, resources={"TPU": 1}, pure=False)
        print("nobody has that:", client.explain(waiting)["reason"])
        waiting.cancel()
