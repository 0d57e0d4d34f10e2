"""`rexnet train`."""

import argparse
import logging
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet.cli.arguments import CONFIG_HELP, Commands, add_overrides, positive
from rexnet.system.launcher import is_rank_zero

if TYPE_CHECKING:
    from rexnet.config import RunConfig


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        help="train or fine-tune a network",
        description="Train or fine-tune a network with the recipe of a configuration file, or on a folder of images.",
        allow_abbrev=False,  # so that `--seed 3` is not taken for `--seeds 3`
        usage="%(prog)s [options] [IMAGES] [section.key=value ...]",
        epilog="example: rexnet train --config finetune/cub200.yaml data.root=/data/CUB_200_2011 trainer.devices=2",
    )
    parser.add_argument("--config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument(
        "--resume", metavar="RUN", type=os.path.expanduser, help="run or checkpoint; auto: the newest run"
    )
    parser.add_argument("--allow-change", metavar="KEY", action="append", default=[], help="key that may change")
    parser.add_argument("--seeds", metavar="N", type=positive, default=1, help="train N times, with seed+0 to seed+N-1")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and exit")
    add_overrides(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, or prints the configuration."""
    from rexnet.errors import ConfigError

    if options.seeds > 1 and options.resume is not None:
        raise ConfigError("--seeds: starts new runs only; resume each run separately")
    config, resume = _resolve(options)
    if options.print_config:
        return _print(config)
    if options.seeds > 1:
        from rexnet.cli.seeds import train_seeds

        if config.trainer.run_name is not None:
            raise ConfigError("--seeds: each run needs a folder of its own; leave out trainer.run_name")
        seeds = range(config.seed, config.seed + options.seeds)
        return train_seeds(seeds, config.trainer.runs_dir, config.name, sys.argv)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # before the first step there is nothing to save
    try:
        folder = _train(config, resume, options.allow_change)
        if config.trainer.report and is_rank_zero():
            report_run(folder)
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def _print(config: "RunConfig") -> int:
    """Prints the resolved configuration."""
    from rexnet.config import dump_config

    if config.model.is_of_timm:  # only these have their own preprocessing
        from rexnet.models.factory import adopt_preprocessing

        config = adopt_preprocessing(config)
    print(dump_config(config), end="")
    return 0


def _train(config: "RunConfig", resume: Path | None, allowed: list[str]) -> Path:
    """Trains a classifier or a detector, and returns the run folder."""
    from rexnet.config import Config, DetectionConfig
    from rexnet.config.load import require_kind

    if isinstance(config, DetectionConfig):
        from rexnet.detection.train_detector import train_detector

        return train_detector(config, resume=resume, allowed=allowed).run
    from rexnet.training.classification import train

    return train(require_kind(config, Config, config.name), resume=resume, allowed=allowed).run


def report_run(run: Path) -> None:
    """Writes the report; a failure is only logged, because the run itself is complete."""
    log = logging.getLogger(__name__)
    try:
        from rexnet.cli.report_command import write

        log.info(f"Report       {write(run)}")
    except Exception as error:
        log.warning(f"the report could not be written: {error}; try again with rexnet report {run}")


def _resolve(options: argparse.Namespace) -> tuple["RunConfig", Path | None]:
    """Returns the configuration to train with, and the run or checkpoint to resume."""
    from rexnet.config import RunConfig, load_config
    from rexnet.config.schema import TrainerConfig
    from rexnet.errors import ConfigError
    from rexnet.runs.resume_rules import load_run_config
    from rexnet.runs.run_folder import find_run_folders

    if options.resume is None:
        if options.config is None and options.overrides and not re.match(r"[\w.]+=", options.overrides[0]):
            return _choose(Path(os.path.expanduser(options.overrides[0])), options.overrides[1:]), None
        if options.config is None or options.allow_change:
            raise ConfigError(
                "give IMAGES or --config CONFIG for a new run, or --resume RUN with any --allow-change KEY"
            )
        return load_config(options.config, options.overrides, RunConfig), None
    resume = Path(options.resume)
    if options.resume == "auto":
        prefix = "trainer.runs_dir="
        given = [override.removeprefix(prefix) for override in options.overrides if override.startswith(prefix)]
        resume = find_run_folders(Path(os.path.expanduser(given[-1])) if given else TrainerConfig().runs_dir)[-1]
    return load_run_config(resume, options.overrides, options.allow_change, options.config), resume


def _choose(images: Path, overrides: list[str]) -> "RunConfig":
    """Returns a configuration for a folder of images, and prints how it was chosen."""
    from rexnet.config import RunConfig, load_config
    from rexnet.dataset_tools.own_images import choose_recipe

    recipe, overrides, reasons = choose_recipe(images, overrides)
    reasons["Command"] = shlex.join(("rexnet", "train", "--config", recipe, *overrides))
    if is_rank_zero():
        logging.getLogger(__name__).info("\n".join(f"{label:<13}{text}" for label, text in reasons.items()))
    return load_config(recipe, overrides, RunConfig)
