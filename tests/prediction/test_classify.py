from pathlib import Path

import numpy as np
import pytest

from rexnet.data.sources.image_files import read_file
from rexnet.prediction import classify as module
from rexnet.prediction.predict import predict_files


def test_images_are_decoded_only_a_little_ahead(
    trained_run: Path, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory does not grow with their number."""
    read: list[str] = []
    ahead: list[int] = []

    def classify(model: object, images: np.ndarray, top: int) -> list[module.Prediction]:
        ahead.append(len(read))
        return [module.Prediction(("ant",), (1.0,))] * len(images)

    def counted(path: str) -> bytes:
        read.append(path)
        return read_file(path)

    monkeypatch.setattr(module, "classify", classify)
    monkeypatch.setattr("rexnet.data.sources.decode.read_file", counted)
    predict_files(str(trained_run), [str(image_root / "train")], output=tmp_path / "x.csv", batch_size=3, workers=2)
    assert len(ahead) == 8
    for number, images in enumerate(ahead, start=1):
        assert images <= 3 * number + 6
