"""Draws curves and bars as SVG for a web page: text stays text, and colors follow the theme of the page."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rexnet.metrics.statistics import ReliabilityBins

SIZE = (4.4, 2.7)  # inches; about the width of a phone, so that text keeps its size
MAX_POINTS = 400
SERIES = 6
INK, LINE = "#000001", "#000002"  # placeholders for colors of the page
COLORS = tuple(f"#0000f{number}" for number in range(SERIES))

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.labelsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "text.parse_math": False,
}


class Line(NamedTuple):
    """A curve."""

    label: str
    points: Sequence[tuple[float, float]]
    series: int = 0
    """Number of its color, 0 to 5."""
    style: str = "solid"
    """`solid` or `dashed`."""


def draw_lines(title: str, lines: Sequence[Line], unit: str = "", log: bool = False, over: str = "epoch") -> str:
    """Returns curves as SVG with a description for screen readers; empty if no line has a point."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    heading = f"{title} ({unit})" if unit else title
    parts = [_in_words(line, heading if line.label == title else line.label) for line in lines]
    description = "; ".join(parts) if len(lines) == 1 and lines[0].label == title else f"{heading}. {'; '.join(parts)}"
    with mpl.rc_context({**STYLE, "svg.hashsalt": description}):
        figure, axes = _begin()
        for line in lines:
            x, y = _thin(line.points)
            marker = "o" if len(x) <= 2 else None  # a line of one point is invisible
            color = COLORS[line.series % SERIES]
            axes.plot(x, y, linestyle=line.style, color=color, label=line.label, marker=marker, markersize=4)
        if log and min(value for line in lines for _, value in line.points) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=over, ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len({x for line in lines for x, _ in line.points}) == 1:
            axes.set_xticks([lines[0].points[0][0]])  # else a single epoch gets fractional ticks
        if len(lines) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=min(3, len(lines)), borderaxespad=0.1)
        return _write(figure, description)


def draw_reliability(bins: ReliabilityBins) -> str:
    """Returns accuracy by confidence as SVG with a description; the diagonal is perfect calibration."""
    number, filled = len(bins.images), bins.images > 0
    confidence, accuracy, images = (values[filled] for values in (bins.confidence, bins.accuracy, bins.images))
    words = "Reliability diagram. " + "; ".join(
        f"confidence {sure:.0f} %: accuracy {right:.0f} %, {n:,} images"
        for sure, right, n in zip(confidence, accuracy, images, strict=True)
    )
    with mpl.rc_context({**STYLE, "svg.hashsalt": words}):
        figure, axes = _begin()
        share, width = bins.images / bins.images.sum(), 1 / number
        axes.bar(width * np.arange(number), share, width, align="edge", color=LINE, label="share of images")
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, dashes=(4, 3))
        axes.plot(confidence / 100, accuracy / 100, "o-", color=COLORS[0], markersize=4, label="accuracy")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, borderaxespad=0.1)
        return _write(figure, words)


def _begin() -> tuple[Figure, Any]:
    figure = Figure(SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _write(figure: Figure, description: str) -> str:
    """Returns a figure as inline SVG, without prolog, metadata and unused ids."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"<style.*?</style>|font-family: [^;]+; |<g/>", "", svg)  # the page has its own fonts
    svg = re.sub(r"\s+", " ", svg)
    for number, color in enumerate(COLORS):
        svg = svg.replace(color, f"var(--series-{number})")
    svg = svg.replace(INK, "currentColor").replace(LINE, "var(--line)")
    view_box = re.search(r'viewBox="[^"]+"', svg)
    assert view_box is not None
    body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    body = f'<g aria-hidden="true">{body}</g>'  # else some screen readers read every tick
    return f'<svg class="plot" role="img" aria-label="{escape(description)}" {view_box[0]}>{body}</svg>'


def _thin(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns at most `MAX_POINTS` points, each the mean of equally many neighbors."""
    values = np.array(points, np.float64)
    if len(values) > MAX_POINTS:
        values = np.array([part.mean(axis=0) for part in np.array_split(values, MAX_POINTS)])
    return values[:, 0], values[:, 1]


def _in_words(line: Line, label: str) -> str:
    first, last = line.points[0][1], line.points[-1][1]
    return f"{label}: {first:.4g}" if len(line.points) == 1 else f"{label}: from {first:.4g} to {last:.4g}"
