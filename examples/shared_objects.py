"""Locks, queues, variables and published datasets between tasks and programs."""

from taskloom import Client, Lock, Queue, Semaphore, Variable


def deposit(amount):
    """Reads and writes a shared value: without the lock updates would be lost."""
    balance = Variable("balance")
    with Lock("balance"):
        balance.set(balance.get() + amount)


def ask_the_database(number, connections):
    with connections:
        return number * number


def produce(count):
    queue = Queue("numbers")
    for number in range(count):
        queue.put(number)


def main():
    with Client(n_workers=2, threads_per_worker=2) as client:
        Variable("balance").set(0)
        client.gather(client.map(deposit, range(20)))
        print("balance:", Variable("balance").get())

        # At most two tasks at a time, wherever they run.
        connections = Semaphore(max_leases=2, name="database")
        squares = client.map(ask_the_database, range(5), connections=connections)
        print("squares:", client.gather(squares))

        # The queue is bounded: the producer waits while it is full.
        queue = Queue("numbers", maxsize=2)
        producer = client.submit(produce, 5)
        print("numbers:", queue.get(batch=5))
        producer.result()

        # A published result stays when this client is gone.
        client.publish_dataset(total=client.submit(sum, squares))
        with Client(client.scheduler_address, set_as_default=False) as other:
            print("total:", other.get_dataset("total").result())


if __name__ == "__main__":
    main()
