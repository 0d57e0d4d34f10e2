"""FGVC-Aircraft (Maji et al., arXiv 1306.5151): 100 variants, listed in `data/images_variant_*.txt`."""

from pathlib import Path

from rexnet.data.datasets.index import Index, Layout, Split
from rexnet.data.datasets.list_files import Published, check_counts, find_folder, index_named, read_lines

PUBLISHED = Published(
    "FGVC-Aircraft",
    100,
    {"train": 3334, "val": 3333, "test": 3333},
    "data.download=true downloads it, from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
)


def index_aircraft(root: Path, split: Split) -> Index:
    """Indexes one of the three official splits, by variant."""
    base = find_folder(root, ["data", "fgvc-aircraft-2013b/data"], "variants.txt", PUBLISHED)
    listed_in = base / f"images_variant_{split}.txt"
    class_names = read_lines(base / "variants.txt", "the list of variants")
    rows = [line.partition(" ") for line in read_lines(listed_in, "the list of a split")]
    images = [(f"{image}.jpg", variant) for image, _, variant in rows]
    return check_counts(index_named(base / "images", images, class_names, listed_in), split, PUBLISHED)


LAYOUT = Layout(
    index_aircraft,
    ("train", "val", "test"),
    ("variants.txt", "data/variants.txt", "fgvc-aircraft-2013b/data/variants.txt"),
)
