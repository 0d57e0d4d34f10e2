"""Prints and saves the results of `rexnet evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from rexnet.evaluation.comparison import compare, describe_table, summarize_series, write_csv
from rexnet.evaluation.results import Result, write_json


def print_and_save(results: Sequence[Result], json_path: Path | None = None, csv_path: Path | None = None) -> None:
    """Prints and saves one result with its details, or several as a table.

    A result is saved in its run; a single one is saved in `json_path` instead if that is given. The table is saved in
    `evaluation/` of its run, or in the current folder if it is of several runs.
    """
    is_table = len(results) > 1
    try:
        print(f"{describe_table(results)}\n" if is_table else results[0].describe())
    finally:  # also if the reader of standard output is gone
        saved = [path for result in results if result.folder and (is_table or not json_path) for path in result.save()]
        content = results[0].as_json()
        if is_table:
            folders = {result.folder or Path() for result in results}
            stem = (folders.pop() if len(folders) == 1 else Path()) / "evaluation"
            csv_path, json_path = csv_path or stem.with_suffix(".csv"), json_path or stem.with_suffix(".json")
            content = {"results": [result.as_json() for result in results]}
            content |= {"comparisons": compare(results), "seeds": summarize_series(results)}
            saved = []
        if csv_path is not None:
            write_csv(results, csv_path)
            saved.append(csv_path)
        if json_path is not None:
            write_json(json_path, content)
            saved.append(json_path)
    if saved:
        print(f"written to {', '.join(map(str, saved))}")


def write_error_grids(results: Sequence[Result]) -> None:
    """Writes an error grid to the folder of each result, or to the current folder."""
    from rexnet.evaluation.error_grid import write_error_grid

    for result in results:
        path = (result.folder or Path()) / f"{result.file_name}-errors.png"
        write_error_grid(path, result)
        print(f"error grid  {path}")
