import logging

import numpy as np
import pytest

from rexnet.config import Config
from rexnet.training.callbacks import tensorboard_extras, validation_images
from rexnet.training.callbacks.validation_images import draw_confusion
from rexnet.training.classification import train


def test_a_confusion_matrix_is_dark_where_the_images_are() -> None:
    picture = draw_confusion(np.array([[9, 0], [0, 9]]), ("$x$", "y"))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    large = draw_confusion(np.eye(64, dtype=np.int64), tuple(map(str, range(64))))
    assert large.shape == picture.shape
    draw_confusion(np.eye(2, dtype=np.int64), ("名前", "y" * 200))  # a missing glyph or no room for it would warn
    assert picture[200, 200].sum() < picture[200, 500].sum()  # upper left: right answers; upper right: none


def test_a_picture_that_cannot_be_drawn_costs_no_epoch(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise TypeError("bad argument type for built-in operation. More")

    monkeypatch.setattr(validation_images, "draw_confusion", fail)
    for name in ("make_image_grid", "hparams"):
        monkeypatch.setattr(tensorboard_extras, name, fail)
    settings = small_config.trainer.model_copy(update={"pictures_every_epochs": 2})
    with caplog.at_level(logging.WARNING):
        result = train(small_config.model_copy(update={"trainer": settings}))
    assert result.step == 6
    for name in ("train/augmented", "val_ema/confusion", "HParams"):
        assert f"TensorBoard gets no {name}: TypeError: bad argument type for built-in operation" in caplog.text
