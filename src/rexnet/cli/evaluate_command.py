"""`rexnet evaluate`."""

import argparse
from typing import Any

from rexnet.cli.arguments import Commands, as_path, as_root, count, positive, share
from rexnet.cli.detector_commands import is_detector, run_evaluate


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate trained networks",
        description="Evaluate runs (their best checkpoint), checkpoints, exports (.safetensors, .onnx) or timm's "
        "networks (timm/NAME, or timm/NAME=FILE with local weights). Several results become a table with significance "
        "tests. A soup is the mean of a run's best checkpoints.",
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="run, checkpoint, export or timm/NAME")
    parser.add_argument("--data", metavar="ROOT", type=as_root, nargs="+", default=[], help="other data sets")
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--weights", choices=("ema", "raw", "soup"), nargs="+", default=[], help="default: EMA if any")
    parser.add_argument("--image-size", metavar="N", type=positive, nargs="+", default=[], help="other input sizes")
    parser.add_argument("--tta", choices=("flip",), help="test-time augmentation: average over mirrored images")
    parser.add_argument("--calibrate", action="store_true", help="fit and store a temperature, on other images")
    text = "choose and store a threshold for at most this error, such as 1%%"
    parser.add_argument("--coverage-at-error", metavar="E", dest="max_risk", type=share, help=text)
    parser.add_argument("--ood", metavar="FOLDER", dest="unknown", type=as_path, help="images of other classes")
    text = "accuracy by size, brightness, and the columns of CSV tables"
    parser.add_argument("--slices", metavar="CSV", type=as_path, nargs="*", help=text)
    parser.add_argument("--suite", choices=("imagenet",), help="evaluate on the robustness sets in --root")
    parser.add_argument("--root", metavar="DIR", type=as_path, help="folder of the sets of --suite")
    parser.add_argument("--json", metavar="FILE", type=as_path, help="result as JSON (default: in the run folder)")
    parser.add_argument("--workers", metavar="N", type=count, help="loader processes")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluates, alone or as one of the processes that torchrun started."""
    from rexnet.evaluation.comparison import print_and_save, print_and_save_suite
    from rexnet.evaluation.evaluate import Request, evaluate
    from rexnet.evaluation.inference import View
    from rexnet.evaluation.processes import join_processes
    from rexnet.system.atomic_files import require_writable

    if options.json is not None:
        require_writable(options.json)
    detectors = [source for source in options.sources if is_detector(source)]
    if detectors:
        return run_evaluate(options, detectors)
    processes = join_processes()
    views = tuple(View(size) for size in options.image_size or (None,))
    if options.tta:
        views += tuple(view._replace(flip=True) for view in views)
    same = ("split", "workers", "calibrate", "max_risk", "unknown", "slices")
    given: dict[str, Any] = {name: getattr(options, name) for name in same}
    weights = tuple(dict.fromkeys(options.weights))
    request = Request(roots=tuple(options.data), weights=weights, views=views, processes=processes, **given)
    if options.suite:
        print_and_save_suite(options.sources, request, options.root, options.json)
        return 0
    results = evaluate(options.sources, request)
    if processes.is_first:
        print_and_save(results, options.json)
    return 0
