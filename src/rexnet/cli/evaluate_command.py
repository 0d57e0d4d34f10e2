"""`rexnet evaluate`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, count, positive

WEIGHTS = ("ema", "raw", "soup", "greedy-soup")
TTA = ("flip", "sizes")


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate trained networks",
        description="Evaluate runs (their best checkpoint), checkpoints, exports (.safetensors, .onnx, .pt2) or "
        "networks of timm (timm/NAME, or timm/NAME=FILE with the weights of a file). One result is printed with "
        "details; several are printed as a table, with McNemar's test between results on the same images, and with "
        "mean and standard deviation of runs that differ only in their seed.",
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="run, checkpoint, export or timm/NAME")
    parser.add_argument(
        "--data",
        metavar="ROOT",
        type=Path,
        nargs="+",
        default=[],
        help="other images: a data set with the same classes, or with some of them",
    )
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        nargs="+",
        default=[],
        help="EMA (default, if there are any), raw, or the mean of a run's best checkpoints",
    )
    parser.add_argument(
        "--image-size", metavar="N", type=positive, nargs="+", default=[], help="other sizes than in training"
    )
    parser.add_argument("--tta", metavar="flip,sizes", type=_tta, default=(), help="test-time augmentation")
    parser.add_argument("--calibrate", action="store_true", help="fit a temperature on other images, and save it")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write the results (default: in the run)")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="where to write the table")
    parser.add_argument("--error-grid", action="store_true", help="write a PNG of the most wrong and least sure images")
    parser.add_argument(
        "--heatmaps", metavar="N", type=count, default=0, help="write a PNG of N images with Grad-CAM heat maps"
    )
    parser.add_argument("--workers", metavar="N", type=count, help="loader processes")
    parser.add_argument("--trust-pt2", action="store_true", help="read .pt2 files, which can execute code")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluates and prints, alone or as one of the processes of torchrun."""
    from rexnet.evaluation.evaluate import Request, evaluate
    from rexnet.evaluation.heatmaps import require_captum
    from rexnet.evaluation.inference import View
    from rexnet.evaluation.processes import join_processes
    from rexnet.evaluation.results_output import print_and_save, write_pictures
    from rexnet.system.atomic_files import require_writable

    for path in filter(None, (options.json, options.csv)):
        require_writable(path)
    if options.heatmaps:
        require_captum()
    processes = join_processes()
    views = tuple(View(size) for size in options.image_size or (None,))
    if options.tta:
        views += tuple(view._replace(**dict.fromkeys(options.tta, True)) for view in views)
    request = Request(
        options.split,
        tuple(options.data),
        tuple(dict.fromkeys(options.weights)),
        views,
        options.workers,
        options.calibrate,
        options.trust_pt2,
        processes,
    )
    results = evaluate(options.sources, request)
    if processes.is_first:
        print_and_save(results, options.json, options.csv)
        write_pictures(results, options.error_grid, options.heatmaps)
    return 0


def _tta(text: str) -> tuple[str, ...]:
    """Parses test-time augmentations, for argparse."""
    names = tuple(text.split(","))
    if not set(names) <= set(TTA):
        raise argparse.ArgumentTypeError(f"should be {', '.join(TTA)} or both with a comma between, not {text!r}")
    return names
