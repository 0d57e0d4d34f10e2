"""`rexnet predict`."""

import argparse
import sys
from pathlib import Path

from rexnet.cli.arguments import Commands, positive


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="name the likeliest classes of images",
        description="Write one line for each image: the likeliest classes and their probabilities, or why the image "
        "could not be read. Exit code 2 if none could.",
        epilog="example: predict runs/NAME holiday/ 'more/**/*.jpg' --out holiday.csv",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a run folder, checkpoint, .safetensors, .onnx or .pt2 of rexnet export, timm/NAME or timm/NAME=FILE",
    )
    parser.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders (with all below), or patterns")
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="classes in a line (default: 5)")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv or .jsonl (default: CSV on standard output)")
    parser.add_argument("--format", choices=("csv", "jsonl"), help="whatever the name of the file says")
    parser.add_argument("--batch", type=positive, default=32, metavar="N", help="images computed at once (default: 32)")
    parser.add_argument("--workers", type=positive, metavar="N", help="decoding threads (default: one a core)")
    parser.add_argument("--weights", choices=("ema", "raw"), help="averaged (default, where there are any) or raw")
    parser.add_argument("--trust-pt2", action="store_true", help="read a .pt2, which can run code when it is read")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Predicts and writes."""
    from rexnet.prediction.predict import predict_files

    try:
        predict_files(
            options.source,
            options.inputs,
            options.top,
            options.out,
            options.format,
            options.batch,
            options.workers,
            options.weights,
            options.trust_pt2,
        )
    except KeyboardInterrupt:
        print("stopped" + (f"; {options.out} was not written" if options.out else ""), file=sys.stderr)
        return 130
    return 0
