"""The interface between a data set layout and its users."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rexnet.data.datasets.index import Index, Split


class Layout(NamedTuple):
    """A data set layout. The module that is named like the data set defines it as `LAYOUT`."""

    index_images: Callable[..., Index]
    """Maps a root and a split, and True if images are cropped to their boxes, to an index."""
    splits: tuple[Split, ...] | Callable[[Path], tuple[Split, ...]]
    """The distinct splits, `train` first, or a function that reads them from a root."""
    marks: tuple[str, ...] = ()
    """Files that identify the data set."""
