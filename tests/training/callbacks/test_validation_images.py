from typing import Any

import numpy as np

from rexnet.training.callbacks.validation_images import add_predictions, draw_confusion


def test_a_confusion_matrix_is_dark_where_the_images_are() -> None:
    picture = draw_confusion(np.array([[9, 0], [0, 9]]), ("$x$", "y"))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    large = draw_confusion(np.eye(64, dtype=np.int64), tuple(map(str, range(64))))
    assert large.shape == picture.shape
    draw_confusion(np.eye(2, dtype=np.int64), ("名前", "y" * 200))  # a missing glyph or no room for it would warn
    assert picture[200, 200].sum() < picture[200, 500].sum()  # upper left: right answers; upper right: none


class Board:
    """Keeps what would be logged."""

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}

    def __getattr__(self, kind: str) -> Any:
        return lambda tag, *values, **_: self.logged.update({tag: values[:-1]})


def test_few_classes_get_a_scalar_and_a_curve_each_and_many_share_one() -> None:
    few, many = Board(), Board()
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    add_predictions(few, "val", 7, labels, probabilities, ("ant", "bee"))
    assert few.logged["val_class/ant"] == (50.0,)
    assert few.logged["val_class/bee"] == (100.0,)
    assert few.logged["val_pr/bee"][0].tolist() == [False, False, True]
    wide = np.pad(probabilities, ((0, 0), (0, 38)))
    add_predictions(many, "val", 7, labels, wide, tuple(map(str, range(40))))
    assert many.logged["val_pr/answers"][0].tolist() == [True, False, True]
    assert set(many.logged) == {"val/confusion", "val_pr/answers"}
