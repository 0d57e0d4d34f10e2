"""Reads a whole data set with boxes once and reports its problems: `rexnet data check`."""

import numpy as np

from rexnet.config.detection_schema import DetectionDataConfig
from rexnet.data.datasets.index import Split, label_source
from rexnet.dataset_tools.check import examine_all
from rexnet.dataset_tools.check_report import list_items
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.box_sets import load_box_index
from rexnet.errors import DataError


def check_boxes(data: DetectionDataConfig, allow_leak: bool = False) -> None:
    """Decodes every image of both splits on all cores, and prints a report; with `allow_leak` splits may share images.

    Raises:
        DataError: the data set has faults or cannot be loaded.
    """
    lenient = data.model_copy(update={"on_bad_box": "drop", "on_missing_image": "drop"})
    train = load_box_index(lenient, "train")
    indexes: dict[Split, BoxIndex] = {"train": train, "val": load_box_index(lenient, "val", train.class_names)}
    findings = examine_all(
        {split: label_source(index.source, np.zeros(len(index), int), ["image"]) for split, index in indexes.items()}
    )
    for split, index in indexes.items():
        counts = zip(index.class_names, index.object_counts().tolist(), strict=True)
        print(f"{split:<6} {len(index):,} images, {len(index.boxes):,} objects, {index.root}")
        print("      ", ", ".join(f"{count:,} {name}" for name, count in counts))
        print(*(f"       {sentence}\n" for sentence in index.remarks), sep="", end="")
    sizes, shapes = np.concatenate([index.sizes for index in indexes.values()]), findings.images["shape"]
    differing = np.flatnonzero((shapes != sizes).any(1) & shapes.any(1)).tolist()
    leaks = [] if allow_leak else findings.leaks()
    problems = {
        "defects of annotations": [text for index in indexes.values() for text in index.defects],
        "broken images": list(findings.faults.values()),
        "images of another size than in their annotations": list(map(findings.name, differing)),
        "images in both splits": [" = ".join(map(findings.name, group)) for group in leaks],
    }
    print("\n".join(list_items(title, items) for title, items in problems.items()))
    if found := [f"{title}: {len(items):,}" for title, items in problems.items() if items]:
        raise DataError(f"{data.root}: {'; '.join(found)}")
