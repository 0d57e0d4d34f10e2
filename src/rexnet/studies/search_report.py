"""Results of a channel search: tenths of the candidates, tables, and a figure like the paper's Figures 2 and 4."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from rexnet.studies.candidates import Setting
from rexnet.studies.channel_search import CANDIDATE, Trained
from rexnet.studies.study_figure import study_figure
from rexnet.studies.study_folder import write_table
from rexnet.system.atomic_files import write_json
from rexnet.system.terminal import align

COLORS = {"top tenth": "#2b6cb0", "middle tenth": "#718096", "bottom tenth": "#c05621"}
COLUMNS = ("name", "widths", "params", "macs", "accuracy", "accuracies", "nuclear_norm", "seconds")


class Group(NamedTuple):
    """Means and standard deviations over networks; for a single network, `accuracy_std` is over its repeats."""

    accuracy: float
    accuracy_std: float
    params: float
    macs: float
    widths: list[float]
    widths_std: list[float]


def group_networks(networks: Sequence[Trained]) -> dict[str, Group]:
    """Returns the best candidate, each reference, and the top, middle and bottom tenth of the candidates.

    Args:
        networks: References and at least one candidate, sorted by descending accuracy.
    """
    candidates = [each for each in networks if each.name == CANDIDATE]
    size = max(1, round(len(candidates) / 10))
    starts = (0, (len(candidates) - size) // 2, len(candidates) - size)
    tenths = {name: candidates[start : start + size] for name, start in zip(COLORS, starts, strict=True)}
    singles = {each.name: [each] for each in networks if each.name != CANDIDATE}
    groups = {"best found": candidates[:1], **singles, **tenths}
    return {name: _summarize(group) for name, group in groups.items()}


def write_search(folder: Path, settings: Mapping[str, object], setting: Setting, networks: Sequence[Trained]) -> str:
    """Writes `candidates.csv`, `search.json` and the figure, and returns a table as text.

    Raises:
        ConfigError: a file cannot be written.
    """
    groups = group_networks(networks)
    trainings, hours = sum(len(each.accuracies) for each in networks), sum(each.seconds for each in networks) / 3600
    write_table(folder / "candidates.csv", COLUMNS, map(_row, networks))
    content = {"settings": settings, "networks": len(networks), "trainings": trainings, "hours": round(hours, 3)}
    write_json(folder / "search.json", content | {name: group._asdict() for name, group in groups.items()})
    with study_figure(folder / "search", 9, 3.6) as figure:
        left, right = figure.subplots(1, 2)
        _draw_widths(left, groups, setting)
        _draw_norms(right, networks)
    lines = align([("accuracy", "std", "params", "MFLOPs", ""), *(_cells(*each) for each in groups.items())])
    return "\n".join([*lines, f"{len(networks)} networks, {trainings} trainings in {hours:.2f} hours"])


def _summarize(group: Sequence[Trained]) -> Group:
    accuracies = [each.accuracy for each in group] if len(group) > 1 else group[0].accuracies
    params, macs = np.mean([each.cost for each in group], axis=0).tolist()
    widths = np.array([each.widths for each in group])
    std, widths_std = (np.std(values, axis=0, ddof=min(1, len(values) - 1)) for values in (accuracies, widths))
    return Group(float(np.mean(accuracies)), float(std), params, macs, widths.mean(0).tolist(), widths_std.tolist())


def _row(each: Trained) -> tuple[object, ...]:
    accuracies = " ".join(f"{accuracy:.2f}" for accuracy in each.accuracies)
    numbers = f"{each.accuracy:.2f}", accuracies, f"{each.nuclear_norm:.2f}", f"{each.seconds:.1f}"
    return each.name, "-".join(map(str, each.widths)), *each.cost, *numbers


def _cells(name: str, group: Group) -> tuple[str, ...]:
    numbers = f"{group.accuracy:.2f}", f"{group.accuracy_std:.2f}", f"{group.params:,.0f}", f"{group.macs / 1e6:.1f}"
    return *numbers, f"{name}: {'-'.join(f'{width:.0f}' for width in group.widths)}"


def _draw_widths(axes: Axes, groups: Mapping[str, Group], setting: Setting) -> None:
    """Draws mean and standard deviation of the widths of each tenth, and a line fitted to the top tenth."""
    blocks = np.arange(1, len(setting.best) + 1)
    for name, color in COLORS.items():
        mean, std = np.array(groups[name].widths), np.array(groups[name].widths_std)
        axes.plot(blocks, mean, "o-", color=color, label=f"{name}, {groups[name].accuracy:.1f} %")
        axes.fill_between(blocks, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
    slope, offset = np.polyfit(blocks, groups["top tenth"].widths, 1)
    axes.plot(blocks, slope * blocks + offset, ":", color="#1a202c", label=f"line: {slope:.1f} i {offset:+.1f}")
    axes.plot(blocks, setting.best, "--", color=COLORS["top tenth"], label="paper's best")
    axes.plot(blocks, setting.worst, "--", color=COLORS["bottom tenth"], label="paper's worst")
    axes.set(title="Widths by accuracy", xlabel="block", ylabel="output channels", xticks=blocks)
    axes.legend()


def _draw_norms(axes: Axes, networks: Sequence[Trained]) -> None:
    """Draws accuracy against the nuclear norm of the classifier's inputs, with their correlation."""
    norms, accuracies = [each.nuclear_norm for each in networks], [each.accuracy for each in networks]
    varies = np.ptp(norms) > 0 and np.ptp(accuracies) > 0
    correlation = f", r = {np.corrcoef(norms, accuracies)[0, 1]:.2f}" if varies else ""
    axes.scatter(norms, accuracies, s=12, color=COLORS["top tenth"])
    axes.set(title=f"Rank and accuracy{correlation}", xlabel="nuclear norm of the final feature")
    axes.set_ylabel("test accuracy (%)")
