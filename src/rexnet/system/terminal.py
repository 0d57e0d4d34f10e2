"""Progress on a terminal, by tqdm; nothing where standard error is a file, a pipe or a terminal that cannot redraw."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from rexnet.system.launcher import is_rank_zero

Bar = tqdm  # of anything
MARGIN = 2  # columns left free, for what a terminal echoes of Ctrl-C


def is_interactive() -> bool:
    """Whether somebody looks who would see one line change, not a thousand lines, nor one from each process."""
    return is_rank_zero() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def progress_bar(total: int | None, unit: str, shown: bool = True, **options: Any) -> "tqdm[Any]":
    """A bar as wide as the terminal, with what is done, rate and remaining time; silent where none can be shown.

    Args:
        total: what there is to do; None: not known.
        unit: of what is counted, such as ` images`.
        shown: False silences it on a terminal, too.
        options: more of tqdm's.
    """
    form = f"{{l_bar}}{{bar:-{MARGIN}}}{{r_bar}}"
    settings = {"unit": unit, "disable": not (shown and is_interactive()), "dynamic_ncols": True, "bar_format": form}
    return tqdm(total=total, **settings | options)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def logging_above_bar(bar: "tqdm[Any]") -> Iterator[None]:
    """Lets what is logged meanwhile appear above a bar, not at its end."""
    with contextlib.nullcontext() if bar.disable else logging_redirect_tqdm():
        yield
