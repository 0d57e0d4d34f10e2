"""`rexnet doctor`."""

import argparse
import json
from typing import TYPE_CHECKING

from rexnet.cli.arguments import Commands, add_config

if TYPE_CHECKING:
    from rexnet.config import Config


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor",
        help="check a run before it starts",
        description="Check everything that a run needs in about a minute. Exit code 2 if there is an error.",
        epilog="example: rexnet doctor finetune/cub200.yaml data.root=/data/CUB_200_2011",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Checks a configuration."""
    from rexnet.config import load_config

    return print_findings(load_config(options.config, options.overrides), options.json)


def print_findings(config: "Config", as_json: bool = False) -> int:
    """Prints each finding when it is made, and returns the exit code."""
    from rexnet.doctor.examine import examine

    found = []
    for finding in examine(config):
        found.append(finding)
        if not as_json:
            print(finding, flush=True)
    if as_json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    return 2 if any(finding.level == "error" for finding in found) else 0
