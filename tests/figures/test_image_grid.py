import numpy as np

from rexnet.figures.image_grid import layout_grid, picture_row


def test_long_and_thin_images_are_lines_in_the_grid() -> None:
    red = np.array([255, 0, 0], np.uint8)
    grid = layout_grid([picture_row("x", "", [np.full((1, 60_000, 3), red), np.full((60_000, 1, 3), red)])], "lines")
    assert int((np.asarray(grid) == red).all(axis=-1).sum()) == 2 * 128
