"""Arguments and argument types that several commands share."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
CONFIG_HELP = "YAML file, or the name of one in configs/"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the positional arguments CONFIG and section.key=value."""
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the positional arguments section.key=value."""
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that override the file")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds --weights."""
    parser.add_argument("--weights", choices=("ema", "raw"), help="default: EMA if the run has it, otherwise raw")


def add_moved_data(parser: argparse.ArgumentParser) -> None:
    """Adds --data."""
    parser.add_argument("--data", metavar="ROOT", type=as_root, help="data set (default: where the run found it)")


def as_path(text: str) -> Path:
    """Parses a path; shells expand `~` at the beginning of a word only, not in `--out=~/x`."""
    try:
        return Path(os.path.expanduser(text.encode().decode()))
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("should be UTF-8 text; rename the folder, or make a link to it") from None


def as_root(text: str) -> Path:
    """Parses the root of a data set, which may be a URL."""
    from rexnet.config.remote_path import RemotePath, parse_url

    url = parse_url(text)
    return url if isinstance(url, RemotePath) else as_path(text)


def count(text: str) -> int:
    """Parses an integer of at least 0."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Parses an integer of at least 1."""
    return _at_least(1, text)


def share(text: str) -> float:
    """Parses a share above 0 and below 1, such as `1%` or `0.01`."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"should be between 0% and 100%, such as 1% or 0.01, not {text}")
    return value


def _at_least(bound: int, text: str) -> int:
    number = int(text)
    if number < bound:
        raise argparse.ArgumentTypeError(f"should be {bound} or more, not {number}")
    return number
