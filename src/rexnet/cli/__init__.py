"""The command line: one parser, with one file per command. Commands import heavy libraries only when they run."""

import argparse
import errno
import importlib
import io
import logging
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import TextIO

from rexnet import __version__
from rexnet.errors import RexnetError, user_message
from rexnet.system.launcher import check_launch_environment, is_rank_zero

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "report",
    "export",
    "publish",
    "runs",
    "data",
    "doctor",
    "ray",
    "study",
    "sweep",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 success, 1 diverged or failed, 2 invalid input, 130 Ctrl-C."""
    _prepare_streams()
    options = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        check_launch_environment()
        logging.getLogger("rexnet").setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except RexnetError as error:
        return _end(f"error: {user_message(error)}", error.exit_code)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    except BrokenPipeError:
        if not _reader_has_closed():
            raise
        _discard(sys.stdout)
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rexnet"):
            raise
        return _end(f"error: a package is missing: {error}; install it with pip", 2)
    except OSError as error:
        is_of_output = error.errno in (errno.ENOSPC, errno.EIO)
        if error.filename is None and not is_of_output:  # no file of the user is involved, so this is a bug
            raise
        if error.filename is None:
            _discard(sys.stdout)
        return _end(f"error: {error.filename or 'standard output'}: {error.strerror}", 2)


def _end(message: str, code: int) -> int:
    """Prints a last message, if there is somebody to read it, and returns the exit code."""
    try:
        print(message, file=sys.stderr)
    except OSError:
        _discard(sys.stderr)
    return code


def _prepare_streams() -> None:
    """Opens closed standard streams, else files would take their place; escapes what the output's encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reader_has_closed() -> bool:
    """Returns True if the reader of standard output, such as `head`, is gone."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return bool(watch.poll(0))


def _discard(stream: TextIO) -> None:
    """Sends a standard stream nowhere; otherwise Python fails to flush it at exit, and its exit code would be 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; overrides may also follow options, which argparse alone does not support."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not (hasattr(options, "overrides") and all(re.match(r"[\w.]+=", argument) for argument in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(prog="rexnet", description="Train and evaluate ReXNet image classifiers.")
    parser.add_argument("--version", action="version", version=f"rexnet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"rexnet.cli.{name}_command").add_parser(commands)
    return parser
