import json
import shutil
from pathlib import Path

import pytest

from rexnet.cli import main


def test_check_reports_defects_of_boxes(shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(shapes_root)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"train  16 images, 31 objects, {shapes_root}/images/train\n")
    assert "     0 broken images\n" in text
    root = tmp_path / "copy"
    shutil.copytree(shapes_root, root)
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["images"][3]["width"] = 97
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    (root / "images" / "train" / "01.png").write_bytes(b"\x89PNG")
    (root / "images" / "train" / "02.png").unlink()
    shutil.copy(root / "images" / "val" / "00.png", root / "images" / "train" / "04.png")
    assert main(["data", "check", str(root), "--dataset", "coco"]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"error: {root}: defects of annotations: 2; broken images: 1; images of another size than in their "
        f"annotations: 1; images in both splits: 1\n"
    )
    assert f"{file}: 1 of 31 annotations cannot be used: 1 without area in its image (00.png, box " in captured.out
    assert f"{file}: left out 1 images without a file (02.png)" in captured.out
    assert f"{root}/images/train/04.png = {root}/images/val/00.png" in captured.out
