from pathlib import Path

import numpy as np
import pytest

from rexnet.errors import DataError
from rexnet.metrics.predictions import Predictions, load_predictions, predictions_path, save_predictions

NAMES = ("Blüte/ä.jpg", "b\nc.jpg", "not utf-8 \udcff.jpg", "")


def some_predictions() -> Predictions:
    logits = np.arange(8, dtype=np.float32).reshape(4, 2) / 3
    return Predictions(logits, np.array([0, 1, 1, 0]), NAMES, ("ant", "Käfer"))


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    path = predictions_path(tmp_path, "epoch003-top1_81.20", "ema", "val")
    save_predictions(path, some_predictions())
    assert path == tmp_path / "evaluation" / "epoch003-top1_81.20-ema-val.npz"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    back = load_predictions(path)
    np.testing.assert_array_equal(back.logits, some_predictions().logits)
    assert back.logits.dtype == np.float32
    assert back.labels.tolist() == [0, 1, 1, 0]
    assert back.names == NAMES
    assert back.class_names == ("ant", "Käfer")


def test_a_part_is_taken_by_position() -> None:
    part = some_predictions().select(np.array([2, 0]))
    assert part.names == (NAMES[2], NAMES[0])
    assert part.labels.tolist() == [1, 0]
    assert part.logits[:, 0] == pytest.approx([4 / 3, 0])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"no archive"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: cannot be read as predictions"):
        load_predictions(tmp_path / "x.npz")
    with pytest.raises(DataError, match="no such file"):
        load_predictions(tmp_path / "y.npz")


def test_files_that_would_run_code_or_disagree_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, logits=np.array([print], dtype=object), labels=[0], names=[0], class_names=[0])
    with pytest.raises(DataError, match="cannot be read as predictions"):
        load_predictions(path)
    save_predictions(path, some_predictions()._replace(class_names=("ant",)))
    with pytest.raises(DataError, match=r"its logits are \(4, 2\), but it names 4 images and 1 classes"):
        load_predictions(path)
