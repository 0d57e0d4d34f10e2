"""The paper's factor analysis (Table 2): effect of width ratios and activation on two inverted bottlenecks."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rexnet.errors import ConfigError
from rexnet.metrics.statistics import mean_and_deviation
from rexnet.models.plan import BlockPlan, NetworkPlan
from rexnet.models.rexnet import ActivationName
from rexnet.studies.brief_training import DataName, Recipe, load_images, train_briefly
from rexnet.studies.candidates import HEAD, count_plan
from rexnet.studies.study_folder import locked_study, read_table, write_table
from rexnet.system.device import Device
from rexnet.system.terminal import align, progress_bar

COLUMNS = ("factor", "seed", "macs", "top1", "nuclear_norm")


class Factor(NamedTuple):
    """A row of the table, which changes one factor of the row above, with the paper's results on CIFAR-100."""

    name: str
    expansion: int  # d_out / d_in of the first 1x1 convolution of a block
    ratio: float  # d_in / d_out of a block
    activation: ActivationName
    macs: float  # in millions
    top1: float
    nuclear_norm: float


FACTORS = (
    Factor("baseline", 20, 0.22, "relu6", 103, 48.0, 5997.5),
    Factor("1x1 ratio 1/20 -> 1/6", 6, 0.22, "relu6", 99, 52.1, 6655.9),
    Factor("block ratio 0.22 -> 0.8", 6, 0.8, "relu6", 105, 53.8, 6703.2),
    Factor("ReLU6 -> SiLU", 6, 0.8, "silu", 105, 54.6, 6895.9),
)


def plan_factor(factor: Factor, macs: float) -> NetworkPlan:
    """Returns the network of a row whose multiply-adds are nearest to `macs`.

    The paper states only the ratios. We infer that both blocks have stride 2 and that the width of the stem compensates
    for changed ratios: with a stem of 16 channels, the baseline has 99 million, close to the paper's 103.
    """
    plans = []
    for stem in range(2, 400):
        widths = [round(stem / factor.ratio**block) for block in range(3)]
        blocks = (BlockPlan(c, c * factor.expansion, 0, out, True, 2, 1) for c, out in itertools.pairwise(widths))
        plans.append(NetworkPlan("v1", stem, tuple(blocks), HEAD, 0, stem_stride=1))
    nearest = min(plans, key=lambda plan: abs(count_plan(plan).macs - macs))
    if not 0.7 < (found := count_plan(nearest).macs) / macs < 1.3:
        raise ConfigError(f"--macs {macs:,}: the nearest network of the {factor.name} has {found:,} multiply-adds")
    return nearest


def study_factors(
    folder: Path, data: DataName, root: Path, images: int | None, recipe: Recipe, macs: int, seeds: int, device: Device
) -> str:
    """Trains each row with each seed and returns a table of the results next to the paper's.

    Each result is kept in `factors.csv` and reused on resume. `data`, `root` and `images` are those of `load_images`.
    """
    assumptions = {"study": "factors", "data": data, "images": images, "macs": macs, "seeds": seeds}
    table = folder / "factors.csv"
    plans = {factor: plan_factor(factor, macs) for factor in FACTORS}
    with locked_study(folder, assumptions | recipe._asdict()):
        done = read_table(table, lambda *cells: cells)
        train, test, classes = load_images(data, root, images, device.torch_device)
        todo = list(itertools.product(range(seeds), FACTORS))[len(done) :]
        with progress_bar(len(todo), " trainings") as bar:
            for seed, factor in todo:
                plan, own = plans[factor], recipe._replace(activation=factor.activation)
                results = train_briefly(plan, own, train, test, classes, device, seed)
                numbers = count_plan(plan).macs / 1e6, *results
                done.append((factor.name, str(seed), *map("{:.2f}".format, numbers)))
                write_table(table, COLUMNS, done)
                bar.update()
    return _describe(done)


def _describe(trainings: Sequence[tuple[str, ...]]) -> str:
    rows = [["", "M MACs", "top-1", "std", "nuclear norm", "std", "paper: M MACs", "top-1", "nuclear norm"]]
    for factor in FACTORS:
        _, _, macs, *results = zip(*(each for each in trainings if each[0] == factor.name), strict=True)
        measured = [f"{number:.2f}" for values in results for number in mean_and_deviation([*map(float, values)])]
        rows.append([factor.name, macs[0], *measured, *map(str, factor[-3:])])
    return "\n".join(align(rows))
