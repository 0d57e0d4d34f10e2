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


def is_detector(source: str | Path) -> bool:
    """Returns True for a run, checkpoint or exported weights of a detector; the commands report what cannot be read."""
    from rexnet.checkpoints.checkpoint import parse_entry, read_checkpoint
    from rexnet.config import DetectionConfig
    from rexnet.errors import RexnetError
    from rexnet.models.weights import ENTRY, read_description
    from rexnet.runs.checkpoint_files import run_of
    from rexnet.runs.run import Run
    from rexnet.runs.run_folder import is_run

    path = Path(source)
    run = path if path.is_dir() else run_of(path)
    try:
        if run is not None and is_run(run):
            return isinstance(Run(run).any_config, DetectionConfig)
        if path.suffix not in (".ckpt", ".safetensors") or not path.is_file():
            return False
        entry = read_checkpoint(path)[ENTRY] if path.suffix == ".ckpt" else read_description(path)
        return isinstance(parse_entry(entry, path).config, DetectionConfig)
    except RexnetError:
        return False


def refuse(source: str | Path, options: dict[str, object], kind: str) -> None:
    """Raises a ConfigError if one of the options is given, by name, for a source of a kind that has no such option."""
    from rexnet.errors import ConfigError

    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}: is not for a {kind}, which {source} is")


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


def _at_least(bound: int, text: str) -> int:
    number = int(text)
    if number < bound:
        raise argparse.ArgumentTypeError(f"should be {bound} or more, not {number}")
    return number
