"""Results of a channel search: tenths of the candidates, a table, and a figure like the paper's Figures 2 and 4."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from rexnet.errors import ConfigError
from rexnet.studies.candidates import SETTINGS
from rexnet.studies.channel_search import CANDIDATE, Candidate, SearchSettings
from rexnet.studies.study_figure import study_figure
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import align

COLORS = {"top": "#2b6cb0", "middle": "#718096", "bottom": "#c05621"}
COLUMNS = ("name", "widths", "params", "macs", "accuracy", "accuracies", "nuclear_norm", "seconds")
RESULTS = "search.json"
Top = tuple[list[float], list[float]]
"""Mean and standard deviation of the width of each block."""


class Tenth(NamedTuple):
    """A tenth of the candidates by accuracy: means and standard deviations over its networks."""

    networks: int
    accuracy: float
    accuracy_std: float
    params: float
    macs: float
    widths: list[float]
    widths_std: list[float]


def group_tenths(candidates: Sequence[Candidate]) -> dict[str, Tenth]:
    """Returns the top, middle and bottom tenth of candidates that are sorted by accuracy, without the references."""
    sampled = [each for each in candidates if each.name == CANDIDATE]
    size = max(1, round(len(sampled) / 10))
    starts = {"top": 0, "middle": (len(sampled) - size) // 2, "bottom": len(sampled) - size}
    return {name: _summarize(sampled[start : start + size]) for name, start in starts.items()}


def read_top(folder: Path) -> Top:
    """Reads the top tenth of a finished search.

    Raises:
        ConfigError: the folder has no results of a search.
    """
    try:
        top: dict[str, list[float]] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["tenths"]["top"]
        return top["widths"], top["widths_std"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder}: has no {RESULTS} of a finished search") from None


def write_search(
    folder: Path, settings: SearchSettings, candidates: Sequence[Candidate], tops: Mapping[str, Top]
) -> str:
    """Writes `candidates.csv`, `search.json` and the figure into a folder, and returns a table as text.

    Args:
        folder: Folder of the search.
        settings: Its settings.
        candidates: At least one that is not a reference; sorted by accuracy.
        tops: Top tenths of other searches, by name, which are drawn beside this one.

    Raises:
        ConfigError: a file cannot be written.
    """
    tenths = group_tenths(candidates)
    with (
        atomic_write(folder / "candidates.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows([COLUMNS, *map(_row, candidates)])
    content = {"settings": settings._asdict(), "tenths": {name: each._asdict() for name, each in tenths.items()}}
    with atomic_write(folder / RESULTS) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with study_figure(folder / "search", 10.5, 3.4) as figure:
        groups, tops, norms = figure.subplots(1, 3)
        _draw_tenths(groups, tenths, settings)
        _draw_tops(tops, {folder.name: (tenths["top"].widths, tenths["top"].widths_std), **tops})
        _draw_norms(norms, candidates)
    return "\n".join(_describe(settings, candidates, tenths))


def _summarize(candidates: Sequence[Candidate]) -> Tenth:
    accuracies, widths = [each.accuracy for each in candidates], np.array([each.widths for each in candidates])
    params, macs = np.mean([each.cost for each in candidates], axis=0)
    return Tenth(
        len(candidates),
        float(np.mean(accuracies)),
        float(np.std(accuracies)),
        float(params),
        float(macs),
        widths.mean(0).tolist(),
        widths.std(0).tolist(),
    )


def _row(each: Candidate) -> tuple[object, ...]:
    widths, accuracies = "-".join(map(str, each.widths)), " ".join(f"{value:.2f}" for value in each.accuracies)
    numbers = f"{each.accuracy:.3f}", accuracies, f"{each.nuclear_norm:.2f}", f"{each.seconds:.1f}"
    return each.name, widths, *each.cost, *numbers


def _draw_tenths(axes: Axes, tenths: dict[str, Tenth], settings: SearchSettings) -> None:
    """Draws the mean widths of each tenth with a band of one standard deviation (Figure 2)."""
    setting = SETTINGS[settings.setting]
    blocks = np.arange(1, setting.blocks + 1)
    for name, tenth in tenths.items():
        mean, std = np.array(tenth.widths), np.array(tenth.widths_std)
        axes.plot(blocks, mean, "o-", color=COLORS[name], label=f"{name} tenth, {tenth.accuracy:.1f} %")
        axes.fill_between(blocks, mean - std, mean + std, color=COLORS[name], alpha=0.15, linewidth=0)
    axes.plot(blocks, setting.best, "--", color=COLORS["top"], label="paper's best")
    axes.plot(blocks, setting.worst, "--", color=COLORS["bottom"], label="paper's worst")
    axes.set(title=f"Setting {settings.setting}: widths by accuracy", xlabel="block", ylabel="output channels")
    axes.legend()


def _draw_tops(axes: Axes, tops: Mapping[str, Top]) -> None:
    """Draws the top tenth of each search with the line that fits it best (Figure 4)."""
    for number, (name, (widths, std)) in enumerate(tops.items()):
        blocks = np.arange(1, len(widths) + 1)
        slope, offset = np.polyfit(blocks, widths, 1)
        axes.errorbar(blocks, widths, std, fmt="o", capsize=2, color=f"C{number}", label=name)
        axes.plot(blocks, slope * blocks + offset, color=f"C{number}", label=f"{slope:.1f} i {offset:+.1f}")
    axes.set(title="Top tenth and its line", xlabel="block", ylabel="output channels")
    axes.legend()


def _draw_norms(axes: Axes, candidates: Sequence[Candidate]) -> None:
    """Draws accuracy against the nuclear norm of the classifier's inputs."""
    norms, accuracies = zip(*((each.nuclear_norm, each.accuracy) for each in candidates), strict=True)
    axes.scatter(norms, accuracies, s=12, color=COLORS["top"])
    axes.set(title=f"Rank and accuracy, r = {np.corrcoef(norms, accuracies)[0, 1]:.2f}")
    axes.set(xlabel="nuclear norm of the final feature", ylabel="test accuracy (%)")


def _describe(settings: SearchSettings, candidates: Sequence[Candidate], tenths: dict[str, Tenth]) -> list[str]:
    """Returns a table of the best candidate, the references and the tenths, next to the paper's accuracies."""
    names = ("paper's best", "paper's worst", *(f"{name} tenth" for name in tenths))
    published = dict(zip(names, SETTINGS[settings.setting].published, strict=True))
    best = next(each for each in candidates if each.name == CANDIDATE)
    references = [each for each in candidates if each.name != CANDIDATE]
    rows = [("accuracy", "std", "paper", "params", "MFLOPs", "")]

    def add(name: str, accuracy: float, std: float, params: float, macs: float, widths: Iterable[float]) -> None:
        numbers = f"{accuracy:.2f}", f"{std:.2f}", str(published.get(name, "")), f"{params:,.0f}", f"{macs / 1e6:.1f}"
        rows.append((*numbers, f"{name}: {'-'.join(f'{width:.0f}' for width in widths)}"))

    for each in (best, *references):
        name = "best found" if each is best else each.name
        add(name, each.accuracy, float(np.std(each.accuracies)), *each.cost, each.widths)
    for name, tenth in tenths.items():
        add(f"{name} tenth", tenth.accuracy, tenth.accuracy_std, tenth.params, tenth.macs, tenth.widths)
    hours = sum(each.seconds for each in candidates) / 3600
    trainings = sum(len(each.accuracies) for each in candidates)
    rate = f"{trainings / hours:.0f} trainings an hour" if hours else ""
    return [*align(rows), f"{len(candidates)} networks, {trainings} trainings, {rate}"]
