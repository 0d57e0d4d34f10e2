import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rexnet.config.detection_schema import DetectionDataConfig
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.errors import DataError

CATEGORIES = [{"id": 7, "name": "cell"}, {"id": 3, "name": "rod"}, {"id": 90, "name": "dust"}]  # with holes


def annotation(number: int, image: int, category: int, box: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


SOUND = [
    annotation(1, 20, 7, [1, 2, 3, 4], area=9.5),
    annotation(2, 10, 3, [0, 0, 10, 8], iscrowd=0),
    annotation(3, 20, 3, [5.5, 0, 2.25, 8], iscrowd=1, area=17),
]


def make_coco(root: Path, annotations: list[dict[str, Any]] = SOUND, split: str = "train", **parts: Any) -> Path:
    """Writes images 10, 20 ... of 10 x 8 pixels, which are empty files, and their annotations."""
    names = [f"{number}.jpg" for number in (10, 20, 30)]
    (root / "images" / split).mkdir(parents=True)
    for name in names:
        (root / "images" / split / name).touch()
    records = [{"id": int(name[:-4]), "file_name": name, "width": 10, "height": 8} for name in names]
    content = {"images": records, "annotations": annotations, "categories": CATEGORIES, **parts}
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def load(root: Path, dataset: str = "coco", split: Any = "train", **keys: Any) -> BoxIndex:
    masks, names = keys.pop("with_masks", False), keys.pop("class_names", None)
    data = DetectionDataConfig(dataset=dataset, root=root, image_size=64, batch_size=2, **keys)
    return load_box_index(data, split, names, masks)


def test_objects_follow_their_images_and_labels_follow_the_numbers_of_categories(tmp_path: Path) -> None:
    index = load(make_coco(tmp_path))
    assert index.class_names == ("rod", "cell", "dust")
    assert [index.name(position) for position in range(3)] == [f"{tmp_path}/images/train/{n}.jpg" for n in (10, 20, 30)]
    assert index.image_ids.tolist() == [10, 20, 30]
    assert index.sizes.tolist() == [[8, 10]] * 3
    assert index.images.tolist() == [0, 1, 1]
    assert [index.objects_of(position) for position in range(3)] == [slice(0, 1), slice(1, 3), slice(3, 3)]
    assert index.labels.tolist() == [1, 2, 1]
    assert index.boxes.tolist() == [[0, 0, 10, 8], [1, 2, 4, 6], [5.5, 0, 7.75, 8]]
    assert index.boxes.dtype == np.float32
    assert index.crowd.tolist() == [False, False, True]
    assert index.areas.tolist() == [80, 9.5, 17]  # the first has none in the file
    assert index.object_counts().tolist() == [2, 1, 0]
    file = tmp_path / "annotations" / "instances_train.json"
    assert index.remarks == (f"{file}: 1 of 3 images have no object (30.jpg)", f"{file}: has no object of dust")


def test_chosen_images_keep_their_objects(tmp_path: Path) -> None:
    chosen = load(make_coco(tmp_path)).select(np.array([2, 1, 0, 1]))
    assert chosen.image_ids.tolist() == [30, 20, 10, 20]
    assert list(chosen.source.paths) == ["30.jpg", "20.jpg", "10.jpg", "20.jpg"]
    assert chosen.images.tolist() == [1, 1, 2, 3, 3]
    assert chosen.labels.tolist() == [2, 1, 1, 2, 1]


DEFECTS = [
    annotation(1, 20, 7, [1, 2, 3, 4]),
    annotation(2, 10, 3, [3, 3, 0, 2]),
    annotation(3, 10, 3, [30, 3, 5, 2]),
    annotation(4, 10, 3, [3, 3, -2, 2]),
    annotation(5, 10, 3, "3 3 2 2"),
    annotation(6, 10, 3, [0, 0, float("nan"), 3]),
    annotation(7, 99, 3, [0, 0, 2, 3]),
    annotation(8, 10, 4, [0, 0, 2, 3]),
    annotation(1, 10, 3, [0, 0, 2, 3]),
    annotation(9, 10, 3, [-3, 2, 5, 3]),
    annotation(10, 10, 3, [8, 2, 2.5, 3]),
]


def test_every_defect_is_counted_with_an_example(tmp_path: Path) -> None:
    root = make_coco(tmp_path, DEFECTS)
    file = root / "annotations" / "instances_train.json"
    counts = (
        "8 of 11 annotations cannot be used: 1 of an unknown image (number 7), 1 of an unknown class (10.jpg, box 0 0 "
        "2 3), 1 with the number of another (10.jpg, box 0 0 2 3), 5 without area in its image (10.jpg, box 3 3 3 5)"
    )
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value) == f"{file}: {counts}; correct them, or leave them out with data.on_bad_box=drop"
    index = load(root, on_bad_box="drop")
    assert index.defects == (f"{file}: {counts}; they are left out",)
    assert index.remarks[0] == f"{file}: clipped 1 boxes that extend beyond their image (10.jpg, box -3 2 2 5)"
    assert index.boxes.tolist() == [[0, 2, 2, 5], [8, 2, 10, 5], [1, 2, 4, 6]]


