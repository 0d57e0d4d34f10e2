from pathlib import Path

import cv2
import numpy as np
import pytest

from rexnet.config.detection_schema import DetectionDataConfig
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.errors import DataError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SIZE = "<size><width>10</width><height>8</height><depth>3</depth></size>"


def make_voc(base: Path, **objects: list[tuple[object, ...]]) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for name, drawn in objects.items():
        text = "".join(OBJECT.format(*one) for one in drawn)
        (base / "Annotations" / f"{name}.xml").write_text(f"<annotation>{SIZE}{text}</annotation>")
        (base / "JPEGImages" / f"{name}.{'png' if name == 'a' else 'jpg'}").touch()
    (base / "ImageSets/Main/train.txt").write_text("".join(f"{name}  1\n" for name in objects))
    (base / "ImageSets/Main/test.txt").write_text("".join(f"{name}\n" for name in [*objects][-1:]))
    return base


def load(root: Path, split: str = "train", dataset: str = "voc", **keys: str) -> BoxIndex:
    data = DetectionDataConfig(dataset=dataset, root=root, image_size=64, batch_size=2, **keys)
    return load_box_index(data, "train" if split == "train" else "val")


def test_voc_counts_pixels_from_one_and_difficult_objects_are_ignored(tmp_path: Path) -> None:
    make_voc(
        tmp_path / "VOCdevkit/VOC2007",
        a=[("dog", 0, 1, 1, 10, 8), ("cat", 1, 3, 4, 3, 4)],
        b=[],
        c=[("cat", 0, 2, 2, 5, 7)],
    )
    index = load(tmp_path)
    assert index.class_names == ("cat", "dog")
    assert index.boxes.tolist() == [[0, 0, 10, 8], [2, 3, 3, 4], [1, 1, 5, 7]]
    assert index.labels.tolist() == [2, 1, 1]
    assert index.crowd.tolist() == [False, True, False]
    assert index.areas.tolist() == [80, 1, 24]
    assert index.images.tolist() == [0, 0, 2]
    assert list(index.source.paths) == ["a.png", "b.jpg", "c.jpg"]
    assert load(tmp_path, "val").class_names == ("cat",)
    assert len(load(tmp_path, train_annotations="test")) == 1


def test_voc_in_another_form_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: has no ImageSets/Main/train.txt, here or in VOC2007/ or VOC2012/; it should be in the form of "
        f"Pascal VOC"
    )
    make_voc(tmp_path, a=[("dog", 0, 1, 1, 10, 8)])
    file = tmp_path / "Annotations" / "a.xml"
    for text, message in {
        "<annotation>": "is not an annotation of Pascal VOC: no element found: line 1, column 12",
        f"<annotation>{SIZE}<object/></annotation>": "is not an annotation of Pascal VOC: it has no bndbox/xmin",
        "<annotation/>": "is not an annotation of Pascal VOC: it has no size/height",
    }.items():
        file.write_text(text)
        with pytest.raises(DataError) as caught:
            load(tmp_path)
        assert str(caught.value) == f"{file}: {message}"
    file.unlink()
    with pytest.raises(DataError, match=r"a\.xml: cannot be read: No such file or directory; train\.txt lists it"):
        load(tmp_path)


def test_birds_have_one_box_of_their_species(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((20, 30, 3), np.uint8))
    tables = {
        "images": "1 1.png\n2 2.png",
        "classes": "1 001.Auk\n2 002.Jay",
        "image_class_labels": "1 2\n2 1",
        "train_test_split": "1 1\n2 1",
        "bounding_boxes": "1 3.0 4.0 10.0 12.0\n2 25.0 0.0 10.0 20.0",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.txt").write_text(text)
    index = load(tmp_path, dataset="cub200")
    assert index.class_names == ("Auk", "Jay")
    assert index.labels.tolist() == [2, 1]
    assert index.boxes.tolist() == [[3, 4, 13, 16], [25, 0, 30, 20]]
    assert index.sizes.tolist() == [[20, 30], [20, 30]]
    assert index.remarks == (f"{tmp_path}: clipped 1 boxes that extend beyond their image (2.png, box 25 0 35 20)",)
