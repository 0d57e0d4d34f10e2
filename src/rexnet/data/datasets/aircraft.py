"""FGVC-Aircraft (Maji et al., arXiv 1306.5151): 100 variants, listed in `data/images_variant_*.txt`."""

from pathlib import Path

from rexnet.data.datasets.listing import Published, check_counts, find_base, index_listed, read_lines
from rexnet.data.index import Index, Split
from rexnet.errors import DataError

PUBLISHED = Published(
    "FGVC-Aircraft",
    100,
    {"train": 3334, "val": 3333, "test": 3333},
    "data.download=true fetches it, from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
)


def index_aircraft(root: Path, split: Split) -> Index:
    """One of the three official splits, by variant.

    Raises:
        DataError: a file is missing, malformed, or names an image or variant that is not there.
    """
    base = find_base(root, ["data", "fgvc-aircraft-2013b/data"], "variants.txt", PUBLISHED)
    listed_in = base / f"images_variant_{split}.txt"
    class_names = [line.strip() for line in read_lines(base / "variants.txt", "the list of variants") if line.strip()]
    label_of = {name: label for label, name in enumerate(class_names)}
    paths: list[str] = []
    labels: list[int] = []
    for line_number, line in enumerate(read_lines(listed_in, "the list of a split"), 1):
        image, _, variant = line.strip().partition(" ")
        if variant not in label_of:
            raise DataError(f"{listed_in}, line {line_number}: should be an image and a variant, found {line!r}")
        paths.append(f"{image}.jpg")
        labels.append(label_of[variant])
    return check_counts(index_listed(base / "images", paths, labels, class_names, listed_in), split, PUBLISHED)
