"""Actors: an object on a worker that tasks and clients share, and one that survives its worker."""

import os

import taskloom
from taskloom import ActorLostError, Client


class ParameterServer:
    """Keeps the best result so far."""

    def __init__(self):
        self.best = None

    def offer(self, loss, parameter):
        if self.best is None or loss < self.best[0]:
            self.best = (loss, parameter)
        return self.best


def evaluate(parameter, server):
    loss = (parameter - 3) ** 2
    return server.offer(loss, parameter).result()


@taskloom.actor(restart=True, snapshot_every=1)
class Account:
    """Saved after each call: no answered call is lost, whatever becomes of the worker."""

    def __init__(self):
        self.balance = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    def crash(self):
        os.abort()


def main():
    with Client(n_workers=2, threads_per_worker=1) as client:
        server = client.submit(ParameterServer, actor=True).result()
        client.gather(client.map(evaluate, range(10), server=server))
        print("best:", server.best)

        account = client.submit(Account, actor=True).result()
        account.deposit(100).result()
        try:
            account.crash().result()
        except ActorLostError as error:
            print("lost a call:", type(error).__name__)
        print("balance:", account.deposit(1).result())


if __name__ == "__main__":
    main()
