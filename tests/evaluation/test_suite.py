import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import stand_in_model

from rexnet.class_names import imagenet_synonyms
from rexnet.cli import main
from rexnet.config import Config
from rexnet.errors import ConfigError, DataError
from rexnet.evaluation.comparison import print_and_save_suite
from rexnet.evaluation.evaluate import Request
from rexnet.evaluation.suite import ALEXNET_ERRORS, evaluate_suite, restrict
from rexnet.metrics.predictions import Predictions

WNIDS = tuple(imagenet_synonyms())


@pytest.fixture
def model(small_config: Config) -> Any:
    """Answers with ten times the red value and, less surely, with the green value of the image, as class numbers."""

    def logits(images: torch.Tensor) -> torch.Tensor:
        red, green = images.float().mean((1, 2))[:, :2].round().long().T
        values = torch.zeros(len(images), 1000)
        return values.scatter(1, green[:, None], 1.0).scatter(1, 10 * red[:, None], 2.0)

    return stand_in_model(small_config, logits, WNIDS)


def image(path: Path, first: int, second: int = 255) -> None:
    """Writes an image for which the model answers `first` (a multiple of 10), and then `second`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 40, 3), (0, second, first // 10), np.uint8))


def row_of(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["set"] == name)


def test_each_set_is_measured_by_its_protocol(model: Any, tmp_path: Path) -> None:
    for number, (label, first) in enumerate([(10, 10), (10, 20), (20, 20), (30, 40)], start=1):
        image(tmp_path / "val" / WNIDS[label] / f"ILSVRC2012_val_{number:08d}.png", first)
    (tmp_path / "real.json").write_text(json.dumps([[10], [10, 20], [], [30]]))
    for label, first in ((10, 10), (100, 100), (990, 10)):  # as text, 10 < 100 < 990, but not 2 < 10
        image(tmp_path / "imagenetv2-matched-frequency-format-val" / str(label) / "a.png", first)
    image(tmp_path / "imagenetv2-matched-frequency-format-val" / "2" / "b.png", 20)
    image(tmp_path / "imagenet-a" / WNIDS[50] / "a.png", 900, 50)  # 900 is none of its classes
    image(tmp_path / "imagenet-a" / WNIDS[60] / "b.png", 50, 60)  # but 50 is one
    image(tmp_path / "sketch" / WNIDS[50] / "a.png", 900, 50)
    rows = evaluate_suite(model, tmp_path)
    assert [row["set"] for row in rows] == ["val", "ReaL", "V2", "A", "R", "Sketch", "C"]
    found = {row["set"]: (row["images"], row["top1"]) for row in rows if "top1" in row}
    assert found == {
        "val": (4, 50.0),
        "ReaL": (3, pytest.approx(200 / 3)),  # the second image shows both, and the third has no label
        "V2": (4, 50.0),
        "A": (2, 50.0),
        "Sketch": (1, 0.0),
    }
    assert row_of("val", rows)["interval"] == pytest.approx((15.0, 85.0), abs=0.01)  # Wilson's of 2 among 4
    assert row_of("A", rows)["note"] == "has 2 class folders, but 200 were published"
    assert row_of("R", rows)["note"] == "absent: imagenet-r, from github.com/hendrycks/imagenet-r"


def test_the_corruption_error_is_relative_to_that_of_alexnet(model: Any, tmp_path: Path) -> None:
    right = {"brightness": (1, 1, 1, 0, 0), "fog": (1, 0, 0, 0, 0)}
    for folder, name in (("weather/", "brightness"), ("", "fog")):
        for severity, is_right in enumerate(right[name], start=1):
            image(
                tmp_path / "ImageNet-C" / f"{folder}{name}" / str(severity) / WNIDS[10] / "a.png",
                10 if is_right else 20,
            )
    row = row_of("C", evaluate_suite(model, tmp_path))
    assert (row["images"], row["top1"]) == (10, 40.0)
    # Errors of 40 and 80 %, AlexNet's 56.4592 and 81.9324: (0.708476 + 0.976415) / 2.
    assert row["note"] == "84.2 % of AlexNet's error on 2 of 15 corruptions"
    assert len(ALEXNET_ERRORS) == 15
    assert sum(ALEXNET_ERRORS.values()) == pytest.approx(1183.4896)
    # ResNet-50 with 68.02 and 39.06 % top-1 is published as 56.64 and 71.43 % of AlexNet's error.
    published = {"brightness": 31.98, "contrast": 60.94}
    assert [round(100 * error / ALEXNET_ERRORS[name], 2) for name, error in published.items()] == [56.64, 71.42]


def test_images_of_c_are_not_cropped_again(small_config: Config, tmp_path: Path) -> None:
    """They are published as 224 pixels, which the usual transform would enlarge and crop."""
    seen = []

    def logits(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.eye(1000)[[10] * len(images)]

    model = stand_in_model(small_config, logits, WNIDS)
    size = model.preprocessing.image_size
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    for severity in "12345":
        folder = tmp_path / "ImageNet-C" / "fog" / severity / WNIDS[10]
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), pixels)
    assert row_of("C", evaluate_suite(model, tmp_path))["note"] == "0.0 % of AlexNet's error on 1 of 15 corruptions"
    assert len(seen) == 5
    assert np.array_equal(seen[0][0].numpy()[..., ::-1], pixels)


def test_only_classes_that_occur_compete() -> None:
    """In logits that were made by hand, the best class of the first image is none of them."""
    logits = np.float32([[0, 9, 3, 1], [5, 0, 0, 4], [0, 0, 1, 2]])
    found = restrict(Predictions(logits, np.array([2, 3, 3]), ("x", "y", "z"), ("a", "b", "c", "d")))
    assert found.class_names == ("c", "d")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.logits.tolist() == [[3, 1], [0, 4], [1, 2]]


def test_what_is_no_suite_is_said_in_a_sentence(model: Any, small_config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--root: .* has none of val, real\.json, imagenetv2-"):
        evaluate_suite(model, tmp_path)
    other = stand_in_model(small_config, None)
    with pytest.raises(ConfigError, match=r"--suite: stand-in has 3 classes that are not ImageNet's 1,000"):
        evaluate_suite(other, tmp_path)
    with pytest.raises(ConfigError, match="takes one SOURCE with one kind of --weights, and --root DIR instead of"):
        print_and_save_suite(["x"], Request(), None)
    image(tmp_path / "val" / WNIDS[10] / "a.png", 10)
    (tmp_path / "real.json").write_text("[[10]]")
    with pytest.raises(DataError, match=r"real\.json: should list the labels of ILSVRC2012_val_00000001 and so on"):
        evaluate_suite(model, tmp_path)


def test_the_table_has_a_line_for_each_set(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rexnet.evaluation.comparison.load_models", lambda *_: [model])
    for label in (10, 20):
        image(tmp_path / "imagenet-r" / WNIDS[label] / "a.png", 10)
    arguments = ["--suite", "imagenet", "--root", str(tmp_path), "--json", str(tmp_path / "out.json")]
    assert main(["evaluate", "x", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["set", "images", "top-1", "[95", "%]", "note"]
    assert lines[6].split()[:5] == ["R", "2", "50.00", "[9.5,", "90.5]"]
    assert lines[2].startswith("val")
    assert lines[2].endswith("absent: val, from image-net.org")
    assert json.loads((tmp_path / "out.json").read_text())[4]["top1"] == 50.0
