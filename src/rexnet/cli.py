"""The command line: one parser, one function a command. Heavy imports wait until a command needs them."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rexnet import __version__
from rexnet.errors import RexnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 done, 1 training diverged, 2 the input is at fault."""
    options = build_parser().parse_args(arguments)
    is_first_process = os.environ.get("LOCAL_RANK", "0") == "0"
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("rexnet").setLevel(logging.INFO if is_first_process else logging.ERROR)
    try:
        code: int = options.run(options)
        return code
    except RexnetError as error:
        print(f"error: {_one_sentence(error)}", file=sys.stderr)
        return error.exit_code


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="rexnet", description="Train and evaluate ReXNet image classifiers.")
    parser.add_argument("--version", action="version", version=f"rexnet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train or fine-tune a network",
        description="Train or fine-tune a network as a configuration says.",
        epilog="example: train --config finetune/cub200.yaml data.root=/data/CUB_200_2011 trainer.devices=2",
    )
    train.add_argument("--config", metavar="YAML", help="a file, or the name of one in configs/")
    train.add_argument("--resume", metavar="RUN", type=Path, help="go on with a run folder, in that folder")
    train.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    train.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that win over the file")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a trained network",
        description="Measure top-1, top-5 and loss of a run's best checkpoint, or of a checkpoint file.",
    )
    evaluate.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT", type=Path)
    evaluate.add_argument("--data", metavar="ROOT", type=Path, help="another folder of the same layout and classes")
    evaluate.add_argument("--weights", choices=("ema", "raw"), help="averaged (default, where there are any) or raw")
    evaluate.add_argument("--split", choices=("val", "test", "train"), default="val")
    evaluate.add_argument("--json", metavar="FILE", type=Path, help="where to write the result (default: beside it)")
    evaluate.add_argument("--workers", metavar="N", type=_count, help="loader processes")
    evaluate.set_defaults(run=_evaluate)
    return parser


def _count(text: str) -> int:
    """A number of 0 or more, for argparse."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"should be 0 or more, not {number}")
    return number


def _train(options: argparse.Namespace) -> int:
    from rexnet.config import dump_config, load_config, load_run_config
    from rexnet.errors import ConfigError

    if (options.config is None) == (options.resume is None):
        raise ConfigError("give either --config YAML for a new run or --resume RUN to go on with one")
    if options.resume is not None:
        config = load_run_config(options.resume, options.overrides)
    else:
        config = load_config(options.config, options.overrides)
    if options.print_config:
        print(dump_config(config), end="")
        return 0
    from rexnet.training.fit import fit

    fit(config, resume=options.resume)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rexnet.evaluation.evaluate import evaluate

    evaluate(options.checkpoint, options.data, options.weights, options.split, options.json, options.workers)
    return 0


def _one_sentence(error: RexnetError) -> str:
    """The message alone, where a loader process wrapped it into a traceback."""
    text = str(error)
    marker = f".{type(error).__name__}: "
    return text.rpartition(marker)[2].strip() if marker in text else text
