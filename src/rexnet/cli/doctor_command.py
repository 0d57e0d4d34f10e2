"""`rexnet doctor`."""

import argparse
import json
from typing import TYPE_CHECKING

from rexnet.cli.arguments import Commands

if TYPE_CHECKING:
    from rexnet.config import Config


def add_parser(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="look at a run before it begins",
        description="Look, in about a minute, at everything that a run needs: data, memory, disk, the loader's speed "
        "and the network's, and whether the loss falls. Exit code 2 where there is an error.",
        epilog="example: doctor finetune/cub200.yaml data.root=/data/CUB_200_2011",
    )
    parser.add_argument("config", metavar="CONFIG", help="a file, or the name of one in configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that win over the file")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was found."""
    from rexnet.config import load_config

    return examine_and_print(load_config(options.config, options.overrides), options.json)


def examine_and_print(config: "Config", as_json: bool = False) -> int:
    """Prints each finding as it comes, and returns the exit code."""
    from rexnet.doctor.examine import examine

    found = []
    for finding in examine(config):
        found.append(finding)
        if not as_json:
            print(finding, flush=True)
    if as_json:
        print(json.dumps([finding._asdict() for finding in found], indent=2))
    return 2 if any(finding.level == "error" for finding in found) else 0
