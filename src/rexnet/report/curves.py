"""Which curves a page has, for one run and for several side by side."""

from collections.abc import Sequence

from rexnet.figures.svg_plots import SERIES, Line, draw_lines
from rexnet.report.record import Points, RunRecord

Figure = tuple[str, str]
"""Heading and SVG."""


def draw_run(record: RunRecord) -> list[Figure]:
    """The curves of one run; those without a point are left out."""
    loss = [
        Line("training", record.by_epoch("train/loss") or record.column("train/loss"), 0),
        Line("validation", record.column("val/loss"), 1),
        Line("averaged", record.column("val_ema/loss"), 2),
    ]
    top1 = [Line("raw", record.column("val/top1"), 1), Line("averaged", record.column("val_ema/top1"), 2)]
    top1 += [Line("top-5", record.column("val_ema/top5") or record.column("val/top5"), 3, "dashed")]
    figures = [
        ("Loss", draw_lines("Loss", loss)),
        ("Validation accuracy", draw_lines("Validation accuracy", top1, "%")),
    ]
    for heading, unit, tag, scale, log in QUANTITIES:
        line = Line(heading, _scaled(record.by_epoch(tag) or record.column(tag), scale), 0)
        figures.append((heading, draw_lines(heading, [line], unit, log=log)))
    return [(heading, svg) for heading, svg in figures if svg]


QUANTITIES = (
    ("Learning rate", "", "train/lr", 1, False),
    ("Gradient norm", "L2, before clipping", "train/grad_norm", 1, True),
    ("Speed", "images/s", "train/images_per_s", 1, False),
    ("Waiting for data", "% of the time", "train/data_wait_share", 100, False),
)
"""Heading, unit, tag, factor, and whether the axis is logarithmic."""


def draw_comparison(records: Sequence[RunRecord]) -> list[Figure]:
    """The same curves with a line for each run."""

    def lines(*tags: str, scale: float = 1) -> list[Line]:
        found = []
        for number, record in enumerate(records):
            points = next((points for tag in tags if (points := record.column(tag))), None)
            found.append(
                Line(record.name, _scaled(points or record.by_epoch(tags[0]), scale), number, style_of(number))
            )
        return found

    def draw(heading: str, lines: list[Line], unit: str = "", log: bool = False) -> str:
        return draw_lines(heading, lines, unit, log=log, legend=False)  # the names are long, the page has a key

    figures = [
        ("Validation top-1", draw("Validation top-1", lines("val_ema/top1", "val/top1"), "%")),
        ("Validation loss", draw("Validation loss", lines("val_ema/loss", "val/loss"))),
        ("Training loss", draw("Training loss", lines("train/loss"))),
    ]
    for heading, unit, tag, scale, log in QUANTITIES:
        figures.append((heading, draw(heading, lines(tag, scale=scale), unit, log)))
    return [(heading, svg) for heading, svg in figures if svg]


def style_of(number: int) -> str:
    """How the line of a run is drawn: solid, once all colours are in use dashed, then dotted."""
    return ("solid", "dashed", "dotted")[number // SERIES % 3]


def _scaled(points: Points, factor: float) -> Points:
    return [(x, factor * y) for x, y in points]
