"""The curves of a report, for one run or several."""

from collections.abc import Sequence

from rexnet.figures.svg_plots import SERIES, Line, draw_lines
from rexnet.runs.run import Points, Run

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
        figures.append((heading, draw_lines(heading, [Line(heading, _scaled(run.curve(tag), factor))], unit, log=log)))
    return [(heading, svg) for heading, svg in figures if svg]


def draw_comparison(runs: Sequence[Run]) -> list[Figure]:
    """Returns the same curves with a line for each run."""
    figures = []
    for heading, unit, tags, factor, log in (
        ("Validation top-1", "%", ("val_ema/top1", "val/top1"), 1, False),
        ("Validation loss", "", ("val_ema/loss", "val/loss"), 1, False),
        ("Training loss", "", ("train/loss",), 1, False),
        *((heading, unit, (tag,), factor, log) for heading, unit, tag, factor, log in QUANTITIES),
    ):
        lines = []
        for number, run in enumerate(runs):
            points = next(filter(None, map(run.column, tags)), run.curve(tags[0]))
            lines.append(Line(run.name, _scaled(points, factor), number, line_style(number)))
        figures.append((heading, draw_lines(heading, lines, unit, log=log, legend=False)))  # the page has one legend
    return [(heading, svg) for heading, svg in figures if svg]


def line_style(number: int) -> str:
    """Returns the style of a run's line: solid, then dashed and dotted once all colors are in use."""
    return ("solid", "dashed", "dotted")[number // SERIES % 3]


def _scaled(points: Points, factor: float) -> Points:
    return [(x, factor * y) for x, y in points]
