"""`rexnet report`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path
from rexnet.cli.detector_commands import is_detector


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="write an HTML report of one run or a comparison of several",
        description="Write one self-contained HTML file about a run, or a comparison of several. A run without stored "
        "predictions is evaluated first.",
        epilog="example: rexnet report runs/quickstart-20261121-120236",
    )
    parser.add_argument("runs", metavar="RUN", type=as_path, nargs="+")
    parser.add_argument(
        "--out", metavar="FILE", type=as_path, help="default: in the run, or next to the first of several"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the report."""
    print(f"Report       {write(options.runs, options.out)}")
    return 0


def write(runs: list[Path], out: Path | None) -> Path:
    """Writes the report of runs of either task and returns its path."""
    from rexnet.report.report import default_target, write_report
    from rexnet.system.atomic_files import require_writable

    require_writable(target := out or default_target(runs))
    if is_detector(runs[0]):
        from rexnet.detection.detector_report import write_detector_report

        write_detector_report(runs, target)
    else:
        write_report(runs, target)
    return target
