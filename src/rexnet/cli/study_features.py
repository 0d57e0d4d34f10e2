"""`rexnet study features`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path, as_root


def add_parser(studies: Commands) -> None:
    """Adds the study."""
    parser = studies.add_parser(
        "features",
        help="singular values and rank of the features of trained networks",
        description="Compute the singular values of the classifier's input, and the rank of each block's output.",
        epilog="example: rexnet study features runs/A runs/B",
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="run, checkpoint or timm/NAME")
    parser.add_argument("--data", metavar="ROOT", type=as_root, help="data set (default: that of the run)")
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--out", metavar="FOLDER", type=as_path, default=Path("studies/features"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures the networks and prints the table."""
    from rexnet.studies.features import describe, measure_sources, save

    networks = measure_sources(options.sources, options.data, options.split)
    save(networks, options.out)
    print(f"{describe(networks)}\n\nStudy        {options.out}")
    return 0
