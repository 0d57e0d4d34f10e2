from pathlib import Path

from rexnet.report.curves import draw_comparison, draw_run, line_style
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


def test_compared_runs_share_their_plots(trained_run: Path) -> None:
    figures = dict(draw_comparison([Run(trained_run), Run(trained_run)]))
    assert list(figures)[:3] == ["Validation top-1", "Validation loss", "Training loss"]
    assert figures["Validation top-1"].count(f"{trained_run.name}: from") == 2
    assert [line_style(number) for number in (0, 5, 6, 12, 18)] == ["solid", "solid", "dashed", "dotted", "solid"]
