"""`rexnet study factors`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path, positive

WEIGHT_DECAY = 5e-4


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    parser = studies.add_parser(
        "factors",
        help="effect of width ratios and activation (Table 2)",
        description="Train two inverted bottlenecks with the width ratios and activations of Table 2, at equal cost.",
        epilog="example: rexnet study factors --data data/cifar --dataset cifar100",
    )
    parser.add_argument("--data", metavar="ROOT", type=as_path, required=True, help="class folders of 32-pixel images")
    parser.add_argument("--dataset", choices=("folder", "cifar10", "cifar100"), default="folder", help="layout of ROOT")
    parser.add_argument("--macs", metavar="N", type=positive, default=103_000_000, help="default: 103,000,000")
    parser.add_argument("--seeds", metavar="N", type=positive, default=3, help="trainings of each row (default: 3)")
    parser.add_argument("--images", metavar="N", type=positive, help="training images (default: all)")
    parser.add_argument("--epochs", metavar="N", type=positive, default=30)
    parser.add_argument("--batch-size", metavar="N", type=positive, default=128)
    parser.add_argument("--lr", metavar="X", type=float, default=0.1, help="peak learning rate (default: 0.1)")
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=Path("studies/factors"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains the networks that are missing, and shows all."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.studies.brief_training import Recipe
    from rexnet.studies.factors import study_factors
    from rexnet.system.device import resolve_device

    recipe = Recipe(options.epochs, options.batch_size, options.lr, WEIGHT_DECAY, "relu6")
    images = options.dataset, options.data, options.images
    print(study_factors(options.out, *images, recipe, options.macs, options.seeds, resolve_device(TrainerConfig())))
    print(f"\nStudy        {options.out}")
    return 0
