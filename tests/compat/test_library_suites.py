"""joblib's own tests of its backend `dask`, on taskloom by ``taskloom.compat``."""

import re
import subprocess
import sys

import pytest

#: Tests that look into distributed's insides, and what they look at.
NOT_OURS = {
    "test_dask_funcname": "the scheduler's transition_log, by run_on_scheduler",
    "test_no_undesired_distributed_cache_hit": "Worker.state of distributed",
    "test_auto_scatter": "Worker.state of distributed",
    "test_scheduler_tasks_cleanup": "LocalCluster.scheduler.tasks",
    "test_joblib_warning_inside_dask_daemonic_worker": "workers here are no daemonic processes",
}


@pytest.mark.timeout(600)
def test_joblibs_suite_for_dask_passes(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "taskloom.testing.distributed"),
            *("-p", "no:cacheprovider", "-W", "default", "--timeout", "100"),
            *("-k", " and ".join(f"not {name}" for name in NOT_OURS)),
            *("--pyargs", "joblib.test.test_dask"),
        ],
        capture_output=True,
        text=True,
        timeout=580,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 25
