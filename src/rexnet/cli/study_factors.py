"""`rexnet study factors`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path, positive
from rexnet.cli.study_search import WEIGHT_DECAY, add_training


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    parser = studies.add_parser(
        "factors",
        help="effect of width ratios and activation (Table 2)",
        description="Train two inverted bottlenecks with the width ratios and activations of Table 2, at equal cost.",
        epilog="example: rexnet study factors --data data/cifar --dataset cifar100",
    )
    add_training(parser)
    parser.add_argument("--macs", metavar="N", type=positive, default=103_000_000, help="default: 103,000,000")
    parser.add_argument("--seeds", metavar="N", type=positive, default=3, help="trainings of each row (default: 3)")
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=Path("studies/factors"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains the missing networks and prints the table of all."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.studies.brief_training import Recipe
    from rexnet.studies.factors import study_factors
    from rexnet.system.device import resolve_device

    recipe = Recipe(options.epochs, options.batch_size, options.lr, WEIGHT_DECAY, "relu6")
    images = options.dataset, options.data, options.images
    print(study_factors(options.out, *images, recipe, options.macs, options.seeds, resolve_device(TrainerConfig())))
    print(f"\nStudy        {options.out}")
    return 0
