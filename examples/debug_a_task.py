"""A failed task, made again in this process with its inputs: a debugger can enter it."""

import operator
import traceback

from taskloom import Client


def ratio(total: int, count: int) -> float:
    return total / count


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        count = client.submit(len, [])
        mean = client.submit(ratio, 10, count)
        report = client.submit(operator.mul, mean, 100)
        print("failed:", type(report.exception()).__name__)
        try:
            # In a terminal: pdb.runcall(client.recreate_error_locally, report)
            client.recreate_error_locally(report)
        except ZeroDivisionError as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            print("here, in", frame.name + ":", frame.line)
        print("its input was", client.recreate_task_locally(count))
