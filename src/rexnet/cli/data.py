"""`rexnet data ...`: what concerns the images alone."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds the group of commands to the parser."""
    parser = commands.add_parser("data", help="look at a data set", description="Look at a data set.")
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(group)


def _add_check(group: Commands) -> None:
    parser = group.add_parser(
        "check",
        help="read every image once and report what is wrong",
        description="Read and decode every image of a data set once; write a manifest of all images and a report: "
        "broken files, duplicates within and across splits, classes, sizes. Exit code 2 where there are faults.",
    )
    parser.add_argument("root", metavar="ROOT", type=Path, help="folder, tar or CSV file of the data set")
    parser.add_argument("--dataset", metavar="NAME", help="its layout, as data.dataset (default: told by its files)")
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="where to write (default: in ROOT, or beside it)")
    parser.add_argument("--allow-leak", action="store_true", help="take images that lie in several splits as they are")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from typing import get_args

    from rexnet.config.schema import DatasetName, SourceConfig
    from rexnet.data.check import check
    from rexnet.data.datasets.by_name import recognise
    from rexnet.errors import ConfigError

    if options.dataset not in (None, *get_args(DatasetName)):
        raise ConfigError(f"--dataset {options.dataset}: should be one of {', '.join(get_args(DatasetName))}")
    dataset = options.dataset or recognise(options.root)
    check(SourceConfig(dataset=dataset, root=options.root, manifest=options.manifest), options.allow_leak)
    return 0
