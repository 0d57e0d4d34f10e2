"""`rexnet study search`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path, count, positive

WEIGHT_DECAY = 5e-4


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    parser = studies.add_parser(
        "search",
        help="search for channel widths under a budget (Figures 2 and 4, Table 3)",
        description="Train random networks of equal cost briefly, and compare the widths of the most and the least "
        "accurate. The same command resumes an interrupted search; more processes and machines can join it.",
        epilog="example: rexnet study search --setting a --data data/cifar --dataset cifar10 --out studies/search-a",
    )
    add_training(parser)
    parser.add_argument("--setting", choices="abcd", default="a", help="Table 3: 5, 9, 9 or 13 blocks (default: a)")
    parser.add_argument("--params", metavar="N", type=positive, help="budget of parameters (default: the setting's)")
    parser.add_argument("--macs", metavar="N", type=positive, help="budget of multiply-adds (default: the setting's)")
    parser.add_argument("--trials", metavar="N", type=positive, default=203, help="total networks (default: 203)")
    parser.add_argument("--repeats", metavar="N", type=positive, default=3, help="trainings per network (default: 3)")
    parser.add_argument("--activation", default="relu6", help="after expansions (default: relu6)")
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    parser.add_argument("--seed", metavar="N", type=count, default=0)
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=Path("studies/search"))
    parser.add_argument("--storage", metavar="URL", help="database of the trials (default: SQLite in FOLDER)")
    parser.set_defaults(run=run)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the data and of the training."""
    parser.add_argument("--data", metavar="ROOT", type=as_path, required=True, help="32-pixel images")
    words = "class folders in train/ and test/ (default), or CIFAR, which is downloaded into ROOT if missing"
    parser.add_argument("--dataset", choices=("folder", "cifar10", "cifar100"), default="folder", help=words)
    parser.add_argument("--epochs", metavar="N", type=positive, default=30)
    parser.add_argument("--images", metavar="N", type=positive, help="training images (default: all)")
    parser.add_argument("--batch-size", metavar="N", type=positive, default=128)
    parser.add_argument("--lr", metavar="X", type=float, default=0.1, help="peak learning rate (default: 0.1)")


def run(options: argparse.Namespace) -> int:
    """Starts or resumes a search."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.studies.brief_training import Recipe
    from rexnet.studies.candidates import SETTINGS, Budget
    from rexnet.studies.channel_search import SearchSettings, search_channels
    from rexnet.studies.search_report import write_search
    from rexnet.system.device import resolve_device

    setting = SETTINGS[options.setting]
    settings = SearchSettings(
        options.setting,
        Budget(options.params or setting.budget.params, options.macs or setting.budget.macs),
        options.dataset,
        options.images,
        Recipe(options.epochs, options.batch_size, options.lr, WEIGHT_DECAY, options.activation),
        options.repeats,
        options.sampler,
        options.seed,
    )
    url = options.storage or f"sqlite:///{options.out}/trials.db"
    networks = search_channels(settings, options.data, url, options.trials, resolve_device(TrainerConfig()))
    print(write_search(options.out, settings._asdict(), setting, networks))
    return 0
