"""Figures of the studies, in a common style, as PNG and SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from rexnet.system.atomic_files import atomic_write

DPI = 110
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rexnet",  # without it, the file differs each time
}


@contextmanager
def study_figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yields a figure of the given size in inches, and writes it as .png and .svg; raises ConfigError if it cannot."""
    with mpl.rc_context(STYLE):
        figure = Figure((width, height), layout="constrained")
        yield figure
        for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
            with atomic_write(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, dpi=DPI, metadata=metadata)