def test_missing_images_are_refused_or_left_out_with_their_objects(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    (root / "images" / "train" / "20.jpg").unlink()
    with pytest.raises(DataError, match=r"20\.jpg is listed in instances_train.json but missing; 1 of 3 images are"):
        load(root)
    index = load(root, on_missing_image="drop")
    assert index.image_ids.tolist() == [10, 30]
    assert index.labels.tolist() == [1]
    assert index.defects[0].endswith("left out 1 images without a file (20.jpg)")


def test_labels_can_follow_the_classes_of_another_split(tmp_path: Path) -> None:
    index = load(make_coco(tmp_path), class_names=("dust", "cell", "rod"))
    assert index.labels.tolist() == [3, 2, 3]
    with pytest.raises(DataError, match=r"2 of 3 annotations cannot be used: 2 of an unknown class"):
        load(tmp_path, class_names=("dust", "cell"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read: Expecting value: line 1 column 1 (char 0); it should be COCO's JSON of instances"),
        ("[1, 2]", "cannot be read: list indices must be integers or slices, not str; it should be COCO's JSON of i"),
        ('{"images": []}', "lacks 'annotations'; it should be COCO's JSON of instances"),
        ('{"images": [], "annotations": [], "categories": []}', "has 0 images, 0 annotations and 0 categories; at le"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}',
            "lacks 'height'; it should be COCO's JSON of instances",
        ),
    ],
)
def test_a_file_in_another_form_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = make_coco(tmp_path) / "annotations" / "instances_train.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_images_and_categories_must_differ(tmp_path: Path) -> None:
    for key, values, message in (
        (
            "images",
            [{"id": 1, "file_name": name, "width": 10, "height": 8} for name in "ab"],
            "images have the same name or id",
        ),
        ("categories", [{"id": number, "name": "cell"} for number in (1, 2)], "categories have the same name or id"),
    ):
        with pytest.raises(DataError, match=f"two of its {message}"):
            load(make_coco(tmp_path / key, **{key: values}))


def test_annotations_and_images_are_found_where_tools_put_them(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    with pytest.raises(DataError) as caught:
        load(root, split="val")
    assert str(caught.value) == (
        f"{root}: has neither annotations/instances_val2017.json with val2017/, nor annotations/instances_val.json "
        f"with images/val/, nor val/_annotations.coco.json; name them with data.val_annotations and data.val_images"
    )
    (root / "images" / "train").rename(root / "valid")
    (root / "annotations" / "instances_train.json").rename(root / "valid" / "_annotations.coco.json")
    assert load(root, split="val").root == root / "valid"
    (root / "valid").rename(root / "photos")
    named = {"val_annotations": "photos/_annotations.coco.json"}
    assert load(root, split="val", **named, val_images="photos").root == root / "photos"
    with pytest.raises(DataError, match=r"10\.jpg is listed in _annotations\.coco\.json but missing; 3 of 3 images"):
        load(root, split="val", **named)


def test_coco_2017_has_the_published_numbers_of_images(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has 3 images, but COCO 2017 has 118,287 in train2017; complete it, or set data"
    ):
        load(make_coco(tmp_path), "coco2017")
    with pytest.raises(
        DataError, match=r"data\.root: .*nothing is not a folder; it should contain the coco2017 data set"
    ):
        load(tmp_path / "nothing", "coco2017")


def test_masks_are_kept_as_json_and_must_be_there(tmp_path: Path) -> None:
    polygons = [[1, 1, 4, 1, 4, 3]]
    runs = {"size": [8, 10], "counts": [70, 10]}
    masked = [
        annotation(1, 10, 3, [0, 0, 2, 3], segmentation=polygons),
        annotation(2, 10, 3, [0, 0, 2, 3], segmentation=runs, iscrowd=1),
        annotation(3, 10, 3, [0, 0, 2, 3], segmentation=[]),
    ]
    index = load(make_coco(tmp_path, masked), with_masks=True, on_bad_box="drop")
    assert index.outlines is not None
    assert [json.loads(outline) for outline in index.outlines] == [polygons, runs]
    assert "1 without a mask (10.jpg, box 0 0 2 3)" in index.defects[0]
    with pytest.raises(
        DataError, match=r"json: 3 of 3 annotations cannot be used: 3 without a mask \(20\.jpg, box 1 2 4 6\)$"
    ):
        load(make_coco(tmp_path / "other"), with_masks=True, on_bad_box="drop")
    with pytest.raises(DataError, match=r"data\.dataset: voc has no masks, which mask_rcnn needs; use coco"):
        load(tmp_path, "voc", with_masks=True)
