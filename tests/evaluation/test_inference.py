import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import stand_in_model
from torch import Tensor

from rexnet.config import Config
from rexnet.data.datasets.eval_images import find_images
from rexnet.evaluation.inference import View, average_probabilities, run_inference
from rexnet.evaluation.inference_model import InferenceModel


def left_half(images: Tensor) -> Tensor:
    """Logits that tell the left half of an image from its mirror image, and depend on its size."""
    half = images[:, :, : images.shape[2] // 2].float().mean((1, 2)) / 64
    return half + images.shape[1] / 32


@pytest.fixture
def model(small_config: Config) -> InferenceModel:
    return stand_in_model(small_config, left_half)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_the_mean_over_an_image_and_its_mirror_image_is_that_by_hand(model: InferenceModel, image_root: Path) -> None:
    index = find_images(None, "val", image_root)
    seen: list[Tensor] = []
    watching = replace(model, logits=lambda x: seen.append(x) or left_half(x))
    plain = run_inference(watching, index)
    flipped = run_inference(model, index, View(flip=True))
    images = torch.cat(seen).numpy()
    by_hand = (
        softmax(left_half(torch.from_numpy(images)).numpy())
        + softmax(left_half(torch.from_numpy(images[:, :, ::-1].copy())).numpy())
    ) / 2
    assert images.shape == (15, 32, 32, 3)
    assert softmax(flipped.predictions.logits) == pytest.approx(by_hand, abs=1e-6)
    assert np.abs(plain.predictions.logits - flipped.predictions.logits).max() > 0.01
    assert flipped.predictions.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_a_larger_image_reaches_the_network(model: InferenceModel, image_root: Path) -> None:
    index = find_images(None, "val", image_root)
    sizes: list[int] = []
    watching = replace(model, logits=lambda x: sizes.append(x.shape[2]) or left_half(x))
    run_inference(watching, index, View(image_size=48))
    assert set(sizes) == {48}
    assert View(48, flip=True).describe(model.preprocessing) == "48 px, flip"


def test_a_terminal_shows_how_many_images_are_done_and_other_outputs_nothing(
    model: InferenceModel, image_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = find_images(None, "val", image_root)
    run_inference(model, index, title="2 of 3")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logging.getLogger("rexnet").setLevel("INFO")  # as the command line does
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # else a thread outlives the test
    run_inference(model, index, title="2 of 3")
    shown = capsys.readouterr().err.split("\r")
    assert shown[1].startswith("2 of 3:   0%|")
    assert "| 0/15 [00:00<?, ? images/s]" in shown[1]
    assert shown[-1] == ""  # taken away at the end


def test_a_mean_of_probabilities_stays_finite() -> None:
    certain = torch.tensor([[1000.0, 0.0]])
    mean = average_probabilities([certain, certain])
    assert mean.softmax(1)[0].tolist() == pytest.approx([1.0, 0.0])
    assert torch.isfinite(mean).all()
    half = average_probabilities([certain, -certain])
    assert half.softmax(1).tolist() == [[0.5, 0.5]]
