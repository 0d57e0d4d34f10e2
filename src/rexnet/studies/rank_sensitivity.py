"""Compares the rank study with the paper's figure, under the default assumptions and changed ones."""

from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import torch

from rexnet.studies.random_layers import LAYERS
from rexnet.studies.rank import Point, compute_points
from rexnet.studies.rank_assumptions import Inputs, Norm, RankAssumptions, Weights
from rexnet.studies.rank_figure import PUBLISHED, PUBLISHED_RATIOS, READING_ERROR
from rexnet.studies.study_folder import write_table

COLUMNS = ("assumptions", *LAYERS)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    *({"inputs": x, "weights": w, "norm": norm} for x, w, norm in product(*map(get_args, (Inputs, Weights, Norm)))),
    *({"samples": samples} for samples in (1, 4, 10)),
    *({"widths": widths} for widths in ((10, 50), (50, 200))),
    *({"expansion": expansion} for expansion in (1, 2, 3, 6)),
    *({"spatial": spatial} for spatial in (1, 3)),
    *({"tolerance": tolerance} for tolerance in (1e-7, 1e-4, 1e-3, 1e-2)),
)


def compute_sensitivity(
    folder: Path, base: RankAssumptions, workers: int, device: torch.device
) -> Iterator[tuple[str, ...]]:
    """Yields a row of `COLUMNS` for the given assumptions and for each change of them, and writes `sensitivity.csv`.

    The points of each change are kept in a separate table.
    """
    rows = []
    for change in CHANGES:
        changed = base._replace(**change)
        if changed != base or not change:
            name = " ".join(f"{key}={value}" for key, value in change.items()) or "as given"
            points = compute_points(folder / "points" / f"{name}.csv", changed, PUBLISHED_RATIOS, workers, device)
            rows.append((name, *(compare(points, layer) for layer in LAYERS)))
            write_table(folder / "sensitivity.csv", COLUMNS, rows)
            yield rows[-1]


def compare(points: list[Point], layer: str) -> str:
    """Returns the mean distance from the published values of a layer, and how far the order of nonlinearities agrees.

    The order is compared for all pairs, at ratios below 1, whose published values differ by more than the reading error
    allows. A pair is tied if our values differ by less than the reading error.
    """
    ours = {(point.nonlinearity, point.ratio): point.mean for point in points if point.layer == layer}
    published = {
        (name, ratio): value
        for name, values in {"Linear": PUBLISHED_RATIOS, **PUBLISHED[layer]}.items()
        for ratio, value in zip(PUBLISHED_RATIOS, values, strict=True)
    }
    distances = [abs(ours[place] - value) for place, value in published.items() if place[0] != "Linear"]
    pairs = [
        sorted(pair, key=published.__getitem__) for pair in combinations(published, 2) if pair[0][1] == pair[1][1] < 1
    ]
    told_apart = [(low, high) for low, high in pairs if published[high] - published[low] > 2 * READING_ERROR]
    gains = [ours[high] - ours[low] for low, high in told_apart]
    kept, turned = (sum(sign * gain > READING_ERROR for gain in gains) for sign in (1, -1))
    order = "order holds" if kept == len(gains) else f"{kept} of {len(gains)} pairs hold, {turned} are reversed"
    return f"{sum(distances) / len(distances):.3f} ({order})"
