import csv
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rexnet.cli import main
from rexnet.config.data_schema import SourceConfig
from rexnet.data.datasets import load_index
from rexnet.data.datasets.remarks import remark_left_out
from rexnet.errors import DataError


def noise(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with 4 training and 2 validation images each, all different."""
    seed = 0
    for split, count in {"train": 4, "val": 2}.items():
        for name in ("ant", "bee"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise(seed := seed + 1)).save(tmp_path / "data" / split / name / f"{number}.png")
    return tmp_path / "data"


def run(capsys: pytest.CaptureFixture[str], root: Path, *options: str) -> tuple[int, str, str]:
    code = main(["data", "check", str(root), *options])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def rows(root: Path, name: str = "rexnet-manifest.csv") -> list[dict[str, str]]:
    with open(root / name, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_a_sound_data_set_is_listed_image_by_image(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, root)
    assert (code, err) == (0, "")
    assert "train  8 images of 2 classes" in out
    assert "val    4 images of 2 classes" in out
    assert out.startswith((root / "rexnet-manifest-report.txt").read_text())
    assert "changed since" not in out
    listed = rows(root)
    assert [row["path"] for row in listed][3:5] == ["train/ant/3.png", "train/bee/0.png"]
    assert len(listed) == 12
    first = listed[0]
    file = root / "train" / "ant" / "0.png"
    assert first == {
        "split": "train",
        "path": "train/ant/0.png",
        "size": str(file.stat().st_size),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "width": "48",
        "height": "40",
        "class_name": "ant",
        "fault": "",
    }


def break_images(root: Path) -> None:
    """Five broken training images, each in its own way."""
    folder = root / "train" / "ant"
    whole = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[:-100])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image")
    os.mkfifo(folder / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).symlink_to("nowhere")


def test_every_broken_image_is_named_and_the_exit_code_is_2(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_images(root)
    code, out, err = run(capsys, root)
    assert code == 2
    assert "broken images: 5 (repair them, or train with data.on_bad_image=skip_listed)" in err
    for part in (
        "0.png: is not an image",
        "empty.jpg: is empty",
        "text.jpg: is not an image",
        "pipe.jpg: is not a reg",
    ):
        assert part in out
    assert r"\xff.jpg: cannot be read: No such file" in out
    faults = {row["path"]: row["fault"] for row in rows(root) if row["fault"]}
    assert len(faults) == 5
    assert "is empty" in faults["train/ant/empty.jpg"]
    assert "train/ant/\udcff.jpg" in faults


def test_training_can_leave_out_what_is_listed_as_broken(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_images(root)
    run(capsys, root)
    config = SourceConfig(dataset="folder", root=root, on_bad_image="skip_listed")
    train = load_index(config, "train")
    assert [path for path in train.paths if path.startswith("ant")] == ["ant/1.png", "ant/2.png", "ant/3.png"]
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    (fault,) = remark_left_out(train)
    assert fault.startswith(f"{root}/train: left out 5 broken or outside of the class folders (ant/")
    val = load_index(config, "val")
    assert (len(val), remark_left_out(val)) == (4, [])
    assert len(load_index(config.model_copy(update={"on_bad_image": "error"}), "train")) == 12


def test_a_manifest_of_another_state_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SourceConfig(dataset="folder", root=root, on_bad_image="skip_listed")
    with pytest.raises(
        DataError, match=r"manifest\.csv: the manifest cannot be read: No such file.*`rexnet data check`"
    ):
        load_index(config, "train")
    run(capsys, root)
    Image.fromarray(noise(99)).save(root / "train" / "ant" / "new.png")
    with pytest.raises(DataError, match="knows 8 of the 9 images of the split train; create it again"):
        load_index(config, "train")
    (root / "rexnet-manifest.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="is not a manifest of `rexnet data check`"):
        load_index(config, "train")


def test_a_class_without_a_sound_image_is_not_left_out_silently(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "val" / "bee").iterdir():
        path.write_bytes(b"x")
    run(capsys, root)
    with pytest.raises(DataError, match="class bee has no valid image left"):
        load_index(SourceConfig(dataset="folder", root=root, on_bad_image="skip_listed"), "val")


def test_the_same_image_in_two_splits_is_an_error_unless_allowed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "train" / "ant" / "1.png", root / "val" / "ant" / "copy.png")
    cv2.imwrite(str(root / "val" / "bee" / "again.bmp"), noise(5)[..., ::-1])  # train/bee/0.png, stored differently
    code, out, err = run(capsys, root)
    assert code == 2
    assert "images in several splits: 2 (remove them from one, or use --allow-leak)" in err
    assert f"{root}/train/ant/1.png = {root}/val/ant/copy.png\n" in out
    assert f"{root}/train/bee/0.png = {root}/val/bee/again.bmp (different files)\n" in out
    assert run(capsys, root, "--allow-leak")[0] == 0


def test_copies_within_a_split_are_reported_and_those_of_two_classes_apart(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "train" / "ant" / "1.png", root / "train" / "ant" / "copy.png")
    shutil.copy(root / "train" / "ant" / "1.png", root / "train" / "bee" / "copy.png")
    code, out, _ = run(capsys, root)
    assert code == 0
    group = f"{root}/train/ant/1.png = {root}/train/ant/copy.png = {root}/train/bee/copy.png"
    assert f"     1 the same image twice in a split\n       {group}\n" in out
    assert f"     1 the same image in several classes\n       {group}\n" in out


def test_odd_sizes_and_uneven_classes_are_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(50, (8, 8))).save(root / "train" / "ant" / "small.png")
    Image.fromarray(noise(51, (40, 400))).save(root / "train" / "ant" / "long.png")
    for number in range(40):
        Image.fromarray(noise(100 + number)).save(root / "train" / "ant" / f"more{number}.png")
    _, out, _ = run(capsys, root)
    assert "4 (bee) to 46 (ant): the classes are uneven, 12 to 1" in out
    assert f"1 a side below 32 pixels\n       {root}/train/ant/small.png: 8 x 8" in out
    assert f"1 sides of more than 5 to 1\n       {root}/train/ant/long.png: 400 x 40" in out
    assert "width 8 to 400 (median 48), height 8 to 40 (median 40)" in out


def test_every_flipped_bit_is_found_by_the_manifest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, root)
    assert "     0 changed since the manifest was written\n" in run(capsys, root)[1]
    before = (root / "rexnet-manifest.csv").read_text()
    for number, path in enumerate(sorted((root / "train").rglob("*.png"))):
        content = bytearray(path.read_bytes())
        content[30 * number + 100] ^= 1
        path.write_bytes(content)
    code, out, err = run(capsys, root)
    assert code == 2
    assert "images with other bytes than in rexnet-manifest.csv: 8 (delete it if that is intended)" in err
    assert "8 changed since the manifest was written\n       train/ant/0.png" in out
    assert (root / "rexnet-manifest.csv").read_text() == before


def test_a_tar_is_checked_like_a_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_images(root)
    os.unlink(root / "train" / "ant" / "pipe.jpg")
    os.unlink(os.fsencode(root) + b"/train/ant/\xff.jpg")
    tar = tmp_path / "data.tar"
    with tarfile.open(tar, "w") as file:
        file.add(root, arcname=".")
    code, _, err = run(capsys, tar)
    assert code == 2
    assert "broken images: 3 " in err
    listed = rows(tmp_path, "data.tar.rexnet-manifest.csv")
    assert [row["path"] for row in listed][:2] == ["train/ant/0.png", "train/ant/1.png"]
    assert len(load_index(SourceConfig(dataset="folder", root=tar, on_bad_image="skip_listed"), "train")) == 7


def test_the_manifest_goes_where_it_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "elsewhere.csv"
    assert run(capsys, root, "--manifest", str(place))[0] == 0
    assert place.is_file()
    assert not (root / "rexnet-manifest.csv").exists()
    config = SourceConfig(dataset="folder", root=root, on_bad_image="skip_listed", manifest=place)
    assert len(load_index(config, "train")) == 8
    assert run(capsys, root, "--manifest", str(tmp_path / "new" / "folder" / "manifest.csv"))[0] == 0
    assert (tmp_path / "new" / "folder" / "manifest-report.txt").is_file()
    (tmp_path / "new" / "folder.csv").mkdir()
    code, _, err = run(capsys, root, "--manifest", str(tmp_path / "new" / "folder.csv"))
    assert code == 2
    assert "the manifest cannot be written there; choose another place with --manifest" in err


def test_what_is_no_data_set_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path)[::2] == (
        2,
        f"error: {tmp_path}: has no train/ with one folder for each class; it contains nothing\n",
    )
    _, _, err = run(capsys, tmp_path, "--dataset", "birds")
    assert "--dataset birds: should be one of folder, csv, webdataset, cub200" in err
    assert "does not exist" in run(capsys, tmp_path / "nowhere")[2]


def test_thousands_of_images_are_compared_in_no_time() -> None:
    from rexnet.data.datasets.index import build_index
    from rexnet.dataset_tools.check_report import IMAGE, Findings

    n = 30_000
    index = build_index(Path(), [f"{number}.png" for number in range(n)], np.zeros(n), ("a",))
    findings = Findings({"train": index, "val": index}, np.zeros(2 * len(index), IMAGE), {})
    pixels = findings.images["pixels"]
    pixels[:] = np.random.default_rng(0).integers(1, 1 << 60, pixels.shape)
    pixels[[5, n + 7, n + 9]] = pixels[3]
    pixels[[10, 11]] = 0  # broken
    assert findings.duplicates() == findings.leaks() == [[3, 5, n + 7, n + 9]]


def test_an_image_that_a_table_has_in_two_splits_counts_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train" / "ant" / "0.png").write_bytes(b"broken")
    lines = [f"train/{name}/{number}.png,{name},train" for name in ("ant", "bee") for number in range(3)]
    lines += [f"train/{name}/{number}.png,{name},val" for name in ("ant", "bee") for number in range(2)]
    (root / "images.csv").write_text("\n".join(["path,label,split", *lines]))
    manifest = root / "m.csv"
    run(capsys, root / "images.csv", "--dataset", "csv", "--allow-leak", "--manifest", str(manifest))
    config = SourceConfig(dataset="csv", root=root / "images.csv", on_bad_image="skip_listed", manifest=manifest)
    assert (len(load_index(config, "train")), len(load_index(config, "val"))) == (5, 3)
