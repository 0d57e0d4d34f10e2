"""`rexnet train`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rexnet.cli.arguments import Commands, positive
from rexnet.system.launcher import is_rank_zero

if TYPE_CHECKING:
    from rexnet.config import Config


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train or fine-tune a network",
        description="Train or fine-tune a network as a configuration says.",
        epilog="example: train --config finetune/cub200.yaml data.root=/data/CUB_200_2011 trainer.devices=2",
    )
    parser.add_argument("--config", metavar="YAML", help="a file, or the name of one in configs/")
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with a run folder or checkpoint; auto: the newest in trainer.runs_dir"
    )
    parser.add_argument(
        "--allow-change", metavar="KEY", action="append", default=[], help="let the recipe of a resumed run differ here"
    )
    parser.add_argument(
        "--doctor", action="store_true", help="look at the run first, as `rexnet doctor`; errors end it"
    )
    parser.add_argument(
        "--seeds", metavar="N", type=positive, default=1, help="train so often, one after the other, with seed+0 to N-1"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that win over the file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, or prints the configuration."""
    from rexnet.config import dump_config

    config, resume = _resolve(options)
    if options.print_config:
        if config.model.name != "rexnet":  # which needs no timm to know its preprocessing
            from rexnet.models.factory import adopt_preprocessing

            config = adopt_preprocessing(config)
        print(dump_config(config), end="")
        return 0
    if options.doctor and is_rank_zero():  # Lightning starts the others by the same command
        from rexnet.cli.doctor_command import examine_and_print

        code = examine_and_print(config)
        if code:
            return code
    if options.seeds > 1:
        from rexnet.cli.seeds import train_seeds

        return train_seeds(config, options.seeds, sys.argv)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the first step there is nothing to save
    try:
        from rexnet.training.fit import fit

        outcome = fit(config, resume=resume, allowed=options.allow_change)
        if config.trainer.report:
            _report(Path(outcome["run"]))
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def _report(run: Path) -> None:
    """Writes the report of a run that has ended; whatever goes wrong costs only the report."""
    import logging

    if not is_rank_zero():
        return
    log = logging.getLogger(__name__)
    try:
        from rexnet.report.report import default_target, write_report

        write_report([run], target := default_target([run]))
    except Exception as error:  # the run itself is done and safe
        log.warning(f"the report was not made: {error}; try again with rexnet report {run}")
    else:
        log.info(f"Report       {target}")


def _resolve(options: argparse.Namespace) -> tuple["Config", Path | None]:
    """The configuration to train, and what to go on with."""
    from rexnet.config import load_config
    from rexnet.config.schema import TrainerConfig
    from rexnet.errors import ConfigError
    from rexnet.runs.resume_rules import find_newest_run, load_run_config

    if options.resume is None:
        if options.config is None or options.allow_change:
            raise ConfigError(
                "give either --config YAML for a new run or --resume RUN (and --allow-change KEY) to go on with one"
            )
        return load_config(options.config, options.overrides), None
    if options.seeds > 1:
        raise ConfigError("--seeds: is for new runs; go on with each of them by itself")
    resume = Path(options.resume)
    if options.resume == "auto":
        prefix = "trainer.runs_dir="
        given = [override.removeprefix(prefix) for override in options.overrides if override.startswith(prefix)]
        resume = find_newest_run(Path(given[-1]) if given else TrainerConfig().runs_dir)
    return load_run_config(resume, options.overrides, options.allow_change, options.config), resume
