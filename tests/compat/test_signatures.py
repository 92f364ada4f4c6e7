"""Every public name of distributed is offered with its parameters, or left out with a reason."""

import inspect

import pytest

import taskloom
from tests.compat import porting
from tests.compat.differences import COMING, NOT_OFFERED, OTHERWISE, PARAMETERS

ROWS = [row for _, rows in porting.rows() for row in rows]
NAMES = {row.name for row in ROWS}


def is_part_of_what_is_left_out(name: str) -> bool:
    return name.split(".")[0] in NOT_OFFERED or name.split(".")[0] in COMING or name in COMING


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_name(row):
    is_left_out = row.name in NOT_OFFERED or is_part_of_what_is_left_out(row.name)
    assert row.is_offered or is_left_out, f"{row.name} is missing, and no reason is written down"
    assert row.faults == []


def test_reasons_are_about_names_that_exist():
    outside = {
        "Client.extensions",
        "Client.recreate_error_locally",
        "Client.recreate_task_locally",
        "Client.register_worker_plugin",
        "Client.scheduler_comm",
    }  # fmt: skip - made when a client of distributed is made
    named = NOT_OFFERED.keys() | OTHERWISE.keys() | PARAMETERS.keys()
    instance_made = {name for name in named if name.startswith("as_completed.")}
    assert named - NAMES - outside - instance_made == set()


def test_the_document_names_everything():
    document = porting.in_document()
    missing = [row.name for row in ROWS if f"| `{row.name}` |" not in document]
    assert not missing, "run: python -m tests.compat.porting"


def test_public_methods_have_docstrings():
    undocumented = [
        row.name
        for row in ROWS
        if row.is_offered and "." in row.name and not inspect.getdoc(_member(row.name))
    ]
    assert undocumented == []


def _member(name):
    owner, _, member = name.partition(".")
    return getattr(getattr(taskloom, owner), member)
