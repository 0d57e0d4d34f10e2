"""`rexnet publish`."""

import argparse

from rexnet.cli.arguments import Commands, add_moved_data, add_weights, as_path


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "publish",
        help="write a folder with weights, model card and report to share",
        description="Write a new folder with model.safetensors, model.onnx, config.yaml, a model card and the report.",
        epilog="example: rexnet publish runs/NAME --to flowers; then: hf upload USER/NAME flowers",
    )
    parser.add_argument("run_folder", metavar="RUN", type=as_path)
    parser.add_argument("--to", metavar="FOLDER", type=as_path, required=True, help="a new folder")
    add_weights(parser)
    add_moved_data(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Publishes a run."""
    from rexnet.publishing.publish import publish

    publish(options.run_folder, options.to, options.weights, options.data)
    return 0
