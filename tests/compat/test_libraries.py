"""Libraries that import ``distributed`` themselves: the same programs with it and with taskloom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = Path(__file__).parent / "libraries"
ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.stem for path in LIBRARIES.glob("[a-z]*.py"))


def facts(engine: str, program: str, directory: Path) -> list[str]:
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.compat.run_library", engine, program, str(directory)],
        capture_output=True,
        text=True,
        timeout=290,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "facts.json").read_text())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_library_does_the_same_as_with_distributed(program, tmp_path):
    expected = facts("distributed", program, tmp_path / "distributed")
    assert expected
    assert facts("taskloom", program, tmp_path / "taskloom") == expected
