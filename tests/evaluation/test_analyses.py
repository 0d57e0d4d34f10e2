from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import stand_in_model, write_images

from rexnet.cli import main
from rexnet.config import Config
from rexnet.data.datasets.index import Index, build_index
from rexnet.errors import DataError
from rexnet.evaluation.analyses import compare_with_unknown, group_by, slice_images
from rexnet.evaluation.inference import PLAIN
from rexnet.evaluation.processes import ALONE
from rexnet.metrics.predictions import Predictions


def test_values_are_slices_and_many_numbers_are_quartiles() -> None:
    words = {value: mask.tolist() for value, mask in group_by(np.array(["b", "", "b"])).items()}
    assert words == {"(empty)": [False, True, False], "b": [True, False, True]}
    assert list(group_by(np.array(["2", "1.0", "2"]))) == ["1", "2"]
    ranges = {value: int(mask.sum()) for value, mask in group_by(np.arange(20.0)).items()}
    assert ranges == {"0 to 4": 5, "5 to 9": 5, "10 to 14": 5, "15 to 19": 5}  # quartiles 4.75, 9.5 and 14.25


@pytest.fixture
def graded(tmp_path: Path) -> tuple[Predictions, Index]:
    """40 gray images: 20 dark ones of 30 x 60 pixels, all right, and 20 bright ones of 50 x 50, half of them right."""
    (tmp_path / "images").mkdir()
    names = [f"{number:02}.png" for number in range(40)]
    for number, name in enumerate(names):
        shape, value = ((30, 60, 3), 10) if number < 20 else ((50, 50, 3), 200)
        cv2.imwrite(str(tmp_path / "images" / name), np.full(shape, value, np.uint8))
    answers = np.array([0] * 30 + [1] * 10)
    logits = np.eye(2, dtype=np.float32)[answers]
    index = build_index(tmp_path / "images", names, [0] * 40, ("a", "b"))
    return Predictions(logits, np.zeros(40, np.int64), tuple(names), ("a", "b")), index


def test_slices_are_ordered_by_what_is_surely_bad(graded: tuple[Predictions, Index], tmp_path: Path) -> None:
    table = "".join(f"images/{number:02}.png;x;{'left' if number >= 34 else 'right'}\n" for number in range(38))
    (tmp_path / "more.csv").write_text(f"path;label;Camera\n{table}")
    analysis = slice_images(*graded, [tmp_path / "more.csv"])
    rows = [(row["column"], row["value"], row["n"], row["top1"]) for row in analysis.content]
    bright = [("short side", "50", 20, 50.0), ("brightness", "200", 20, 50.0)]
    dark = [("short side", "30", 20, 100.0), ("brightness", "10", 20, 100.0)]
    assert rows == [*bright, ("camera", "right", 34, 100 * 30 / 34), *dark]  # left and "" have 4 and 2 images
    assert analysis.content[0]["interval"] == pytest.approx((29.93, 70.07), abs=0.01)  # Wilson's of 10 among 20
    assert analysis.lines[1] == "  short side 50: 50.0 % [29.9, 70.1] of 20 images"


def test_a_table_of_other_images_is_refused(graded: tuple[Predictions, Index], tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("path,camera\nelsewhere/00.png,left\n")
    with pytest.raises(DataError, match=r"more\.csv: lists none of the images of .*images, such as 00\.png, in column"):
        slice_images(*graded, [tmp_path / "more.csv"])


def test_images_of_no_class_are_told_from_known_ones(small_config: Config, tmp_path: Path) -> None:
    write_images(tmp_path / "deep" / "er", 3, hue=0)

    def logits(images: torch.Tensor) -> torch.Tensor:
        """Logits 2, 0, 0 and then 1, 0, 0."""
        return torch.tensor([[2.0], [1], [1]])[: len(images)] * torch.tensor([[1.0, 0, 0]])

    known = Predictions(np.float32([[3, 0, 0], [1.5, 0, 0]]), np.array([0, 0]), ("x", "y"), ("ant", "bee", "cow"))
    model: Any = replace(stand_in_model(small_config, logits), threshold=0.6)
    analysis = compare_with_unknown(model, known, tmp_path, PLAIN, ALONE)
    # Of 6 pairs, only 1.5 < 2 is in the wrong order; 95 % of the known reach 1.5, as does one of three others.
    assert analysis.content == {
        "folder": tmp_path.name,
        "images": 3,
        "auroc": pytest.approx(500 / 6),
        "fpr95": pytest.approx(100 / 3),
    }
    # Of e^2 / (e^2 + 2) = 0.79 and e / (e + 2) = 0.58, the threshold of 0.6 accepts one of three.
    assert analysis.lines[0].endswith("AUROC 83.3 %, FPR95 33.3 %; 33.3 % of them are answered, the others unknown")
    with pytest.raises(DataError, match=r"--ood: .*nowhere should be a folder with images, at any depth"):
        compare_with_unknown(model, known, tmp_path / "nowhere", PLAIN, ALONE)


@pytest.mark.parametrize("error", ["0", "1", "100%", "x"])
def test_an_error_that_is_no_share_is_refused(error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "runs/x", "--coverage-at-error", error])
    assert "--coverage-at-error" in capsys.readouterr().err
