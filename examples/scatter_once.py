"""Data that many tasks share is sent once, to the workers, and named by a future."""

from taskloom import Client, fire_and_forget


def count(words: list[str], wanted: str) -> int:
    return words.count(wanted)


def report(n: int) -> None:
    print("a worker says:", n)


if __name__ == "__main__":
    words = ["warp", "weft", "loom", "weft", "task"] * 20_000
    with Client(n_workers=2, threads_per_worker=1) as client:
        (shared,) = client.scatter([words], broadcast=True)
        counts = {word: client.submit(count, shared, word) for word in sorted(set(words))}
        fire_and_forget(client.submit(report, counts["weft"]))
        print(client.gather(counts))
        print("copies of the words on", len(client.who_has([shared])[shared.key]), "workers")
