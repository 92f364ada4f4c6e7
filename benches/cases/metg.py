"""METG(50%) of a one-dimensional stencil: how short tasks may be with half of the machine used.

Task Bench's measure: columns equal to the cores, task (t, i) needs (t-1, i-1), (t-1, i) and
(t-1, i+1), each runs a compute-bound kernel. The efficiency of a run is its rate of kernel
iterations over the rate of the same kernel without a scheduler on all cores; the granularity is
wall time x cores / tasks. METG(50%) is the smallest granularity with an efficiency of 50 %,
interpolated between the two runs around it.
"""

import math
import time
from concurrent.futures import ProcessPoolExecutor

from benches.case import Target
from benches.work import compute

ORDER = 9
TITLE = "METG(50%), stencil_1d, columns = cores"
METRICS = {"metg_us": "us", "metg_wide_us": "us"}
SYSTEMS = ("taskloom", "distributed", "dask-threads")
TARGETS = (Target("must", 1 / 20, "distributed"), Target("aim", 50))

CORES = 2


def timed(iterations):
    begun = time.perf_counter()
    compute(iterations)
    return time.perf_counter() - begun


def peak_rate():
    """Kernel iterations a second on all cores, without a scheduler."""
    iterations = 1_000_000
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(timed, [1000] * CORES))
        durations = list(pool.map(timed, [iterations] * CORES))
    return CORES * iterations / max(durations)


def stencil(run, width, steps, iterations):
    graph = {(run, 0, i): (compute, iterations) for i in range(width)}
    for t in range(1, steps):
        for i in range(width):
            near = range(max(0, i - 1), min(width, i + 2))
            graph[run, t, i] = (compute, iterations, *((run, t - 1, j) for j in near))
    return graph, [(run, steps - 1, i) for i in range(width)]


def measure(get, rate, width, budget_s):
    """METG in us, by shortening tasks until half of the machine is lost."""
    task_s = 0.032
    before = None
    while task_s > 1e-6:
        iterations = max(1, round(task_s * rate / CORES))
        steps = max(20, min(400, round(budget_s * CORES / width / task_s)))
        graph, keys = stencil(f"stencil-{width}-{iterations}", width, steps, iterations)
        begun = time.perf_counter()
        get(graph, keys)
        wall_s = time.perf_counter() - begun
        tasks = width * steps
        efficiency = iterations * tasks / wall_s / rate
        granularity_us = wall_s * CORES / tasks * 1e6
        if efficiency < 0.5:
            return interpolate(before, (efficiency, granularity_us))
        before = (efficiency, granularity_us)
        task_s /= 2
    return granularity_us


def interpolate(before, after):
    """Granularity at 50 %, between two measured points, on logarithmic axes."""
    if before is None or before[0] <= after[0]:
        return after[1]
    share = (before[0] - 0.5) / (before[0] - after[0])
    return math.exp(math.log(before[1]) * (1 - share) + math.log(after[1]) * share)


def run(get, quick):
    rate, budget_s = peak_rate(), 0.3 if quick else 1.0
    graph, keys = stencil("warm-up", CORES, 20, 1)
    get(graph, keys)
    return {
        "metg_us": measure(get, rate, CORES, budget_s),
        "metg_wide_us": measure(get, rate, 8 * CORES, budget_s),
    }


def client(client, quick):
    return run(client.get, quick)


def dask_threads(get, quick):
    return run(get, quick)
