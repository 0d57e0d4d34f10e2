"""Food-101 (Bossard et al., ECCV 2014): `images/CLASS/*.jpg`, listed in `meta/train.txt` and `meta/test.txt`."""

from pathlib import Path

from rexnet.data.datasets.index import Index, Layout, Split
from rexnet.data.datasets.list_files import Published, check_counts, find_folder, index_named, read_lines

PUBLISHED = Published(
    "Food-101",
    101,
    {"train": 75750, "val": 25250, "test": 25250},
    "data.download=true downloads it, from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
)


def index_food101(root: Path, split: Split) -> Index:
    """Indexes the official split; `val` and `test` are the same 25,250 images."""
    base = find_folder(root, ["food-101"], "meta/classes.txt", PUBLISHED)
    listed_in = base / "meta" / f"{'train' if split == 'train' else 'test'}.txt"
    class_names = read_lines(base / "meta/classes.txt", "the list of classes")
    names = read_lines(listed_in, "the list of a split")
    images = [(f"{name}.jpg", name.partition("/")[0]) for name in names]
    return check_counts(index_named(base / "images", images, class_names, listed_in), split, PUBLISHED)


LAYOUT = Layout(index_food101, ("train", "test"), ("meta/classes.txt", "food-101/meta/classes.txt"))
