"""What `rexnet evaluate` prints and writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rexnet.evaluation.comparison import describe_table, table_as_json, write_csv
from rexnet.evaluation.results import Result, describe, keep, write_json


def print_and_keep(result: Result, json_path: Path | None = None, csv_path: Path | None = None) -> dict[str, Any]:
    """Prints one result on its own, keeps it in its run or where the paths say, and returns what is in the JSON."""
    written = []
    try:
        print(describe(result))
    finally:  # also if nobody reads any more
        if json_path is not None:
            write_json(json_path, result.as_json())
            written.append(json_path)
        elif result.folder is not None:
            written += keep(result)
        if csv_path is not None:
            write_csv([result], csv_path)
            written.append(csv_path)
    if written:
        print(f"written to {', '.join(map(str, written))}")
    return result.as_json()


def print_and_keep_all(results: Sequence[Result], json_path: Path | None = None, csv_path: Path | None = None) -> None:
    """Prints several results as a table, and keeps the table and what each says of its images.

    The table goes into `evaluation/` of the run, if it is of one; else to the current folder.
    """
    try:
        print(describe_table(results))
    finally:  # also if nobody reads any more
        csv_path, json_path = _keep_all(results, json_path, csv_path)
    print(f"\nwritten to {csv_path} and {json_path}")


def _keep_all(results: Sequence[Result], json_path: Path | None, csv_path: Path | None) -> tuple[Path, Path]:
    """Writes the table as CSV and JSON, and what each result says of its images; gives the table's paths."""
    for result in results:
        if result.folder is not None:
            keep(result)
    folders = {result.folder or Path() for result in results}
    stem = (folders.pop() if len(folders) == 1 else Path()) / "evaluation"
    csv_path, json_path = csv_path or stem.with_suffix(".csv"), json_path or stem.with_suffix(".json")
    write_csv(results, csv_path)
    write_json(json_path, table_as_json(results))
    return csv_path, json_path


def write_pictures(results: Sequence[Result], sheet: bool, heatmaps: int) -> None:
    """Contact sheets and heat maps beside each result's numbers, or in the current folder."""
    from rexnet.evaluation.error_grid import write_error_grid  # Pillow's drawing and captum only where asked for
    from rexnet.evaluation.heatmaps import write_heatmaps

    for result in results:
        folder = result.folder or Path()
        if sheet:
            path = folder / f"{result.name}-sheet.png"
            write_error_grid(path, result)
            print(f"contact sheet {path}")
        if heatmaps:
            path = folder / f"{result.name}-heatmaps.png"
            write_heatmaps(path, result, heatmaps)
            print(f"heat maps     {path}")
