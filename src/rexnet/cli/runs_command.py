"""`rexnet runs`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "runs",
        help="list runs with state, accuracy and time",
        description="List all runs, or print the commands that resume, evaluate, export or publish one.",
    )
    parser.add_argument("folder", metavar="RUN", type=as_path, nargs="?", help="run, or folder of runs (default: runs)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table, or one run."""
    from rexnet.config.schema import TrainerConfig
    from rexnet.runs.overview import describe_run, describe_runs
    from rexnet.runs.run import Run
    from rexnet.runs.run_folder import find_run_folders, is_run

    folder: Path | None = options.folder
    if folder is not None and is_run(folder):
        print(describe_run(Run(folder)))
    else:
        folders = find_run_folders(folder or TrainerConfig().runs_dir)
        print(describe_runs([Run(folder) for folder in folders]))
    return 0
