"""A future in a pickle is the result's claim ticket: it is kept until somebody reads it."""

import pickle

from taskloom import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        with Client(cluster) as producer:
            future = producer.submit(sum, range(1000))
            ticket = pickle.dumps(future)
        # The producer is gone, and its future with it. The result is not.
        with Client(cluster):
            print("kept for its reader:", pickle.loads(ticket).result())
