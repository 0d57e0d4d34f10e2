"""Checks of the images: classes, leaks between the splits, and space for the cache."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from rexnet.data.datamodule import ImageData
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.manifest import manifest_path, paths_of, read_manifest
from rexnet.data.sources.image_files import size_text
from rexnet.dataset_tools.check_report import UNEVEN_CLASSES
from rexnet.doctor.finding import Finding

NAMED = 3  # classes in a line


def check_classes(data: ImageData) -> Iterator[Finding]:
    """Counts images and classes of both splits."""
    train, val = data.train_index, data.val_index
    counts = train.class_counts()
    least, most = int(counts.argmin()), int(counts.argmax())
    text = (
        f"{len(train):,} training and {len(val):,} validation images of {len(train.class_names):,} classes, "
        f"{counts[least]:,} to {counts[most]:,} per class; {data.steps_per_epoch:,} steps per epoch"
    )
    yield Finding("ok", "data", text)
    if counts[most] > UNEVEN_CLASSES * counts[least]:
        names = f"{train.class_names[least]} has {counts[least]:,} images, {train.class_names[most]} {counts[most]:,}"
        yield Finding("warning", "classes", f"{names}; data.sampling=balanced shows all classes equally often")
    if train.class_names != val.class_names:
        text = f"{train.root} and {val.root} have different classes, so their labels do not match"
        yield Finding("error", "classes", text)
    missing = [val.class_names[number] for number in np.setdiff1d(train.labels, val.labels)[: NAMED + 1]]
    if missing:
        text = f"no validation image of {', '.join(missing[:NAMED])}{' and others' if len(missing) > NAMED else ''}"
        yield Finding("warning", "classes", f"{text}; the accuracy does not cover them")


def check_manifest(data: ImageData) -> Iterator[Finding]:
    """Looks for broken images and images in both splits in the manifest of `rexnet data check`."""
    root, path = data.config.data.root, manifest_path(data.config.data)
    if not path.is_file():
        text = f"not checked; `rexnet data check {root}` finds broken images and images in both splits"
        yield Finding("ok", "leak", text)
        return
    indexes: dict[Split, Index] = {"train": data.train_index, "val": data.val_index}
    names = {split: set(paths_of(index, root)) for split, index in indexes.items()}
    found: dict[str, dict[str, str]] = defaultdict(dict)  # by digest, a path in each split
    broken, listed = set[str](), set[str]()
    with read_manifest(path) as entries:
        for entry in entries:  # a CSV data set may list a file in both splits, and the manifest then has it twice
            for split in (split for split in indexes if entry.path in names[split]):
                listed.add(entry.path)
                if entry.fault:
                    broken.add(entry.path)
                else:
                    found[entry.sha256][split] = entry.path
    leaks = [tuple(by_split.values()) for by_split in found.values() if len(by_split) > 1]
    total = len(set.union(*names.values()))
    if len(listed) < total:
        text = f"{path} lists {len(listed):,} of {total:,} images; run `rexnet data check` again"
        yield Finding("warning", "leak", text)
    if broken:
        text = f"{len(broken):,} images are broken, such as {min(broken)}"
        yield Finding("error", "broken", f"{text}; repair them or set data.on_bad_image=skip_listed")
    if leaks:
        text = f"{len(leaks):,} images are in both splits, such as {' = '.join(leaks[0])}"
        yield Finding("error", "leak", f"{text}; remove them from one")
    elif len(listed) == total:
        yield Finding("ok", "leak", f"no file is in both splits, by the digests in {path}")


def check_cache(data: ImageData) -> Iterator[Finding]:
    """Checks that the cache of decoded images is filled or has space."""
    if data.config.data.cache is None:
        return
    needed, free = data.cache.require_space()
    text = f"needs about {size_text(needed)}, {size_text(free)} are free" if needed else "is filled"
    yield Finding("ok", "cache", text)
