"""`rexnet export`."""

import argparse

from rexnet.cli.arguments import Commands, add_moved_data, add_weights, as_path, positive
from rexnet.cli.detector_commands import is_detector, run_export

FORMATS = ("onnx", "torch", "safetensors", "official", "int8")


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        help="export a trained network for other programs, and verify the files",
        description="Export a network as ONNX (float or int8) or torch.export program (.pt2), which map RGB bytes to "
        "probabilities, or as weights for timm (safetensors) or the authors' code (official). Each file is verified.",
        epilog="example: rexnet export runs/NAME --to onnx torch safetensors",
    )
    parser.add_argument("run_or_checkpoint", metavar="RUN_OR_CHECKPOINT", type=as_path)
    parser.add_argument("--to", metavar="FORMAT", nargs="+", required=True, choices=FORMATS, help=", ".join(FORMATS))
    parser.add_argument("--input", choices=("uint8", "float"), default="uint8", help="RGB bytes, or normalized NCHW")
    parser.add_argument("--output", metavar="FOLDER", type=as_path, help="default: RUN/export")
    add_moved_data(parser)
    add_weights(parser)
    parser.add_argument("--images", metavar="N", type=positive, help="compare on N validation images (default: all)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exports a network."""
    source, images = options.run_or_checkpoint, options.images
    if is_detector(source):
        return run_export(options)
    from rexnet.export.export import export

    export(source, options.to, options.input, options.output, options.data, options.weights, images)
    return 0
