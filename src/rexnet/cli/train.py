"""`rexnet train`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train or fine-tune a network",
        description="Train or fine-tune a network as a configuration says.",
        epilog="example: train --config finetune/cub200.yaml data.root=/data/CUB_200_2011 trainer.devices=2",
    )
    parser.add_argument("--config", metavar="YAML", help="a file, or the name of one in configs/")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with a run folder, in that folder")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that win over the file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, or prints the configuration."""
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
