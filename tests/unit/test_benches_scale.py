"""The report on thousands of workers, from samples that are made up."""

from benches import scale

COST = {"flat_cpu_us": 2.0, "pairs_cpu_us": 3.0, "paced_cpu_us": 4.0}
SAMPLES = [
    {"case": "idle", "workers": 5000, "cpu_percent": 30.0, "kb_per_worker": 50.0},
    {"case": "cost", "workers": 10, **COST},
    {"case": "cost", "workers": 5000, **{name: 1.5 * us for name, us in COST.items()}},
]


def test_bounds_are_judged_and_what_was_not_measured_is_left_out():
    lines = scale.markdown([{"lost_workers": 0.0, "join_s": 1.0, **s} for s in SAMPLES])
    assert "| idle, heartbeats every 2 s: % of a core | 25 | 15 | 30.0 | **no** |" in lines
    assert "| processor time per task, 5,000 workers over 10 | 2 | 1.2 | 1.50 | yes |" in lines
    assert "die at once" not in lines


def test_the_plot_has_a_line_for_each_way_of_asking_and_a_place_for_each_number_of_workers():
    plot = scale.svg(SAMPLES)
    assert plot.count("<polyline") == len(scale.LINES)
    assert ">5,000<" in plot
    assert plot.endswith("</svg>\n")
