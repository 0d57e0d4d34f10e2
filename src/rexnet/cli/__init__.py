"""The command line: one parser, one file a command. Heavy imports wait until a command needs them."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from rexnet import __version__
from rexnet.cli import data, evaluate, export, models, predict, publish, report, runs, train
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
    for command in (train, evaluate, predict, report, export, publish, runs, models, data):
        command.add_parser(commands)
    return parser


def _one_sentence(error: RexnetError) -> str:
    """The message alone, where a loader process wrapped it into a traceback."""
    text = str(error)
    marker = f".{type(error).__name__}: "
    return text.rpartition(marker)[2].strip() if marker in text else text
