import logging
from pathlib import Path

import numpy as np
import pytest

from rexnet.errors import CheckpointError
from rexnet.evaluation.calibration import (
    Temperature,
    fit_temperature,
    load_temperature,
    save_temperature,
    split_in_halves,
    temperature_path,
)
from rexnet.evaluation.statistics import mean_loss


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2 * temperature, (20_000, 5))
    labels = (logits / temperature + draw.gumbel(size=logits.shape)).argmax(1)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.03)
    assert mean_loss(logits, labels, fitted) <= min(mean_loss(logits, labels, fitted * f) for f in (0.99, 1.01))


def test_answers_that_are_all_right_or_all_wrong_give_the_bounds() -> None:
    logits = np.eye(4)
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == pytest.approx(20, rel=1e-3)


def test_halves_are_disjoint_whole_and_the_same_each_time() -> None:
    first, second = split_in_halves(11)
    assert sorted([*first, *second]) == list(range(11))
    assert (len(first), len(second)) == (5, 6)
    np.testing.assert_array_equal(split_in_halves(11)[0], first)


def test_a_temperature_stands_beside_its_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"weights")
    assert load_temperature(checkpoint, "ema") is None
    path = save_temperature(checkpoint, "ema", Temperature(1.25, "train, 100 images", 100))
    assert path == temperature_path(checkpoint, "ema") == tmp_path / "last-ema-temperature.json"
    assert load_temperature(checkpoint, "ema") == 1.25
    assert load_temperature(checkpoint, "raw") is None
    checkpoint.write_bytes(b"others")
    with caplog.at_level(logging.WARNING):
        assert load_temperature(checkpoint, "ema") is None
    assert "belongs to an earlier content of last.ckpt and is not used" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", '{"temperature": -1, "checkpoint_sha256": ""}', '{"temperature": NaN}'])
def test_a_damaged_temperature_is_an_error(content: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"weights")
    temperature_path(checkpoint, "raw").write_text(content)
    with pytest.raises(CheckpointError, match=r"last-raw-temperature\.json: holds no temperature"):
        load_temperature(checkpoint, "raw")
