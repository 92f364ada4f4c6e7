"""Futures: given out at once, passed on unfinished, waited for in several ways."""

from taskloom import Client, as_completed, wait


def square(x: int) -> int:
    return x * x


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        squares = client.map(square, range(10))
        total = client.submit(sum, squares)  # futures are inputs, also inside containers
        print("sum of squares:", total.result(timeout="30s"))

        done, not_done = wait(squares)
        print(len(done), "done,", len(not_done), "not done")

        for future in as_completed(squares[:3]):
            print(future.status, future.key.split("-")[0])

        print(client.gather({"first": squares[0], "last": squares[-1]}))
