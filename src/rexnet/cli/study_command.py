"""`rexnet study NAME`: the paper's studies, each in a file `study_NAME.py`."""

import importlib

from rexnet.cli.arguments import Commands

STUDIES = ("rank", "features", "search", "factors")


def add_parser(commands: Commands) -> None:
    """Adds the group of studies."""
    group = commands.add_parser("study", help="repeat a study of the paper")
    studies = group.add_subparsers(required=True, metavar="STUDY")
    for name in STUDIES:
        importlib.import_module(f"rexnet.cli.study_{name}").add_parser(studies)
