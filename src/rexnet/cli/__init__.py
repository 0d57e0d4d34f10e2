"""The command line: one parser, one file a command. Heavy imports wait until a command needs them."""

import argparse
import logging
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import Any

from rexnet import __version__
from rexnet.cli import (
    data_command,
    doctor_command,
    evaluate_command,
    export_command,
    models_command,
    predict_command,
    publish_command,
    report_command,
    runs_command,
    train_command,
)
from rexnet.errors import RexnetError, user_message
from rexnet.system.launcher import check_launch_environment, is_rank_zero

COMMANDS = (
    train_command,
    evaluate_command,
    predict_command,
    report_command,
    export_command,
    publish_command,
    runs_command,
    models_command,
    data_command,
    doctor_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 done, 1 training diverged, 2 the input is at fault, 130 Ctrl-C."""
    options = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        check_launch_environment()
        logging.getLogger("rexnet").setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except RexnetError as error:
        print(f"error: {user_message(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _has_lost_its_reader():
            raise
        return 0
    except OSError as error:
        if error.filename is None:  # not of a file, so not the user's to mend
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def _has_lost_its_reader() -> bool:
    """Whether who reads standard output, such as `head`, has seen enough; then nothing more goes there."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if not watch.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
    return True


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command; overrides may also stand behind options, where argparse alone does not look."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all(re.match(r"[\w.]+=", argument) for argument in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names only: `--seed 3`, meant as seed=3, would else be `--seeds 3`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.allow_abbrev = False


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="rexnet", description="Train and evaluate ReXNet image classifiers.")
    parser.add_argument("--version", action="version", version=f"rexnet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
