"""The data sets by name, one file a layout: from a folder, list files or tars to an `Index`."""

from rexnet.data.datasets.by_name import load_index

__all__ = ["load_index"]
