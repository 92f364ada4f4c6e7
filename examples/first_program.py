"""The program of the README: two workers, a few futures, a result."""

from taskloom import Client, LocalCluster, as_completed


def square(x: int) -> int:
    return x * x


def add(x: int, y: int) -> int:
    return x + y


if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        squares = client.map(square, range(10))
        total = squares[0]
        for future in squares[1:]:
            total = client.submit(add, total, future)
        print("sum of squares:", total.result())
        for _future, result in as_completed(squares[:3], with_results=True):
            print("one of them:", result)
