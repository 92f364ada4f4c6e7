"""One program, two engines, equal results."""

import pytest

from tests.compat import api_programs, programs

PROGRAMS = programs.PROGRAMS + api_programs.PROGRAMS


@pytest.fixture(scope="module")
def expected():
    """What dask.distributed gives for every program, each with a client of its own."""
    import dask
    import distributed

    results = {}
    # It drops copies that nobody needs, every other second: also those that a program counts.
    tidies = {"distributed.scheduler.active-memory-manager.start": False}
    with (
        dask.config.set(tidies),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        for program in PROGRAMS:
            with distributed.Client(cluster) as client:
                client.wait_for_workers(2)
                results[program.__name__] = program(distributed, client)
    return results


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_result_is_that_of_distributed(program, expected, cluster):
    import taskloom

    with taskloom.Client(cluster) as client:
        client.wait_for_workers(2, timeout=30)
        assert program(taskloom, client) == expected[program.__name__]
