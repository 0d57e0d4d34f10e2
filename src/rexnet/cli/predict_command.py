"""`rexnet predict`."""

import argparse

from rexnet.cli.arguments import Commands, add_weights, as_path, positive


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "predict",
        help="classify images",
        description="Write one line per image with its most probable classes, or the reason why it cannot be read.",
        epilog="example: rexnet predict runs/NAME holiday/ 'more/**/*.jpg' --out holiday.csv",
    )
    parser.add_argument("source", metavar="SOURCE", help="run, checkpoint, export, timm/NAME or timm/NAME=FILE")
    parser.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, folders (recursively) or glob patterns")
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="classes per line (default: 5)")
    parser.add_argument("--out", type=as_path, metavar="FILE", help=".csv or .jsonl (default: CSV on standard output)")
    parser.add_argument("--format", choices=("csv", "jsonl"), help="default: by the extension of FILE")
    parser.add_argument("--batch", type=positive, default=32, metavar="N", help="batch size (default: 32)")
    parser.add_argument("--workers", type=positive, metavar="N", help="decoding threads (default: one per core)")
    add_weights(parser)
    parser.add_argument("--trust-pt2", action="store_true", help="load .pt2 files, which may execute code")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Classifies images and writes the table."""
    from rexnet.prediction.predict import predict_files

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
    return 0
