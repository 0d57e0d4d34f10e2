"""The curves of a report."""

from rexnet.figures.svg_plots import Line, draw_lines
from rexnet.runs.run import Run

QUANTITIES = (
    ("Learning rate", "", "train/lr", 1, False),
    ("Gradient norm", "L2, before clipping", "train/grad_norm", 1, True),
    ("Speed", "images/s", "train/images_per_s", 1, False),
    ("Waiting for data", "% of the time", "train/data_wait_share", 100, False),
)
"""Heading, unit, tag, factor, and True for a logarithmic axis."""

Figure = tuple[str, str]
"""Heading and SVG."""


def draw_run(run: Run) -> list[Figure]:
    """Returns the curves of one run that have any point."""
    loss = [
        Line("training", run.curve("train/loss"), 0),
        Line("validation", run.column("val/loss"), 1),
        Line("EMA", run.column("val_ema/loss"), 2),
    ]
    top5 = run.column("val_ema/top5") or run.column("val/top5")
    accuracy = [
        Line("raw", run.column("val/top1"), 1),
        Line("EMA", run.column("val_ema/top1"), 2),
        Line("top-5", top5, 3, "dashed"),
    ]
    figures = [
        ("Loss", draw_lines("Loss", loss)),
        ("Validation accuracy", draw_lines("Validation accuracy", accuracy, "%")),
    ]
    return add_quantities(figures, run)


def add_quantities(figures: list[Figure], run: Run) -> list[Figure]:
    """Returns the figures, and those of quantities that all tasks log, that have any point."""
    for heading, unit, tag, factor, log in QUANTITIES:
        points = [(epoch, factor * value) for epoch, value in run.curve(tag)]
        figures.append((heading, draw_lines(heading, [Line(heading, points)], unit, log=log)))
    return [(heading, svg) for heading, svg in figures if svg]
