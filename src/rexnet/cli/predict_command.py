"""`rexnet predict`."""

import argparse

from rexnet.cli.arguments import Commands, add_weights, as_path, positive
from rexnet.cli.detector_commands import is_detector, refuse, run_predict


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "predict",
        help="classify images, or detect objects in them",
        description="Write one line per image with its most probable classes or, for a detector, one line per box. For "
        "images that cannot be read, the line gives the reason.",
        epilog="example: rexnet predict runs/NAME holiday/ more/*.jpg --out holiday.csv",
    )
    parser.add_argument("source", metavar="SOURCE", help="run, checkpoint, export, timm/NAME or timm/NAME=FILE")
    parser.add_argument("inputs", metavar="IMAGES", nargs="+", help="files, or folders with images at any depth")
    parser.add_argument("--top", type=positive, metavar="K", help="classes per line (default: 5)")
    parser.add_argument(
        "--out",
        type=as_path,
        metavar="FILE",
        help=".csv, .jsonl or, for boxes, COCO's .json (default: CSV on standard output)",
    )
    parser.add_argument("--format", choices=("csv", "jsonl", "coco"), help="default: by the extension of FILE")
    parser.add_argument("--batch", type=positive, metavar="N", help="batch size (default: 32)")
    parser.add_argument("--workers", type=positive, metavar="N", help="decoding threads (default: one per core)")
    add_weights(parser)
    parser.add_argument("--draw", type=as_path, metavar="FOLDER", help="detector only: copies with boxes drawn")
    parser.add_argument("--min-score", type=float, metavar="P", help="detector only: smallest score (default: 0.3)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Classifies images, or detects objects, and writes the table."""
    source, top, batch = options.source, options.top or 5, options.batch or 32
    if is_detector(source):
        return run_predict(options)
    from rexnet.prediction.predict import predict_files

    given = {"--draw": options.draw, "--min-score": options.min_score, "--format coco": options.format == "coco"}
    refuse(source, given, "classifier")
    predict_files(source, options.inputs, top, options.out, options.format, batch, options.workers, options.weights)
    return 0
