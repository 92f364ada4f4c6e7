"""The network laboratory's plans: no namespace is made here."""

import json

from tests.netlab.checks import judge_ends
from tests.netlab.faults import KINDS
from tests.netlab.plan import Round, plan_round
from tests.netlab.work import plan_steps, right_values, run_step


def test_equal_seeds_plan_equal_rounds_and_every_kind_of_fault_occurs():
    rounds = [plan_round(7, number, KINDS) for number in range(100)]
    assert rounds == [plan_round(7, number, KINDS) for number in range(100)]
    assert rounds != [plan_round(8, number, KINDS) for number in range(100)]
    assert {fault.kind for planned in rounds for fault in planned.faults} == set(KINDS)


def test_a_round_is_repeated_from_its_record():
    planned = plan_round(7, 3, KINDS)
    assert Round.from_record(json.loads(json.dumps(planned.record()))) == planned


def test_faults_of_one_kind_on_one_host_do_not_overlap():
    for number in range(300):
        faults = plan_round(1, number, KINDS).faults
        assert len({(fault.kind, fault.target) for fault in faults}) == len(faults)


def test_the_right_values_are_what_the_steps_give():
    steps = plan_steps(5, count=40)
    results = []
    for step in steps:
        results.append(run_step(step.number, 0, step.ballast, *(results[i] for i in step.inputs)))
    assert [value for value, _ in results] == right_values(steps)
    assert any(step.inputs for step in steps)


def test_pending_and_wrong_futures_are_problems_and_errors_only_without_harm():
    assert judge_ends({"right": 5, "eaten": 1}, faults_harm_client=False) == []
    assert judge_ends({"right": 5, "FutureCancelledError": 2}, faults_harm_client=True) == []
    assert judge_ends({"right": 5, "FutureCancelledError": 2}, faults_harm_client=False)
    assert judge_ends({"pending": 1}, faults_harm_client=True)
    assert judge_ends({"wrong": 1}, faults_harm_client=True)
