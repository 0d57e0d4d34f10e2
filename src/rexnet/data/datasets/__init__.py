"""One file for each layout of a data set: from a folder, list files or tars to an `Index`.

Whatever is missing, damaged or inconsistent raises `DataError`, with a message that says where and what was expected.
"""

from rexnet.data.datasets.by_name import load_index

__all__ = ["load_index"]
