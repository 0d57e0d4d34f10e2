"""`rexnet publish`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "publish",
        help="gather a run's weights, model card and report in a folder to hand on",
        description="Write a folder with model.safetensors, model.onnx, config.yaml, a model card and the report, "
        "after measuring the best checkpoint on all validation images.",
        epilog="example: publish runs/NAME --to flowers; then: hf upload USER/NAME flowers",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path)
    parser.add_argument("--to", metavar="FOLDER", type=Path, required=True, help="a new folder")
    parser.add_argument("--weights", choices=("ema", "raw"), help="averaged (default, where there are any) or raw")
    parser.add_argument("--data", metavar="ROOT", type=Path, help="where the images are, if not where they were")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Publishes."""
    from rexnet.publishing.publish import publish

    publish(options.run_folder, options.to, options.weights, options.data)
    return 0
