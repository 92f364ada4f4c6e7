"""Documents stay true: links lead somewhere, programs in them run, no private path is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", without_code(document.read_text()))
    missing = [
        link
        for link in links
        if not re.match(r"[a-z]+:", link) and not (document.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_in_code_marks_exist(document):
    named = re.findall(
        r"`((?:crates|python|docs|tests|examples|benches)/[\w./-]+)`", document.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_first_program_of_the_readme_is_the_example_and_is_short():
    readme = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL).group(1)
    assert len(program.splitlines()) <= 20
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "285" in done.stdout


@pytest.mark.timeout(320)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))


@pytest.mark.parametrize("page", GUIDE, ids=lambda path: path.stem)
def test_programs_of_the_guide_are_pieces_of_examples(page):
    parts = re.findall(
        r"From \[(\S+)\]\(\S+\):\n\n```python\n(.*?)```", page.read_text(), re.DOTALL
    )
    for example, program in parts:
        # Indentation is that of the guide.
        lines = [line.strip() for line in program.strip().splitlines()]
        source = [line.strip() for line in (ROOT / example).read_text().splitlines()]
        places = range(len(source) - len(lines) + 1)
        assert any(source[at : at + len(lines)] == lines for at in places), (example, program)
    if parts:
        assert page.read_text().count("```python") == len(parts), "a program without example"


def test_every_command_of_the_makefile_is_in_its_help():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("build", "demo", "test", "test-dask", "bench", "lint", "docs", "simulate"):
        assert re.search(rf"^{command}:.*## ", makefile, flags=re.MULTILINE), command
