"""A task that submits tasks and waits for them: its thread is free for others meanwhile."""

from taskloom import Client, get_client


def quicksort(values: list[int]) -> list[int]:
    """Sort the halves as tasks of their own, down to short lists."""
    if len(values) < 40:
        return sorted(values)
    pivot, *rest = values
    client = get_client()
    smaller = client.submit(quicksort, [v for v in rest if v < pivot])
    larger = client.submit(quicksort, [v for v in rest if v >= pivot])
    # The wait frees this worker's slot, so one thread is enough for any depth.
    return [*smaller.result(), pivot, *larger.result()]


if __name__ == "__main__":
    values = [(i * 7919) % 1000 for i in range(400)]
    with Client(n_workers=1, threads_per_worker=1) as client:
        result = client.submit(quicksort, values).result()
    assert result == sorted(values)
    print("sorted", len(result), "values, from", result[0], "to", result[-1])
