from pathlib import Path

from rexnet.report.curves import draw_run
from rexnet.runs.run import Run


def test_a_run_has_a_plot_of_each_quantity_that_it_logged(trained_run: Path) -> None:
    figures = dict(draw_run(Run(trained_run)))
    assert list(figures) == [
        "Loss",
        "Validation accuracy",
        "Learning rate",
        "Gradient norm",
        "Speed",
        "Waiting for data",
    ]
    assert "training: from" in figures["Loss"]
    assert "EMA: from" in figures["Loss"]
