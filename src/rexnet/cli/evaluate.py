"""`rexnet evaluate`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, count


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained network",
        description="Measure top-1, top-5 and loss of a run's best checkpoint, or of a checkpoint file.",
    )
    parser.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT", type=Path)
    parser.add_argument("--data", metavar="ROOT", type=Path, help="another folder of the same layout and classes")
    parser.add_argument("--weights", choices=("ema", "raw"), help="averaged (default, where there are any) or raw")
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write the result (default: beside it)")
    parser.add_argument("--workers", metavar="N", type=count, help="loader processes")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures and prints."""
    from rexnet.evaluation.evaluate import evaluate

    evaluate(options.checkpoint, options.data, options.weights, options.split, options.json, options.workers)
    return 0
