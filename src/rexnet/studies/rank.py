"""The rank study (Figure 1 of the paper): rank of random layers by width ratio and nonlinearity."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rexnet.studies.random_layers import LAYERS, NONLINEARITIES, compute_outputs, draw_layers
from rexnet.studies.rank_assumptions import RankAssumptions
from rexnet.studies.singular_values import RESOLUTION, gram_singular_values
from rexnet.studies.study_folder import read_table, write_table
from rexnet.system.device import keep_freed_memory
from rexnet.system.terminal import progress_bar

RATIOS = tuple(tenth / 10 for tenth in range(1, 11))
FLOAT32_EPS = float(np.finfo(np.float32).eps)
BATCH = 8  # networks of the same width that are computed together


class Point(NamedTuple):
    """Mean rank ratio of random networks, with its 95 % interval."""

    layer: str
    ratio: float
    """d_in / d_out."""
    nonlinearity: str
    mean: float
    low: float
    high: float
    networks: int


def count_rank(outputs: Tensor, tolerance: float | None = None) -> Tensor:
    """Returns the numerical ranks (networks,) of outputs (networks, d_out, N) in float64, as `matrix_rank` does.

    Singular values above `tolerance` times the largest count. They are the square roots of the eigenvalues of the Gram
    matrix, which takes a fraction of the time of the SVD. The SVD is used for tolerances too small for this method.
    """
    relative = max(outputs.shape[-2:]) * FLOAT32_EPS if tolerance is None else tolerance
    if relative < 10 * RESOLUTION:
        values: Tensor = torch.linalg.svdvals(outputs)
    else:
        values = gram_singular_values(outputs @ outputs.mT)
    return torch.count_nonzero(values > relative * values[:, :1], dim=1)


def compute_points(
    path: Path, assumptions: RankAssumptions, ratios: Sequence[float], workers: int, device: torch.device
) -> list[Point]:
    """Computes the points of all layers at the given ratios d_in / d_out, in `workers` threads.

    Each point is written to the table at `path` as soon as it is finished, and reused on resume.
    """
    points = read_table(path, _parse_point)
    finished = {(point.layer, point.ratio) for point in points}
    missing = [place for place in product(LAYERS, ratios) if place not in finished]
    networks = assumptions.draws * len(NONLINEARITIES)
    done, total = len(finished) * networks, (len(finished) + len(missing)) * networks
    torch.set_num_threads(1)  # of each worker
    keep_freed_memory()
    with (
        ThreadPoolExecutor(workers) as pool,
        progress_bar(total, " networks", initial=done, unit_scale=True, desc=path.stem, leave=False) as bar,
    ):
        for layer, ratio in missing:
            points += _compute_point(layer, ratio, assumptions, pool, device)
            write_table(path, Point._fields, points)
            bar.update(networks)
    return points


def _parse_point(layer: str, ratio: str, nonlinearity: str, mean: str, low: str, high: str, networks: str) -> Point:
    return Point(layer, float(ratio), nonlinearity, float(mean), float(low), float(high), int(networks))


def _compute_point(
    layer: str, ratio: float, assumptions: RankAssumptions, pool: ThreadPoolExecutor, device: torch.device
) -> list[Point]:
    """Computes a point for each nonlinearity; all share the same inputs and weights."""
    by_width: dict[int, list[np.random.Generator]] = defaultdict(list)
    for draw in range(assumptions.draws):
        rng = np.random.default_rng([assumptions.seed, LAYERS.index(layer), round(100 * ratio), draw])
        by_width[int(rng.integers(*assumptions.widths, endpoint=True))].append(rng)

    def rank_ratios(batch: tuple[int, list[np.random.Generator]]) -> Tensor:
        """Returns rank ratios (nonlinearities, networks)."""
        d_out, rngs = batch
        drawn = draw_layers(layer, max(1, round(ratio * d_out)), d_out, rngs, assumptions)
        tensors = [tensor.to(device) for tensor in drawn]
        outputs = (compute_outputs(tensors, each, assumptions) for each in NONLINEARITIES.values())
        return torch.stack([count_rank(each, assumptions.tolerance) for each in outputs]).cpu().double() / d_out

    widest_first = sorted(by_width.items(), reverse=True)
    batches = [(d_out, rngs[i : i + BATCH]) for d_out, rngs in widest_first for i in range(0, len(rngs), BATCH)]
    ratios = torch.cat(list(pool.map(rank_ratios, batches)), dim=1)
    half = 1.96 / sqrt(assumptions.draws) * ratios.std(1, correction=0)
    bounds = torch.stack([ratios.mean(1), ratios.mean(1) - half, ratios.mean(1) + half], 1).tolist()
    return [
        Point(layer, ratio, name, mean, low, high, assumptions.draws)
        for name, (mean, low, high) in zip(NONLINEARITIES, bounds, strict=True)
    ]
