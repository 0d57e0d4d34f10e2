"""`rexnet export`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, add_moved_data, add_weights, positive

FORMATS = ("onnx", "torch", "safetensors", "official", "int8")


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        help="export a trained network for other programs, and verify the files",
        description="Export a trained network as ONNX, torch.export program, safetensors, weight file of the authors' "
        "code or int8 ONNX. The exported programs map RGB bytes to probabilities. Every file is compared with the "
        "network on real images.",
        epilog="example: rexnet export runs/NAME --to onnx torch safetensors",
    )
    parser.add_argument("run_or_checkpoint", metavar="RUN_OR_CHECKPOINT", type=Path)
    parser.add_argument(
        "--to",
        nargs="+",
        required=True,
        choices=FORMATS,
        metavar="FORMAT",
        help="onnx, torch (.pt2), safetensors (timm's names), official (the authors' names, .pth) or int8 (ONNX)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float"),
        default="uint8",
        help="uint8: RGB bytes N x H x W x 3 (default); float: normalized float32 N x 3 x H x W",
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="default: RUN/export")
    add_moved_data(parser)
    add_weights(parser)
    parser.add_argument("--images", metavar="N", type=positive, help="compare on N validation images (default: all)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exports a network."""
    from rexnet.export.export import export

    source, images = options.run_or_checkpoint, options.images
    export(source, options.to, options.input, options.output, options.data, options.weights, images)
    return 0
