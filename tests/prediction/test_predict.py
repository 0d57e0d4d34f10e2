import csv
import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_images

import rexnet
from rexnet.checkpoints.temperature import save_threshold
from rexnet.cli import main
from rexnet.errors import CheckpointError, DataError
from rexnet.prediction import classify as module
from rexnet.prediction.predict import find_files, predict_files
from rexnet.runs.checkpoint_files import find_checkpoint


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_image_has_a_line_with_its_likeliest_classes(trained_run: Path, image_root: Path, tmp_path: Path) -> None:
    predict_files(str(trained_run), [str(image_root / "val")], output=tmp_path / "a.csv", batch_size=4)
    table = rows(tmp_path / "a.csv")
    assert len(table) == 15
    assert [row["image"] for row in table] == sorted(str(path) for path in (image_root / "val").rglob("*.png"))
    for row in table:
        values = [float(row[f"probability_{rank}"]) for rank in "123"]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert {row[f"class_{rank}"] for rank in "123"} == {"ant", "bee", "cow"}
        assert row["error"] == ""


def test_answers_below_the_threshold_are_unknown(trained_run: Path, image_root: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    images = [str(image_root / "val")]
    predict_files(str(run), images, output=tmp_path / "a.csv", top=1)
    sure = sorted(float(row["probability_1"]) for row in rows(tmp_path / "a.csv"))
    save_threshold(find_checkpoint(run), "ema", (sure[4] + sure[5]) / 2, "chosen by hand")
    predict_files(str(run), images, output=tmp_path / "b.csv", top=1)
    table = rows(tmp_path / "b.csv")
    assert list(table[0]) == ["image", "answer", "class_1", "probability_1", "error"]
    assert sum(row["answer"] == "unknown" for row in table) == 5
    assert all(row["answer"] in ("unknown", row["class_1"]) for row in table)
    predict_files(str(run), images, output=tmp_path / "c.jsonl", top=1)
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == [row["answer"] for row in table]
    assert [one.answer for one in rexnet.load(run).predict(image_root / "val" / "ant" / "000.png")] == [
        table[0]["answer"]
    ]


def test_a_folder_is_walked_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "c/__MACOSX/x.png", "c/.git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(path, tmp_path) for path in find_files([str(tmp_path), f"{tmp_path}/b/1.png"])]
    assert found == ["a.png", "b/1.png", "b/2.png", "b/1.png"]


def test_broken_images_stand_in_the_table_and_on_the_screen_and_stop_nothing(
    trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "images"
    write_images(folder, 2, hue=0)
    (folder / "000.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((20, 20, 3), np.uint8))[1].tobytes()[:-40])
    (folder / "notes.txt").write_text("no image, and nobody said so")
    (folder / ".hidden.png").write_text("not looked at")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 99)
    os.mkfifo(folder / "pipe.png")
    os.symlink(folder, folder / "circle")
    code = main(["predict", str(trained_run), str(folder), "--out", str(tmp_path / "x.csv"), "--top", "9"])
    said = caplog.text
    assert code == 0
    table = {Path(row["image"]).name: row["error"] for row in rows(tmp_path / "x.csv")}
    assert list(table) == ["000.jpg", "000.png", "001.png", "bad.png", "pipe.png"]
    assert (table["000.png"], table["001.png"]) == ("", "")
    for name, fault in {
        "000.jpg": "truncated or damaged JPEG",
        "bad.png": "is not an image",
        "pipe.png": "regular",
    }.items():
        assert fault in table[name]
        assert table[name] in said
    assert "2 images, 3 that could not be read; written to" in said


def test_names_in_any_encoding_come_out_as_valid_text(trained_run: Path, image_root: Path, tmp_path: Path) -> None:
    source = image_root / "val" / "ant" / "000.png"
    names = [b"gr\xc3\xbcn.png", b'two\nlines,"q".png', b"odd\xff.png"]
    for name in names:
        shutil.copy(os.fsencode(source), os.path.join(os.fsencode(tmp_path), name))
    for suffix in ("csv", "jsonl"):
        predict_files(str(trained_run), [str(tmp_path)], top=1, output=tmp_path / f"out.{suffix}")
    found = [os.path.basename(row["image"]) for row in rows(tmp_path / "out.csv")]
    assert found == ["grün.png", "odd\\xff.png", 'two\nlines,"q".png']
    objects = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [os.path.basename(entry["image"]) for entry in objects] == found
    assert objects[0]["classes"][0]["class"] in ("ant", "bee", "cow")
    assert "error" not in objects[0]


def test_standard_output_gets_the_table_alone(
    trained_run: Path, image_root: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    image = str(image_root / "val" / "ant" / "000.png")
    assert main(["predict", str(trained_run), image, "--format", "jsonl", "--top", "2"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["image"] == image
    assert len(json.loads(printed.out)["classes"]) == 2
    assert "not calibrated" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "error: nowhere.png: no such file or folder"),
        (["empty"], "error: empty: is a folder without images"),
        (["bad"], "error: none of 1 files could be read as an image"),
        (["good", "--out", "x.xlsx"], "error: x.xlsx: should end in .csv or .jsonl, or --format should name"),
        (["good", "--out", "empty"], "error: empty: is a folder; give the name of a file"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str],
    message: str,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "good", 1, hue=0)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("no image")
    assert main(["predict", str(trained_run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_table_is_not_written(
    trained_run: Path, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "classify", interrupted)
    target = tmp_path / "x.csv"
    target.write_text("before")
    assert main(["predict", str(trained_run), str(image_root / "val"), "--out", str(target)]) == 130
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "name", ["x.ckpt", "x.onnx", "x.pt2", "x.safetensors", "x.pth", "timm/test_efficientnet=x.pth"]
)
def test_a_model_file_of_a_stranger_runs_no_code(
    name: str, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name.rpartition("=")[2]).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(CheckpointError):
        predict_files(name, [str(image_root / "val")], output=tmp_path / "out.csv")
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out.csv").exists()


def test_an_image_of_a_stranger_is_only_an_image(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(DataError, match="none of 1 files"):
        predict_files(str(trained_run), [str(tmp_path / "x.png")], output=tmp_path / "out.csv")
    assert not (tmp_path / "canary").exists()
