"""`rexnet doctor`."""

import argparse

from rexnet.cli.arguments import Commands, add_config


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor",
        help="check a run before it starts",
        description="Check everything that a run needs in about a minute. Exit code 2 if there is an error.",
        epilog="example: rexnet doctor finetune/cub200.yaml data.root=/data/CUB_200_2011",
    )
    add_config(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints each finding when it is made."""
    from rexnet.config import load_config
    from rexnet.doctor.examine import examine

    code = 0
    for finding in examine(load_config(options.config, options.overrides)):
        print(finding, flush=True)
        if finding.level == "error":
            code = 2
    return code
