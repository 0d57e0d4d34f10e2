"""Progress on a terminal, by tqdm; nothing where standard error is a file, a pipe or a terminal that cannot redraw."""

import contextlib
import logging
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
    """Returns True if stderr is a terminal that can redraw a line, and this is rank 0 and logs informational messages.

    The command line logs them; programs that import the package get neither messages nor bars unless they ask for them.
    """
    is_wanted = is_rank_zero() and logging.getLogger("rexnet").isEnabledFor(logging.INFO)
    return is_wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


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
