"""`rexnet export`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="write a trained network for other programs, and measure what was written",
        description="Write a trained network as ONNX, torch.export program, safetensors, the authors' weight file or "
        "int8 ONNX; the files take RGB bytes and give probabilities, and are compared with the network on real images.",
        epilog="example: export runs/NAME --to onnx torch safetensors",
    )
    parser.add_argument("run_or_checkpoint", metavar="RUN_OR_CHECKPOINT", type=Path)
    parser.add_argument(
        "--to",
        nargs="+",
        required=True,
        choices=("onnx", "torch", "safetensors", "official", "int8"),
        metavar="FORMAT",
        help="onnx, torch (.pt2), safetensors (timm's names), official (the authors' names, .pth) or int8 (ONNX)",
    )
    parser.add_argument(
        "--input",
        choices=("uint8", "float"),
        default="uint8",
        help="uint8: RGB bytes N x H x W x 3 (default); float: normalised float32 N x 3 x H x W",
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="where the files go (default: RUN/export)")
    parser.add_argument("--data", metavar="ROOT", type=Path, help="where the images are, if not where they were")
    parser.add_argument("--weights", choices=("ema", "raw"), help="averaged (default, where there are any) or raw")
    parser.add_argument("--images", metavar="N", type=positive, help="measure on N validation images (default: all)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exports and reports."""
    from rexnet.export.export import export

    export(
        options.run_or_checkpoint,
        options.to,
        options.input,
        options.output,
        options.data,
        options.weights,
        options.images,
    )
    return 0
