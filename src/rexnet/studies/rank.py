"""The rank study, Figure 1 of the paper: rank of random layers by width ratio and nonlinearity."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.errors import ConfigError
from rexnet.studies.random_layers import LAYERS, NONLINEARITIES, LayerAssumptions, LayerName, RandomLayers
from rexnet.studies.study_folder import open_study
from rexnet.system.atomic_files import atomic_write
from rexnet.system.terminal import progress_bar

RATIOS = tuple(tenth / 10 for tenth in range(1, 11))
POINTS_FILE = "points.csv"
FLOAT32_EPS = float(np.finfo(np.float32).eps)
GRAM_TOLERANCE = 1e-6  # eigenvalues in float64 are exact to 1e-14 of the largest, so singular values to 1e-7


class RankAssumptions(NamedTuple):
    """All that the numbers of the study depend on."""

    seed: int = 0
    draws: int = 1000
    """Random networks per point."""
    widths: tuple[int, int] = (10, 200)
    """Least and greatest d_out, which is uniform between them."""
    tolerance: float | None = None
    """Least singular value that counts, relative to the largest (default: max(d_out, N) times the eps of float32)."""
    layers: LayerAssumptions = LayerAssumptions()


class Point(NamedTuple):
    """Mean rank ratio of the random networks of one layer, nonlinearity and width ratio."""

    layer: str
    nonlinearity: str
    ratio: float
    """d_in / d_out."""
    mean: float
    low: float
    """Lower end of the 95 % interval of the mean."""
    high: float
    networks: int


def count_rank(outputs: Tensor, tolerance: float | None = None) -> Tensor:
    """Returns the numerical ranks (networks,) of outputs (networks, d_out, N) in float64, as `matrix_rank` does.

    Singular values are the roots of the eigenvalues of the Gram matrix, which is several times as fast as the SVD. For
    tolerances below `GRAM_TOLERANCE` that is too inexact, and the SVD is used.
    """
    relative = max(outputs.shape[-2:]) * FLOAT32_EPS if tolerance is None else tolerance
    if relative < GRAM_TOLERANCE:
        values = torch.linalg.svdvals(outputs)
    else:
        values = torch.linalg.eigvalsh(outputs @ outputs.mT).clamp(min=0).sqrt()
    counts: Tensor = (values > relative * values.amax(-1, keepdim=True)).sum(-1)
    return counts


def study_rank(folder: Path, assumptions: RankAssumptions, workers: int, device: torch.device) -> list[Point]:
    """Computes all points, keeps each in `points.csv` as soon as it is finished, and draws the figure.

    Raises:
        ConfigError: the folder is in use, has a study with other assumptions, or cannot be written to.
    """
    with open_study(folder, "rank", {**assumptions._asdict(), "layers": assumptions.layers._asdict()}):
        return compute_points(folder / POINTS_FILE, assumptions, workers, device)


def compute_points(path: Path, assumptions: RankAssumptions, workers: int, device: torch.device) -> list[Point]:
    """Computes the points that a table lacks and adds them."""
    points = _read(path)
    finished = {(point.layer, point.ratio) for point in points}
    torch.set_num_threads(1)  # the workers are threads
    total = len(LAYERS) * len(RATIOS) * assumptions.draws * len(NONLINEARITIES)
    with ThreadPoolExecutor(workers) as pool, progress_bar(total, " networks", unit_scale=True) as bar:
        for layer in LAYERS:
            for ratio in RATIOS:
                if (layer, ratio) not in finished:
                    points += _compute(layer, ratio, assumptions, pool, device)
                    _write(path, points)
                bar.update(assumptions.draws * len(NONLINEARITIES))
    return points


def _compute(
    layer: LayerName, ratio: float, assumptions: RankAssumptions, pool: ThreadPoolExecutor, device: torch.device
) -> Iterator[Point]:
    """Yields the points of all nonlinearities, which share weights and inputs."""
    place = LAYERS.index(layer), round(100 * ratio)
    widths = defaultdict(list)
    for draw in range(assumptions.draws):
        rng = np.random.default_rng([assumptions.seed, *place, draw])
        widths[int(rng.integers(assumptions.widths[0], assumptions.widths[1] + 1))].append(rng)

    def compute(width: int) -> np.ndarray:
        """Returns rank ratios (nonlinearities, networks)."""
        d_in = max(1, round(ratio * width))
        layers = RandomLayers(layer, d_in, width, widths[width], assumptions.layers, device)
        ranks = [count_rank(layers.outputs(each), assumptions.tolerance) for each in NONLINEARITIES.values()]
        return torch.stack(ranks).cpu().numpy() / width

    ratios = np.concatenate(list(pool.map(compute, sorted(widths, reverse=True))), axis=1)
    for name, values in zip(NONLINEARITIES, ratios, strict=True):
        mean, half = float(values.mean()), 1.96 * float(values.std()) / sqrt(len(values))
        yield Point(layer, name, ratio, mean, mean - half, mean + half, len(values))


def _read(path: Path) -> list[Point]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        return [Point(a, b, float(c), float(d), float(e), float(f), int(g)) for a, b, c, d, e, f, g in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        raise ConfigError(f"{path}: is not readable as a table of points; choose another folder") from None


def _write(path: Path, points: list[Point]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Point._fields, *points])
