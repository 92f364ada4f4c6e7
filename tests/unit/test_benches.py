"""The benchmark harness: cases are complete, numbers are judged as documented."""

import pytest

from benches import report, runner
from benches.case import Target, all_cases
from benches.systems import SHAPES, SYSTEMS

CASES = all_cases()


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_case_can_run_on_every_system_that_it_names(case):
    assert case.title
    assert case.metrics
    for system in case.systems:
        family = SYSTEMS[system].family
        assert hasattr(case.module, "alone") or hasattr(case.module, family)
    for target in case.targets:
        assert target.kind in ("must", "aim")
        assert target.shape in SHAPES
        assert not target.metric or target.metric in case.metrics
        assert not target.peer or case.runs(target.peer, target.shape)
        assert case.runs("taskloom", target.shape)


def result_of(ours, theirs):
    case = CASES["chain"]
    series = [
        {"case": "chain", "system": system, "shape": "2x1", "errors": [], "samples": samples}
        for system, samples in (
            ("taskloom", [{"us_per_task": value} for value in ours]),
            ("distributed", [{"us_per_task": value} for value in theirs]),
        )
    ]
    return case, {
        "machine": runner.machine(),
        "rounds": len(ours),
        "quick": False,
        "absent": ["ray"],
        "series": series,
    }


def test_ratios_are_taken_round_by_round():
    case, result = result_of(ours=[10, 30, 20], theirs=[1000, 1000, 4000])
    samples = report.by_series(result)
    found, met = report.verdict(samples, case, Target("must", 0.02, "distributed"))
    assert found == 0.01
    assert met
    assert report.verdict(samples, case, Target("must", 0.005, "distributed"))[1] is False
    assert report.verdict(samples, case, Target("aim", 12)) == (20, False)
    assert report.verdict(samples, case, Target("must", 1, "dask-threads")) == (None, None)


def test_losses_are_named():
    case, result = result_of(ours=[30], theirs=[10])
    table = report.markdown(result, {"chain": case})
    assert "3.00 times the value of distributed" in table
    assert "**no**" in table
    assert "Not installed here, hence no column: ray" in table


def test_the_table_replaces_only_the_generated_part():
    document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    new = report.replace_table(document, "new table")
    assert "old" not in new
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert report.replace_table(new, "new table") == new


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0123, "0.012"), (9.876, "9.88"), (123.4, "123"), (5e6, "5,000,000")],
)
def test_numbers_have_three_digits(value, shown):
    assert report.number(value) == shown


def test_a_sample_runs_in_a_process_of_its_own():
    metrics = runner.take_sample("cold_start", "process-pool", "2x1", quick=True)
    assert metrics["first_result_s"] > 0


def test_a_sample_that_fails_tells_its_last_words():
    with pytest.raises(RuntimeError, match="no_such_case"):
        runner.take_sample("no_such_case", "taskloom", "2x1", quick=True)
