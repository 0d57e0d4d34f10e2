"""Formats tables for the terminal and shows progress there by tqdm.

There is no progress bar if stderr is a file, a pipe or a terminal that cannot redraw.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from rexnet.system.launcher import is_rank_zero

MARGIN = 2  # columns left free for the terminal's echo of Ctrl-C


def is_interactive() -> bool:
    """Returns True if stderr is a terminal that can redraw a line, and this is rank 0 and logs at level INFO."""
    is_wanted = is_rank_zero() and logging.getLogger("rexnet").isEnabledFor(logging.INFO)
    return is_wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def progress_bar(total: int | None, unit: str, shown: bool = True, **options: Any) -> "tqdm[Any]":
    """Returns a bar of tqdm, as wide as the terminal; it is silent without a terminal or if `shown` is False."""
    form = f"{{l_bar}}{{bar:-{MARGIN}}}{{r_bar}}"
    settings = {"unit": unit, "disable": not (shown and is_interactive()), "dynamic_ncols": True, "bar_format": form}
    return tqdm(total=total, **settings | options)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def logging_above_bar(bar: "tqdm[Any]") -> Iterator[None]:
    """Prints log messages above a bar instead of at its end."""
    with contextlib.nullcontext() if bar.disable else logging_redirect_tqdm():
        yield


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines of aligned columns: words to the left, numbers to the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        width = max(map(len, cells))
        is_text = cells[-1][:1].isalpha() or cells[-1] == "-"
        columns.append([cell.ljust(width) if is_text else cell.rjust(width) for cell in cells])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
