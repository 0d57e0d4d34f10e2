"""`rexnet report`."""

import argparse
from pathlib import Path

from rexnet.cli.arguments import Commands, as_path
from rexnet.cli.detector_commands import is_detector


def add_parser(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "report",
        help="write an HTML report of a run",
        description="Write one self-contained HTML file about a run. A run without stored predictions is evaluated "
        "first.",
        epilog="example: rexnet report runs/quickstart-20261121-120236",
    )
    parser.add_argument("folder", metavar="RUN", type=as_path)
    parser.add_argument("--out", metavar="FILE", type=as_path, help="default: report.html in the run folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the report."""
    print(f"Report       {write(options.folder, options.out)}")
    return 0


def write(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a run of either task and returns its path."""
    from rexnet.report.report import write_report
    from rexnet.system.atomic_files import require_writable

    require_writable(target := out or run / "report.html")
    if is_detector(run):
        from rexnet.detection.detector_report import write_detector_report

        write_detector_report(run, target)
    else:
        write_report(run, target)
    return target
