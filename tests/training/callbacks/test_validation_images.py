import numpy as np

from rexnet.training.callbacks.validation_images import draw_confusion


def test_a_confusion_matrix_is_dark_where_the_images_are() -> None:
    picture = draw_confusion(np.array([[9, 0], [0, 9]]), ("$x$", "y"))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    large = draw_confusion(np.eye(64, dtype=np.int64), tuple(map(str, range(64))))
    assert large.shape == picture.shape
    draw_confusion(np.eye(2, dtype=np.int64), ("名前", "y" * 200))  # a missing glyph or no room for it would warn
    assert picture[200, 200].sum() < picture[200, 500].sum()  # upper left: right answers; upper right: none
