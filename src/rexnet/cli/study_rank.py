"""`rexnet study rank`."""

import argparse
from itertools import chain
from pathlib import Path
from typing import get_args

from rexnet.cli.arguments import Commands, as_path, count, positive
from rexnet.errors import ConfigError


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    from rexnet.studies.rank_assumptions import Inputs, Norm, RankAssumptions, Weights

    default = RankAssumptions()
    parser = studies.add_parser(
        "rank",
        help="rank of random layers by width ratio and nonlinearity (Figure 1)",
        description="Compute the rank of the outputs of random layers, and plot it next to the paper's values. The "
        "same command resumes an interrupted study.",
        epilog="example: rexnet study rank --out studies/rank --workers 2",
    )
    out, shown = Path("studies/rank"), "(default: %(default)s)"
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=out, help=f"output {shown}")
    parser.add_argument("--sensitivity", action="store_true", help="compare many assumptions, with fewer networks")
    parser.add_argument("--workers", metavar="N", type=positive, default=1, help=f"threads {shown}")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help=shown)
    group = parser.add_argument_group("assumptions", "explained in docs/paper.md")
    group.add_argument("--seed", metavar="N", type=count, default=default.seed, help=f"random seed {shown}")
    group.add_argument("--draws", metavar="N", type=positive, help="networks per point (1000; 20 for --sensitivity)")
    widths = "range of d_out (default: 10 200)"
    group.add_argument("--widths", metavar="N", type=positive, nargs=2, default=default.widths, help=widths)
    numbers = {"samples": "N / d_out", "expansion": "hidden channels / d_in of bottlenecks", "spatial": "map side"}
    for name, text in numbers.items():
        value = getattr(default, name)
        group.add_argument(f"--{name}", metavar="N", type=positive, default=value, help=f"{text} {shown}")
    inputs, weights = ("inputs", Inputs, "random inputs X"), ("weights", Weights, "random weights W")
    for name, words, text in (inputs, weights, ("norm", Norm, "place of BatchNorm")):
        value = getattr(default, name)
        group.add_argument(f"--{name}", choices=get_args(words), default=value, help=f"{text} {shown}")
    tolerance = "smallest singular value that counts / largest (default: as matrix_rank in float32)"
    group.add_argument("--tolerance", metavar="T", type=float, help=tolerance)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Computes the study and prints its comparison with the paper."""
    from rexnet.studies.rank_assumptions import RankAssumptions

    options.draws = options.draws or (20 if options.sensitivity else RankAssumptions().draws)
    options.widths = (low, high) = tuple(options.widths)
    if low > high:
        raise ConfigError(f"--widths {low} {high}: the smallest width comes first")
    if options.tolerance is not None and not 0 < options.tolerance < 1:
        raise ConfigError(f"--tolerance {options.tolerance}: should be between 0 and 1")
    assumptions = RankAssumptions(*(getattr(options, name) for name in RankAssumptions._fields))
    import torch

    from rexnet.studies.random_layers import LAYERS
    from rexnet.studies.rank import RATIOS, compute_points
    from rexnet.studies.rank_figure import draw_rank
    from rexnet.studies.rank_sensitivity import COLUMNS, compare, compute_sensitivity
    from rexnet.studies.study_folder import locked_study

    if options.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("--device gpu: PyTorch finds no CUDA device; use cpu")
    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    name = "rank sensitivity" if options.sensitivity else "rank"
    with locked_study(options.out, {"study": name, **assumptions._asdict()}):
        if options.sensitivity:
            for row in chain([COLUMNS], compute_sensitivity(options.out, assumptions, options.workers, device)):
                print("".join(f"{cell:45}" for cell in row).rstrip(), flush=True)
        else:
            points = compute_points(options.out / "points.csv", assumptions, RATIOS, options.workers, device)
            draw_rank(points, options.out / "rank")
            for layer in LAYERS:
                print(f"{layer:12} distance from the paper: {compare(points, layer)}")
    print(f"Study        {options.out}")
    return 0
