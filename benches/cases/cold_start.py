"""From the start of Python to the first result on a cluster of two processes."""

import subprocess
import sys
import tempfile
import time

from benches.case import Target

ORDER = 11
TITLE = "cold start: python to the first result, 2 workers"
METRICS = {"first_result_s": "s"}
SYSTEMS = ("taskloom", "distributed", "process-pool", "ray")
TARGETS = (Target("must", 0.35, "distributed"), Target("aim", 0.18))

CLIENT = """
if __name__ == "__main__":
    from {module} import Client, LocalCluster
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    print(client.submit(abs, -1).result(), flush=True)
    client.close()
    cluster.close()
"""
PROGRAMS = {
    "taskloom": CLIENT.format(module="taskloom"),
    "distributed": CLIENT.format(module="distributed"),
    "process-pool": """
if __name__ == "__main__":
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2) as pool:
        print(pool.submit(abs, -1).result(), flush=True)
""",
    "ray": """
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print(ray.get(ray.remote(lambda x: abs(x)).remote(-1)), flush=True)
ray.shutdown()
""",
}


def alone(system, shape, quick):
    # As a file, since multiprocessing imports the main module of its parent.
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(PROGRAMS[system.name])
        file.flush()
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, file.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        answer = ""
        while answer.strip() != "1":
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"{system.name} gave no result")
        duration = time.perf_counter() - begun
        process.communicate(timeout=60)
    return {"first_result_s": duration}
