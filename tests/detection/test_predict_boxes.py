"""What a trained detector is for: boxes in files, pictures, and a report."""

import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import shapes_arguments

from rexnet.cli import main
from rexnet.detection.coco_metrics import Detections
from rexnet.detection.detector_report import judge
from rexnet.detection.evaluate_detector import PlacedDetector, evaluate_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import ConfigError


@pytest.fixture(scope="module")
def run(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests leave it as it is."""
    runs = tmp_path_factory.mktemp("detectors")
    more = ["schedule.epochs=1", "trainer.run_name=shapes", "trainer.report=true", f"trainer.runs_dir={runs}"]
    assert main(["train", "--config", "detect/finetune", *shapes_arguments(shapes_root), *more]) == 0
    assert (runs / "shapes" / "report.html").is_file()
    return runs / "shapes"


def test_a_file_has_the_detections_of_evaluation(run: Path, shapes_root: Path) -> None:
    result = evaluate_detector(load_trained_detector(run))
    detector = PlacedDetector(load_trained_detector(run))
    pixels = cv2.cvtColor(cv2.imread(str(shapes_root / "images" / "val" / "01.png")), cv2.COLOR_BGR2RGB)
    found = detector.detect_pixels(pixels)
    assert len(found.boxes) > 10
    assert np.allclose(found.boxes, result.found[1].boxes, atol=1e-3)
    assert np.allclose(found.scores, result.found[1].scores, atol=1e-5)


def test_csv_has_a_line_for_each_box_and_each_unreadable_file(
    run: Path, shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = str(shapes_root / "images" / "val")
    assert main(["predict", str(run), images, str(tmp_path / "bad.png"), "--min-score", "0.01"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert "bad.png" in rows[-1]["error"]
    boxes = [row for row in rows if not row["error"]]
    assert {row["class"] for row in boxes} <= {"disk", "square"}
    assert all(0 <= float(row["left"]) < float(row["right"]) <= 96 for row in boxes)
    assert all(0.01 <= float(row["score"]) <= 1 for row in boxes)


def test_cocos_file_and_the_pictures(run: Path, shapes_root: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "boxes.json", tmp_path / "drawn"
    images = str(shapes_root / "images" / "val")
    assert main(["predict", str(run), images, "--out", str(out), "--draw", str(drawn), "--min-score", "0.01"]) == 0
    content = json.loads(out.read_text())
    assert [one["name"] for one in content["categories"]] == ["disk", "square"]
    assert len(content["images"]) == 6
    assert content["annotations"][0].keys() == {"image_id", "category_id", "bbox", "score", "id", "area", "iscrowd"}
    assert sorted(path.name for path in drawn.iterdir()) == [f"{n + 1:04d}-{n:02d}.png" for n in range(6)]
    lines = tmp_path / "boxes.jsonl"
    assert main(["predict", str(run), images, "--out", str(lines)]) == 0
    assert len(lines.read_text().splitlines()) == 6


def test_a_form_that_does_not_exist_is_refused(
    run: Path, shapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), str(shapes_root), "--out", "x.txt"]) == 2
    assert "should end in .csv, .jsonl or .json" in capsys.readouterr().err


def test_drawing_is_not_for_classifiers(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained_run), "x.png", "--draw", "y"]) == 2
    assert "error: --draw: is not for a classifier" in capsys.readouterr().err


def test_the_report_has_the_numbers_and_the_pictures(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(run), "--out", str(page)]) == 0
    text = page.read_text()
    for words in ("AP50", "Average precision of the classes", "Worst images", "Best images", "Precision over recall"):
        assert words in text
    assert text.count("data:image/jpeg") >= 6  # six validation images
    assert str(run.parent) not in text


def test_a_report_without_the_images_says_so(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = (copy / "config.yaml").read_text().splitlines()
    lines = [line if not line.startswith("  root: ") else "  root: /gone" for line in config]
    (copy / "config.yaml").write_text("\n".join(lines))
    for file in (copy / "checkpoints").iterdir():
        content = torch.load(file, weights_only=True)
        tree = json.loads(content["rexnet"]["config"])
        tree["data"]["root"] = "/gone"
        content["rexnet"]["config"] = json.dumps(tree)
        torch.save(content, file)
    assert main(["report", str(copy)]) == 0
    assert "The best checkpoint was not evaluated" in (copy / "report.html").read_text()


def test_f1_counts_each_true_box_once(run: Path) -> None:
    index = evaluate_detector(load_trained_detector(run)).objects
    objects = index.objects_of(0)
    boxes, labels = index.boxes[objects], index.labels[objects]
    (one,) = [boxes]
    assert len(one) == 1
    perfect = Detections(boxes, np.ones(1, np.float32), labels)
    assert judge(index, 0, perfect) == 1
    twice = Detections(np.repeat(boxes, 2, 0), np.ones(2, np.float32), np.repeat(labels, 2))
    assert judge(index, 0, twice) == pytest.approx(2 / 3)
    assert judge(index, 0, perfect._replace(labels=3 - labels)) == 0
    assert judge(index, 0, perfect._replace(scores=np.full(1, 0.4, np.float32))) == 0


def test_data_with_other_classes_is_refused(run: Path, tmp_path: Path, shapes_root: Path) -> None:
    shutil.copytree(shapes_root, tmp_path / "other")
    for split in ("train", "val"):
        path = tmp_path / "other" / "annotations" / f"instances_{split}.json"
        path.write_text(path.read_text().replace('"disk"', '"ball"'))
    with pytest.raises(ConfigError, match="its classes differ from those of"):
        evaluate_detector(load_trained_detector(run), tmp_path / "other")
