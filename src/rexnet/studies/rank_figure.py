"""Figure 1 of the paper: the values read off it, and our curves in the same layout."""

from pathlib import Path
from typing import Any

from rexnet.studies.random_layers import LAYERS, NONLINEARITIES
from rexnet.studies.rank import Point
from rexnet.studies.study_figure import study_figure

PUBLISHED_RATIOS = (0.1, 0.2, 0.5, 1.0)
READING_ERROR = 0.005
PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {  # rank ratios; Linear equals d_in / d_out
    "conv1x1": {
        "ReLU": (0.848, 0.90, 0.948, 0.966),
        "ReLU6": (0.856, 0.906, 0.948, 0.96),
        "LeakyReLU": (0.875, 0.93, 0.977, 0.99),
        "ELU": (0.915, 0.963, 0.988, 1),
        "Softplus": (0.934, 0.975, 0.99, 1),
        "Hardswish": (0.948, 0.983, 0.995, 1),
        "SiLU": (0.958, 0.985, 0.99, 1),
    },
    "conv3x3": {"ReLU": (0.865, 0.915, 0.955, 0.967), "SiLU": (0.963, 0.983, 0.99, 1)},
    "ib_conv": {"ReLU": (0.30, 0.57, 0.91, 1), "SiLU": (0.38, 0.68, 0.955, 1)},
    "ib_dw": {"ReLU": (0.19, 0.36, 0.68, 1), "SiLU": (0.26, 0.44, 0.76, 1)},
}
TITLES = ("1x1 convolution", "3x3 convolution", "inverted bottleneck, 3x3", "inverted bottleneck, depthwise 3x3")
COLORS = ("#888888", "#d62728", "#ff7f0e", "#bcbd22", "#2ca02c", "#17becf", "#1f77b4", "#7b3294")  # by nonlinearity


def draw_rank(points: list[Point], path: Path) -> None:
    """Draws one panel per layer and one curve per nonlinearity; circles are the published values."""
    with study_figure(path, 12, 3.5) as figure:
        for axes, layer, title in zip(figure.subplots(1, 4, sharey=True), LAYERS, TITLES, strict=True):
            _draw_panel(axes, layer, [point for point in points if point.layer == layer])
            axes.set(title=title, xlabel="d_in / d_out", xlim=(0.06, 1.04), ylim=(0, 1.04))
        figure.axes[0].set_ylabel("rank / d_out")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=9)


def _draw_panel(axes: Any, layer: str, points: list[Point]) -> None:
    for name, color in zip(NONLINEARITIES, COLORS, strict=True):
        ratios, means, lows, highs = zip(
            *((p.ratio, p.mean, p.low, p.high) for p in points if p.nonlinearity == name), strict=True
        )
        axes.plot(ratios, means, color=color, label=name)
        axes.fill_between(ratios, lows, highs, color=color, alpha=0.2)
        if name in PUBLISHED[layer]:
            axes.plot(PUBLISHED_RATIOS, PUBLISHED[layer][name], "o", markerfacecolor="white", color=color, zorder=3)
    axes.plot([], [], "o", markerfacecolor="white", color="black", label="paper")
