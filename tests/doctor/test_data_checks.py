import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rexnet.config import Config, load_config
from rexnet.data.datamodule import ImageData, fill_caches
from rexnet.data.datasets.manifest import Entry
from rexnet.dataset_tools.check import check
from rexnet.doctor.data_checks import check_cache, check_classes, check_manifest
from rexnet.doctor.finding import Finding


def levels(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.subject) for finding in findings]


def test_uneven_classes_and_classes_without_validation_images_are_reported(small_config: Config) -> None:
    data = ImageData(small_config)
    assert levels(check_classes(data)) == [("ok", "data")]
    ants = np.flatnonzero(data.train_index.labels == 0)[:1]
    others = np.repeat(np.flatnonzero(data.train_index.labels > 0), 2)
    data.train_index = data.train_index.select([*ants, *others])
    data.val_index = data.val_index.select(np.flatnonzero(data.val_index.labels != 1))
    _, uneven, unseen = check_classes(data)
    assert uneven.text.startswith("ant has 1 images, bee 16; data.sampling=balanced")
    assert unseen.text.startswith("no validation image of bee;")


def manifest(root: Path, changes: dict[str, dict[str, str]]) -> Path:
    """Writes a manifest of the small images with some entries changed."""
    path = root / "list.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Entry._fields)
        for image in sorted((root / "images").glob("*/*/*.png")):
            split, label, _ = image.relative_to(root / "images").parts
            name = f"{split}/{label}/{image.name}"
            entry = Entry(split, name, 9, f"digest of {name}", 48, 40, label, "")
            writer.writerow(entry._replace(**changes.get(name, {})))
    return path


def test_images_of_both_splits_and_broken_ones_are_found_in_the_manifest(
    small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").symlink_to(image_root)
    for changes, expected in (
        ({}, [("ok", "leak")]),
        ({"val/bee/001.png": {"sha256": "digest of train/ant/003.png"}}, [("error", "leak")]),
        ({"train/cow/000.png": {"fault": "is truncated"}}, [("error", "broken"), ("ok", "leak")]),
        ({"train/cow/000.png": {"path": "train/cow/x.png"}}, [("warning", "leak")]),
    ):
        config = load_config("finetune/folder.yaml", [*small_run, f"data.manifest={manifest(tmp_path, changes)}"])
        found = list(check_manifest(ImageData(config)))
        assert levels(iter(found)) == expected
        if expected == [("error", "leak")]:
            assert found[0].text.startswith("1 images are in both splits, such as train/ant/003.png = val/bee/001.png;")


def test_a_file_that_a_csv_data_set_has_in_both_splits_is_found(
    small_run: list[str], image_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(image_root, tmp_path / "images")
    rows = [f"images/train/{name}/00{number}.png,{name},train" for name in ("ant", "bee") for number in range(4)]
    rows += ["images/val/bee/000.png,bee,val", "images/train/ant/002.png,ant,val"]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    table = ["data.dataset=csv", f"data.root={tmp_path / 'table.csv'}"]
    config = load_config("finetune/folder.yaml", [*small_run, *table])
    check(config.data, allow_leak=True)
    (finding,) = check_manifest(ImageData(config))
    assert finding.level == "error"
    assert "1 images are in both splits, such as images/train/ant/002.png = images/train/ant/002.png" in finding.text


def test_without_a_manifest_nothing_is_claimed(small_config: Config) -> None:
    (finding,) = check_manifest(ImageData(small_config))
    assert finding.text.startswith("not checked; `rexnet data check")


def test_the_space_for_a_cache_is_checked(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "data.cache=disk"])
    (finding,) = check_cache(ImageData(config))
    assert (finding.level, finding.text.startswith("needs about 184.3 kB, ")) == ("ok", True)
    fill_caches(config)
    (finding,) = check_cache(ImageData(config))
    assert (finding.level, finding.text) == ("ok", "is filled")
