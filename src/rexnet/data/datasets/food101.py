"""Food-101 (Bossard et al., ECCV 2014): `images/CLASS/*.jpg`, listed in `meta/train.txt` and `meta/test.txt`."""

from pathlib import Path

from rexnet.data.datasets.listing import Published, check_counts, find_base, index_listed, read_lines
from rexnet.data.index import Index, Split
from rexnet.errors import DataError

PUBLISHED = Published(
    "Food-101",
    101,
    {"train": 75750, "val": 25250, "test": 25250},
    "data.download=true fetches it, from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
)


def index_food101(root: Path, split: Split) -> Index:
    """The official split; `val` and `test` are the same 25,250 images.

    Raises:
        DataError: a file is missing, malformed, or names an image or class that is not there.
    """
    base = find_base(root, ["food-101"], "meta/classes.txt", PUBLISHED)
    listed_in = base / "meta" / f"{'train' if split == 'train' else 'test'}.txt"
    class_names = _lines(base / "meta/classes.txt")
    label_of = {name: label for label, name in enumerate(class_names)}
    images = _lines(listed_in)
    unknown = next((image for image in images if image.partition("/")[0] not in label_of), None)
    if unknown is not None:
        raise DataError(f"{listed_in}: should name CLASS/NUMBER with a class of classes.txt, found {unknown!r}")
    labels = [label_of[image.partition("/")[0]] for image in images]
    paths = [f"{image}.jpg" for image in images]
    return check_counts(index_listed(base / "images", paths, labels, class_names, listed_in), split, PUBLISHED)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_lines(path, "a list of Food-101 as published") if line.strip()]
