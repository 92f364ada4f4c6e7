"""Memory that a finished future costs the client's process.

The scheduler is another process, so that its tasks do not count. Results are small integers; keys
exist before the measurement and are not counted twice.
"""

import gc
import json
import subprocess
import sys

from benches.case import Target
from benches.processes import resident_bytes
from benches.systems import module_of
from benches.work import noop

ORDER = 17
TITLE = "memory per finished future in the client's process"
METRICS = {"bytes_per_future": "B"}
SYSTEMS = ("taskloom", "distributed")
TARGETS = (Target("must", 500), Target("must", 0.5, "distributed"))


def measure(address, module_name, n):
    """In a process that is a client and nothing else."""
    import importlib

    module = importlib.import_module(module_name)
    with module.Client(address) as client:
        client.gather(client.map(noop, range(-1000, 0)))
        keys = [f"noop-{i:039}" for i in range(n)]
        gc.collect()
        before = resident_bytes()
        futures = client.map(noop, range(n), key=keys)
        module.wait(futures)
        gc.collect()
        found = (resident_bytes() - before) / n
        del futures
    return found


def client(client, quick):
    module = module_of(client).__name__
    n = (100_000 if module == "taskloom" else 10_000) // (4 if quick else 1)
    command = [sys.executable, "-m", __name__, client.cluster.scheduler_address, module, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return {"bytes_per_future": json.loads(done.stdout.strip().splitlines()[-1])}


if __name__ == "__main__":
    print("\n" + json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
