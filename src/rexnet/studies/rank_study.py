"""Runs the rank study in its folder."""

from collections.abc import Iterator
from pathlib import Path

from rexnet.studies.random_layers import LAYERS
from rexnet.studies.rank import RATIOS, Processors, compute_points
from rexnet.studies.rank_assumptions import RankAssumptions
from rexnet.studies.rank_figure import draw_rank
from rexnet.studies.rank_sensitivity import COLUMNS, compare, compute_sensitivity
from rexnet.studies.study_folder import locked_study


def study_rank(
    folder: Path, assumptions: RankAssumptions, sensitivity: bool, workers: int, device: str
) -> Iterator[str]:
    """Writes the figure and the table of points, or the table of assumptions, and yields lines of comparison.

    Raises:
        ConfigError: there is no GPU, or the folder is in use, has a study with other assumptions, or is not writable.
    """
    processors = Processors(workers, device)
    with locked_study(folder, {"study": "rank", "sensitivity": sensitivity, **assumptions._asdict()}):
        if sensitivity:
            rows = compute_sensitivity(folder, assumptions, processors)
            yield from ("".join(f"{cell:45}" for cell in row).rstrip() for row in (COLUMNS, *rows))
        else:
            points = compute_points(folder / "points.csv", assumptions, RATIOS, processors)
            draw_rank(points, folder / "rank")
            yield from (f"{layer:12} distance from the paper: {compare(points, layer)}" for layer in LAYERS)
            yield f"Figure       {folder / 'rank.png'}"
